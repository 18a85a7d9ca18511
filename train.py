"""Train a prior: ``python train.py --arch stylegan2 --rtil``; ``--help`` lists all options."""

from rtil.launch import launch

if __name__ == "__main__":
    launch("rtil.cli.train")
