"""The exploring page: measure a picture, watch priors invert it side by side, and move z1."""
