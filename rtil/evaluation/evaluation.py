"""An evaluation: checkpoints, an experiment and the list of jobs, which is all that running and reporting look at."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtil.errors import UserError
from rtil.evaluation.candidates import Candidate
from rtil.evaluation.curves import write_curves
from rtil.evaluation.jobs import Experiment, Job
from rtil.evaluation.notes import TRAINED_OTHERWISE
from rtil.evaluation.report import markdown, terminal, write_csv
from rtil.evaluation.runner import Runner
from rtil.evaluation.summary import summarise
from rtil.files import write_text
from rtil.snapshot import Snapshot

FORMAT = 2
"""Of settings.json: which hashes its rows have."""
IDENTITY, SOLVERS = "identity", "solvers"


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
        if "pictures" in earlier and earlier["pictures"] != now.get("pictures"):
            raise UserError(
                f"{folder} used pictures {earlier['pictures']}, not {now.get('pictures')}: give another --out"
            )
        for name, digest in now["weights"].items():
            if earlier.get("weights", {}).get(name, digest) != digest:
                raise UserError(
                    f"checkpoint '{name}' of {folder} had other weights: name it otherwise, or another --out"
                )

    def settings(self, options: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
        """Return what settings.json holds: options, checkpoints (named, also if they were found), and what stays.

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
        own = {"format": FORMAT, "options": dict(options) | {"checkpoints": paths}}
        return own | {"checkpoints": checkpoints, SOLVERS: solvers, IDENTITY: identity}

    def run(self, folder: Path, batch: int | None) -> None:
        """Compute what is missing in a folder, and write tables, curves and grids.

        Args:
            folder: The run folder.
            batch: Pictures at a time; None chooses by their size.
        """
        print(f"{len(self.experiment.ids)} pictures of {self.subject} into {folder}")
        for name, snapshot in self.checkpoints.items():
            print(f"checkpoint {name}: {snapshot.path} ({snapshot.training})", flush=True)
        runner = Runner(self.experiment, self.jobs, self.checkpoints, folder, self.seed, batch)
        rows = runner.run()
        summary = summarise(rows)
        write_csv(summary, folder / "summary.csv")
        write_text(folder / "summary.md", markdown(summary) + "\n")
        pictures = [*write_curves(summary, folder), *runner.write_grids()]
        print(f"\n{terminal(summary)}\n\nsummary: {folder / 'summary.csv'}")
        for path in pictures:
            print(f"pictures: {path}")
