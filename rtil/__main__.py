"""``python -m rtil reconstruct|render|sample``: use a trained prior."""

import sys

from rtil.cli.common import run_subcommand

COMMANDS = {"reconstruct": "rtil.cli.reconstruct", "render": "rtil.cli.render", "sample": "rtil.cli.sample"}

if __name__ == "__main__":
    sys.exit(run_subcommand(COMMANDS, None, "python -m rtil"))
