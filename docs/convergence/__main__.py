"""``python -m docs.convergence``: see :mod:`docs.convergence.measure`."""

from rtil.launch import launch

if __name__ == "__main__":
    launch("docs.convergence.measure")
