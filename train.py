"""Train, validate, test and sample: `python train.py fit --config configs/dcgan_digits.yaml`."""

from novum.cli.train import main

if __name__ == "__main__":
    main()
