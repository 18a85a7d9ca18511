"""An evaluation: checkpoints, an experiment and the list of jobs, which is all that running and reporting look at."""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtil.errors import RunError, UserError
from rtil.evaluation.batches import Batches
from rtil.evaluation.candidates import Candidate
from rtil.evaluation.coverage_chart import write_coverage
from rtil.evaluation.curves import write_curves
from rtil.evaluation.folder import IDENTITY, MACHINES, OPTIONS, PICTURES, SOLVERS
from rtil.evaluation.jobs import Experiment, Job
from rtil.evaluation.merging import Joined, join, tell
from rtil.evaluation.notes import TRAINED_OTHERWISE
from rtil.evaluation.report import markdown, terminal, write_csv
from rtil.evaluation.rows import ROWS, Row, mend, read_rows, row_to_line
from rtil.evaluation.runner import Runner
from rtil.evaluation.shards import Shard, parts, row_files
from rtil.evaluation.summary import summarise
from rtil.files import write_text
from rtil.machine import gpus, processor, versions
from rtil.snapshot import Snapshot

FORMAT = 2
"""Of settings.json: which hashes its rows have."""
FOREIGN = "rows.foreign"
"""What merging left out."""
NAMED = 3
"""Rows that are named of each kind."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Everything that an evaluation depends on, checked.

    Attributes:
        experiment: What is measured.
        jobs: What is done.
        checkpoints: Snapshots by name, of one resolution and any architectures.
        candidates: Methods with their settings.
        seed: Root seed.
        subject: What is evaluated, for the name of a folder.
    """

    experiment: Experiment
    jobs: Sequence[Job]
    checkpoints: Mapping[str, Snapshot]
    candidates: Sequence[Candidate]
    seed: int
    subject: str

    def plan(self) -> Iterator[str]:
        """Yield lines that say what would be done."""
        for name, snapshot in self.checkpoints.items():
            yield f"checkpoint {name}: {snapshot.path}"
        yield from self.experiment.plan()
        yield from (job.describe() for job in self.jobs)
        if any(job.trained_otherwise for job in self.jobs):
            yield TRAINED_OTHERWISE

    def description(self) -> str:
        """Return the second half of a run folder's name."""
        methods = "+".join(dict.fromkeys(candidate.method for candidate in self.candidates))
        return re.sub(r"[^A-Za-z0-9._+-]+", "-", f"{methods}-{self.subject}")

    def identity(self) -> dict[str, Any]:
        """Return what must not change when an evaluation is resumed, as JSON values."""
        weights = {name: snapshot.weight_hash for name, snapshot in self.checkpoints.items()}
        return self.experiment.identity() | {"weights": weights}

    def check_identity(self, before: Mapping[str, Any], folder: Path | None) -> None:
        """Refuse to add rows of other pictures or weights to a run.

        Args:
            before: The settings of a run that is resumed, else empty.
            folder: Where it lies.

        Raises:
            UserError: The run in the folder used others under the same name.
        """
        earlier, now = before.get(IDENTITY, {}), self.identity()
        for name, value in now.get("pictures", {}).items():
            if earlier.get("pictures", {}).get(name, value) != value:
                raise UserError(
                    f"{folder} used pictures of {name} {earlier['pictures'][name]}, not {value}: give another --out"
                )
        for name, digest in now["weights"].items():
            if earlier.get("weights", {}).get(name, digest) != digest:
                raise UserError(
                    f"checkpoint '{name}' of {folder} had other weights: name it otherwise, or another --out"
                )

    def check_pictures(self, folder: Path) -> None:
        """Refuse to go on with a run of which a picture is not any more what it was, under the same name.

        Args:
            folder: The run folder.

        Raises:
            UserError: A row is of another picture.
        """
        content = {key: self.content[i] for job in self.jobs for i, key in enumerate(job.keys) if self.content[i]}
        rows = [row for path in row_files(folder) for row in read_rows(path).rows if row.key in content]
        other = sorted({row.image for row in rows if row.picture not in ("", content[row.key])})
        if other:
            more = f" and {len(other) - 1} more" if other[1:] else ""
            raise UserError(
                f"{folder} has rows of other pictures under the same name ({other[0]!r}{more}): put those back, or "
                "give another --out"
            )
        if any(not row.picture for row in rows):
            log.warning("%s: rows of an older version do not tell of which pictures they are", folder)

    @property
    def content(self) -> list[str]:
        """What tells each picture from another one of its name; "" where that is not known."""
        experiment, count = self.experiment, len(self.experiment.ids)
        return ["" if index in experiment.gone else experiment.content(index) for index in range(count)]

    def settings(self, options: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
        """Return what settings.json holds: options, machines, checkpoints (named, also if found), and what stays.

        Args:
            options: As JSON values.
            before: The settings of a run that is resumed, else empty: its weights and solvers stay recorded.
        """
        paths = {name: str(snapshot.path) for name, snapshot in self.checkpoints.items()}
        checkpoints = {
            name: {"path": paths[name], "weight_hash": snapshot.weight_hash, "info": snapshot.info}
            for name, snapshot in self.checkpoints.items()
        }
        identity = self.identity()
        identity["weights"] = before.get(IDENTITY, {}).get("weights", {}) | identity["weights"]
        solvers = before.get(SOLVERS, {}) | {job.hash: dict(job.record) for job in self.jobs}
        pictures = [*self.experiment.ids, *before.get(PICTURES, [])[len(self.experiment.ids) :]]
        here = {"processor": processor(), "gpus": gpus(), "versions": versions()}
        machines = [machine for machine in before.get(MACHINES, []) if machine != here] + [here]
        own = {"format": FORMAT, OPTIONS: dict(options) | {"checkpoints": paths}, MACHINES: machines}
        return own | {"checkpoints": checkpoints, SOLVERS: solvers, IDENTITY: identity, PICTURES: pictures}

    def run(self, folder: Path, batch: int | None, shard: Shard | None = None) -> None:
        """Compute what is missing in a folder, and write tables, curves and grids; of a shard only its share of rows.

        Args:
            folder: The run folder.
            batch: Pictures at a time; None chooses by their size.
            shard: Which share; None for all.
        """
        print(f"{len(self.experiment.ids)} pictures of {self.subject} into {folder}")
        for name, snapshot in self.checkpoints.items():
            print(f"checkpoint {name}: {snapshot.path} ({snapshot.training})", flush=True)
        runner = self._runner(folder, batch, shard)
        if shard is None:
            self._finish(runner, runner.run())
            return
        own, total = (sum(len(indices) for _, indices in some) for some in (runner.parts, runner.all_parts))
        batches = f"{len(runner.parts)} of {len(runner.all_parts)} batches"
        print(f"shard {shard}: {batches}, {own} of {total} rows", flush=True)
        runner.run()
        print(f"shard {shard} is done; when all are: rtil merge {folder}")

    def join(self, sources: Sequence[Path], settings: Mapping[str, Any], incomplete: bool) -> Joined:
        """Join the rows of all shards, and tell what is wrong with them.

        Args:
            sources: The folders that hold them.
            settings: Of the evaluation.
            incomplete: Do so although rows are missing.

        Raises:
            RunError: Rows are missing.
        """
        files = [path for source in sources for path in row_files(source)]
        joined = join(files, self.jobs, settings, self.content)
        print(f"{len(joined.rows)} rows of {len(files)} files")
        device = next(iter(self.checkpoints.values())).generator.device
        size = Batches(settings[OPTIONS].get("batch"), self.experiment.resolution, device).size
        for line in tell(joined, parts(self.jobs, len(self.experiment.ids), size), files):
            print(line)
        if joined.missing and not incomplete:
            raise RunError(
                f"{len(joined.missing)} rows are missing: run the shards that lack them once more, or add --incomplete"
            )
        return joined

    def write_joined(self, folder: Path, joined: Joined) -> None:
        """Write joined rows in place of those of the shards, and what is made of them.

        Args:
            folder: The run folder, into which pictures have been copied.
            joined: From :meth:`join`.
        """
        if joined.foreign:
            others = [*read_rows(folder / FOREIGN).rows, *joined.foreign]
            write_text(folder / FOREIGN, "".join(dict.fromkeys(map(row_to_line, others))))
        write_text(folder / ROWS, "".join(map(row_to_line, joined.rows)))
        for path in row_files(folder):
            if path.name != ROWS:
                mend(path, read_rows(path))
                path.unlink()  # what it held is in those two, and damaged lines aside
        runner = self._runner(folder)
        runner.write_originals()
        self._finish(runner, joined.rows)

    def _runner(self, folder: Path, batch: int | None = None, shard: Shard | None = None) -> Runner:
        return Runner(self.experiment, self.jobs, self.checkpoints, folder, self.seed, batch, shard)

    def _finish(self, runner: Runner, rows: Sequence[Row]) -> None:
        """Write what is made of rows."""
        folder, summary = runner.folder, summarise(rows)
        write_csv(summary, folder / "summary.csv")
        write_text(folder / "summary.md", markdown(summary) + "\n")
        pictures = [*write_curves(summary, folder), *write_coverage(summary, folder), *runner.write_grids()]
        print(f"\n{terminal(summary)}\n\nsummary: {folder / 'summary.csv'}")
        for path in pictures:
            print(f"pictures: {path}")
        for line in _not_finite(rows):
            log.warning("%s", line)


def _not_finite(rows: Sequence[Row]) -> Iterator[str]:
    """Yield lines that name the rows whose numbers are not finite."""
    flawed = [row for row in rows if row.not_finite]
    for row in flawed[:NAMED]:
        where = f"{row.task} {row.level}, {row.method} {row.checkpoint}"
        yield f"not finite: {', '.join(row.not_finite)} of {row.image!r} ({where}, {row.status})"
    if len(flawed) > NAMED:
        most = ", ".join(f"{count} of {method}" for method, count in Counter(row.method for row in flawed).items())
        yield f"not finite: {len(flawed)} rows in all ({most})"
