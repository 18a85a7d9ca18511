"""Compare priors: ``python eval.py --method ilo``; ``--help`` lists all options."""

from rtil.cli.common import launch

if __name__ == "__main__":
    launch("rtil.cli.eval")
