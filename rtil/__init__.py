"""GAN priors trained for the inversion they will face (RTIL), and the tools to measure what that buys."""

__version__ = "0.3.0"
