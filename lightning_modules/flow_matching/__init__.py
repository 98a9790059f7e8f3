"""Flow matching: a network learns the velocity of noise that becomes images."""
