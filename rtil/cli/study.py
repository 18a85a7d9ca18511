"""``rtil study``: a figure or table of a paper, or of your own, from one file and one command.

    $ rtil study --list
    $ rtil study rtil_figure4 rtil_figure6
    $ rtil study rtil_figure4 --size paper --checkpoints vanilla=PRIOR rtil=PRIOR --eval data=CELEBA_HQ

What it makes lies in ``runs/study/NAME-SIZE``: tables, words made from their numbers, figures with their numbers, and
every evaluation. The same command goes on after a stop, and recomputes only what has changed in the study.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rtil.cli.common import Prepared, Work, run_command, way_on
from rtil.errors import UserError
from rtil.evaluation.shards import Shard

STUDIES = Path("runs/study")
LIST = "--list"


@dataclass
class StudyOptions:
    """Make studies: all of their evaluations, tables and figures. --list names the presets, and what each costs.

    Args:
        studies: Names of presets, or paths of YAML files.
        size: quick (minutes on two cores, with the shipped priors) or paper (as printed, 256 px, with your own
            checkpoints); null is the first that the study has.
        out: Its folder, or of several studies the folder of theirs; null is runs/study/NAME-SIZE. What is there is gone
            on with.
        checkpoints: name=PATH, in place of a study's own.
        eval: name=value, options of rtil eval in place of those of every evaluation, such as images=4 data=FOLDER.
        trials: Of tuning, for each candidate; null is the study's own number.
        shard: Compute one of n shares of the work, i/n; the command without it, when all are done, writes what is made
            of all.
        device: auto (cuda where there is one, else cpu), cpu, cuda, cuda:N or mps.
        devices: Processes that share each evaluation on this machine, one for each GPU (auto: all of them).
        batch: Pictures inverted at a time; null chooses by their size.
    """

    studies: list[str]
    size: Literal["quick", "paper"] | None = None
    out: Path | None = None
    checkpoints: dict[str, str] | None = None
    eval: dict[str, str] | None = None
    trials: int | None = None
    shard: str | None = None
    device: str = "auto"
    devices: int | Literal["auto"] = 1
    batch: int | None = None

    def __post_init__(self) -> None:
        if not self.studies or len({Path(study).stem for study in self.studies}) != len(self.studies):
            raise UserError("studies is empty or names one twice: give each study once")
        if self.shard is not None:
            Shard.parse(self.shard)


@dataclass
class ListOptions:
    """List studies, and what each costs before it runs.

    Args:
        size: Only this size of each.
        device: Whose seconds are told: auto (cuda where there is one, else cpu), cpu, cuda, cuda:N or mps.
    """

    size: Literal["quick", "paper"] | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Studies:
    """Studies, all opened before the first is made."""

    works: Sequence[Work]

    def plan(self) -> Iterator[str]:
        """Yield the lines of each."""
        return (line for work in self.works for line in work.plan())

    def run(self) -> None:
        """Make one after the other."""
        with way_on("what is finished is kept, go on with the same command"):
            for work in self.works:
                work.run()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    logging.basicConfig(format="%(message)s")
    words = list(sys.argv[1:] if argv is None else argv)
    if LIST in words:
        words.remove(LIST)
        return run_command(open_list, ListOptions, words, f"rtil study {LIST}")
    return run_command(open_study, StudyOptions, words, "rtil study")


def open_study(options: StudyOptions) -> Work:
    """Read the studies and open what they need."""
    from rtil.study.reading import read_study
    from rtil.study.specification import Given
    from rtil.study.work import StudyWork

    given = Given(options.checkpoints or {}, options.eval or {}, options.trials)
    studies = [read_study(name, options.size, given) for name in options.studies]
    folder = STUDIES if options.out is None else options.out
    is_one = options.out is not None and len(studies) == 1
    shard = None if options.shard is None else Shard.parse(options.shard)
    process: dict[str, Any] = {"device": options.device}
    process |= {} if options.devices == 1 else {"devices": options.devices}
    process |= {} if options.batch is None else {"batch": options.batch}
    works = [StudyWork(study, folder if is_one else folder / study.label, shard, process) for study in studies]
    return Studies(works)


def open_list(options: ListOptions) -> Prepared:
    """Read all presets."""
    from rtil.presets import names
    from rtil.study.cost import how_estimated, lines_of
    from rtil.study.reading import read_study, sizes_of

    found = [(name, size) for name in names("study") for size in sizes_of(name) if options.size in (None, size)]
    if not found:
        raise UserError(f"there is no study of size {options.size}")
    studies = [read_study(name, size or None) for name, size in found]

    def show() -> None:
        for study in studies:
            for line in lines_of(study, options.device):
                print(line, flush=True)
        print(how_estimated(options.device))

    return Prepared([f"{study.name} {study.size}" for study in studies], show)


if __name__ == "__main__":
    sys.exit(main())
