"""``python -m rtil.weights lpips``: fetch the ImageNet backbones that LPIPS needs, once."""

import sys
from collections.abc import Sequence

from rtil.cli.common import run_subcommand

COMMANDS = {"lpips": "rtil.cli.fetch"}
"""{name: module with ``main(argv)``}."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; returns its exit code."""
    return run_subcommand(COMMANDS, argv, "python -m rtil.weights")


if __name__ == "__main__":
    sys.exit(main())
