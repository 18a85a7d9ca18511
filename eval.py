"""Compare priors: ``python eval.py --method ilo``; ``--help`` lists all options."""

from rtil.launch import launch

if __name__ == "__main__":
    launch("rtil.cli.eval")
