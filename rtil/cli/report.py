"""``rtil report``: one HTML file of one or more evaluations, to look at and to send.

    $ rtil report runs/eval/mine --out mine.html

It fetches nothing, so it can be read anywhere: words made of the numbers, tables, charts, and the pictures that the
evaluation kept. An evaluation that is under way is shown as far as it is.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtil.cli.common import Prepared, run_command
from rtil.errors import UserError


@dataclass
class ReportOptions:
    """Write one HTML file of one or more evaluations.

    Args:
        folders: Their folders, in the order in which they are shown.
        out: HTML file; null is report.html in the (one) folder.
        title: Its title; null is the name of the folder.
    """

    folders: list[Path]
    out: Path | None = None
    title: str | None = None

    def __post_init__(self) -> None:
        if not self.folders or len({folder.resolve() for folder in self.folders}) != len(self.folders):
            raise UserError("folders is empty or names one twice: give each folder once")
        if len(self.folders) > 1 and self.out is None:
            raise UserError("several folders need --out: give the name of an .html file")
        if self.out is not None and self.out.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"out is {self.out}: valid is the name of an .html file")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    logging.basicConfig(format="%(message)s")
    return run_command(open_report, ReportOptions, argv, "rtil report")


def open_report(options: ReportOptions) -> Prepared:
    """Check that the folders hold evaluations, and that the file can be written."""
    from rtil.cli.again import command_of
    from rtil.cli.outputs import check_out_file
    from rtil.evaluation.folder import read_evaluation
    from rtil.report import Part, write_report

    folders = options.folders
    out = options.out or folders[0] / "report.html"
    check_out_file(out)
    found = [read_evaluation(folder) for folder in folders]
    commands = [command_of(settings, folder) for folder, settings in zip(folders, found, strict=True)]
    title = options.title or ", ".join(folder.resolve().name for folder in folders)

    def write() -> None:
        parts = [Part(_subject(settings), folder) for folder, settings in zip(folders, found, strict=True)]
        again = f"rtil report {' '.join(map(str, folders))} --out {out}"
        write_report(out, title, parts, commands=[*commands, again])
        print(f"report: {out} ({out.stat().st_size / 1e6:.1f} MB)")

    return Prepared([f"report {folder}" for folder in folders] + [f"into {out}"], write)


def _subject(settings: Mapping[str, Any]) -> str:
    """Return what an evaluation is about, from its settings."""
    options, count = settings["options"], len(settings.get("pictures", ()))
    methods, tasks = (", ".join(map(str, options.get(name) or ())) for name in ("variants", "task"))
    methods = methods or ", ".join(map(str, options.get("method") or ()))
    return f"{methods or 'methods'} on {tasks or 'tasks'}" + (f", {count} pictures" if count else "")


if __name__ == "__main__":
    sys.exit(main())
