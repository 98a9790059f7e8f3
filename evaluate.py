"""Judges samples of any generator: `python evaluate.py --samples DIR --train DIR --heldout DIR`."""

from novum.cli.evaluate import main

if __name__ == "__main__":
    main()
