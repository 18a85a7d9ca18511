"""The pages of a study: one self-contained report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rtil.study.results import Result
from rtil.study.specification import Study


def write_pages(study: Study, results: Mapping[str, Result], statements: Sequence[str], out: Path) -> None:
    """Write the report of a study.

    Args:
        study: The study.
        results: Of its evaluations.
        statements: What it found, in sentences.
        out: Its folder, with figures and tables.
    """
