"""``python -m rtil reconstruct|render|sample``: use a trained prior."""

from collections.abc import Sequence

from rtil.cli.common import launch, run_subcommand

COMMANDS = {"reconstruct": "rtil.cli.reconstruct", "render": "rtil.cli.render", "sample": "rtil.cli.sample"}
"""{name: module with ``main(argv)``}."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; returns its exit code."""
    return run_subcommand(COMMANDS, argv, "python -m rtil")


if __name__ == "__main__":
    launch("rtil.__main__")
