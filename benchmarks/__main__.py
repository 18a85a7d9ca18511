"""``python -m benchmarks NAME``: run one benchmark; ``--help`` behind its name lists the options."""

from collections.abc import Sequence

from benchmarks import PROG
from rtil.cli.common import run_subcommand
from rtil.launch import launch

BENCHMARKS = {
    "inversion": "benchmarks.inversion",
    "loader": "benchmarks.loader",
    "memory": "benchmarks.memory",
    "mixtures": "benchmarks.mixtures",
    "multicode": "benchmarks.multicode",
    "ops": "benchmarks.ops",
    "ranks": "benchmarks.ranks",
    "report": "benchmarks.report",
    "soak": "benchmarks.soak",
    "training": "benchmarks.training",
}
"""{name: module with ``main(argv)``}."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark that the first argument names; returns its exit code."""
    return run_subcommand(BENCHMARKS, argv, PROG)


if __name__ == "__main__":
    launch("benchmarks.__main__")
