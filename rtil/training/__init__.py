"""Training of GAN priors with PyTorch Lightning."""
