"""``python -m rtil reconstruct|render|sample|quality|convert``: use a trained prior."""

from collections.abc import Sequence

from rtil.cli.common import launch, run_subcommand

COMMANDS = {name: f"rtil.cli.{name}" for name in ("reconstruct", "render", "sample", "quality", "convert")}
"""{name: module with ``main(argv)``}."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; returns its exit code."""
    return run_subcommand(COMMANDS, argv, "python -m rtil")


if __name__ == "__main__":
    launch("rtil.__main__")
