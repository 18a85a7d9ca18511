"""Which prior a command uses where none is named: the newest training, else the shipped one; and it says so."""

import sys
from pathlib import Path

from rtil.pretrained import NAMES, SCHEME
from rtil.runs import TRAIN_RUNS, newest_pair, train_runs

WHAT = "StyleGAN2, synthetic faces"


def chosen_prior(given: Path | None) -> Path:
    """Return the snapshot that was given, else that of the newest training, else ``shipped:rtil``."""
    if given is not None:
        return given
    runs = train_runs()
    if runs:
        _say(f"--snapshot: the newest training, {runs[-1].snapshot}")
        return runs[-1].snapshot
    _say(f"--snapshot: no training in {TRAIN_RUNS.as_posix()}, so the shipped prior {SCHEME}rtil ({WHAT})")
    return Path(f"{SCHEME}rtil")


def chosen_pair(given: dict[str, str] | None) -> dict[str, str]:
    """Return the checkpoints that were given, else the newest trainings that agree, else the shipped pair."""
    if given:
        return given
    if train_runs():
        return {name: str(run.snapshot) for name, run in newest_pair().items()}
    names = {name: SCHEME + name for name in NAMES}
    pair = " and ".join(names.values())
    _say(f"--checkpoints: no training in {TRAIN_RUNS.as_posix()}, so the shipped {pair} ({WHAT})")
    return names


def _say(line: str) -> None:
    print(line, file=sys.stderr)
