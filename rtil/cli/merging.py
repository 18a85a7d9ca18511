"""The shards of an evaluation, opened and joined; the options are in :mod:`rtil.cli.merge`."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rtil.cli.comparison import open_evaluation, resumed
from rtil.cli.eval import EvalOptions
from rtil.cli.merge import MergeOptions
from rtil.errors import UserError
from rtil.evaluation.folder import SOLVERS, check_same, read_evaluation, whole
from rtil.evaluation.merging import Joined
from rtil.evaluation.runner import PICTURES
from rtil.evaluation.shards import row_files
from rtil.files import atomic_path
from rtil.runs import check_resume, write_settings


class Merging:
    """Folders of one evaluation, opened: every mistake but missing rows shows here."""

    def __init__(self, options: MergeOptions) -> None:
        first, *others = self.folders = options.folders
        self.out, self.incomplete = options.out or first, options.incomplete
        self.in_place = self.out.resolve() == first.resolve()
        if not self.in_place:
            check_resume(self.out, resume=False)
        self.settings = read_evaluation(first)
        for other in others:
            settings = read_evaluation(other)
            check_same(first, self.settings, settings, str(other))
        self.evaluation = open_evaluation(_options(first, self.settings), self.settings)
        self.evaluation.check_identity(self.settings, first)
        foreign = [job.hash for job in self.evaluation.jobs if job.hash not in self.settings.get(SOLVERS, {})]
        if foreign:
            raise UserError(
                f"{len(foreign)} of {len(self.evaluation.jobs)} jobs of {first} are not those of its settings: restore "
                "the options there, or files that they name"
            )

    def plan(self) -> Iterator[str]:
        """Say what would be done."""
        files = [path for folder in self.folders for path in row_files(folder)]
        yield from (f"join {path}" for path in files)
        yield f"into {self.out}"

    def run(self) -> None:
        """Join."""
        if self.in_place:
            with whole(self.out, resume=True):
                self.evaluation.write_joined(self.out, self._joined())
            return
        joined = self._joined()
        with whole(self.out, resume=False):
            write_settings(self.out, self.settings)
            for folder in self.folders:
                _copy_pictures(folder, self.out)
            self.evaluation.write_joined(self.out, joined)

    def _joined(self) -> Joined:
        return self.evaluation.join(self.folders, self.settings, self.incomplete)


def _options(folder: Path, settings: Mapping[str, Any]) -> EvalOptions:
    """Return the options of an evaluation, for a CPU; methods compute in the type in which the shards' last did."""
    options = resumed(EvalOptions(out=folder, resume=True, device="cpu"))
    records = [record for record in settings.get(SOLVERS, {}).values() if "precision" in record]
    precision = records[-1]["precision"] if records else "auto"
    for method, own in options.settings.items():
        if own.precision == "auto":
            options.settings[method] = own.changed(precision=precision)
    return options


def _copy_pictures(source: Path, out: Path) -> None:
    """Copy results that ``out`` has not."""
    for path in sorted((source / PICTURES).glob("*/*.png")):
        to = out / path.relative_to(source)
        if not path.name.startswith(".") and not to.exists():
            with atomic_path(to) as temporary:
                shutil.copyfile(path, temporary)
