"""Writes text with a trained model: `python generate.py --checkpoint PATH --prime "def "`."""

from novum.cli.generate import main

if __name__ == "__main__":
    main()
