"""StyleGAN, its augmentation, its styles."""
