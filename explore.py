"""Explores the style space of a StyleGAN: `python explore.py mix --checkpoint best.ckpt`."""

from novum.cli.explore import main

if __name__ == "__main__":
    main()
