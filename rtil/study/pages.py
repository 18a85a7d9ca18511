"""The page of a study: one self-contained report of all its evaluations and figures."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from rtil.report import Figure, Part, write_report
from rtil.study.results import Result
from rtil.study.specification import FigureSpec, Study

PAGE = "report.html"
SHOWS = {
    "levels_curve": "a metric against the level of each task, with intervals",
    "rounds": "PSNR after each round, with intervals",
    "ablation_bars": "a metric by variant, with intervals",
    "error_vs_seconds": "a metric against the seconds that a picture takes",
    "tuning_trace": "the best trial so far",
}


def write_page(
    study: Study,
    results: Mapping[str, Result],
    statements: Sequence[str],
    drawn: Mapping[str, Sequence[Path]],
    out: Path,
) -> Path:
    """Write the report of a study, and return its file.

    Args:
        study: The study.
        results: Of its evaluations.
        statements: What it found, in sentences.
        drawn: Files of its figures: SVG, PNG, CSV, by name.
        out: Its folder.

    Raises:
        RunError: It cannot be written.
    """
    figures: dict[str, list[Figure]] = {name: [] for name in results}
    for name, (svg, _, csv) in drawn.items():
        spec = study.figures[name]
        figures[_place(spec, results)].append(_figure(spec, name, svg, csv))
    parts = [
        Part(f"{name}, {folder.name}" if folder.name != name else name, folder, figures[name] if not i else ())
        for name, result in results.items()
        for i, folder in enumerate(result.folders)
    ]
    return write_report(
        out / PAGE, study.title or study.name, parts, statements, [f"{study.command()} --out {shlex.quote(str(out))}"]
    )


def _place(spec: FigureSpec, results: Mapping[str, Result]) -> str:
    """Return the evaluation beside which a figure stands: the first that it shows."""
    return next((name for name in spec.evaluations if name in results), next(iter(results)))


def _figure(spec: FigureSpec, name: str, svg: Path, csv: Path) -> Figure:
    title = spec.title or name
    return Figure(title, f"{title}: {SHOWS[spec.kind]}", svg, csv, f"{SHOWS[spec.kind].capitalize()}.")
