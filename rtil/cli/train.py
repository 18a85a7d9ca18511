"""``python train.py``: train a prior, vanilla or RTIL."""

import dataclasses
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtil.cli.common import Terminated, given_names, run_command
from rtil.errors import UserError
from rtil.runs import TRAIN_RUNS, check_resume, claim, new_run, read_settings, write_settings
from rtil.training.config import TrainingConfig

CHANGEABLE = {"kimg", "device", "log_kimg", "grid_kimg", "snapshot_kimg", "checkpoint_kimg"}


@dataclass
class TrainOptions(TrainingConfig):
    """Settings of a training run, and where it lies.

    Args:
        out: Run folder to create; by default the next numbered one in runs/train.
        resume: Go on with the run in ``out`` (by default the newest): ``latest``, or one of its checkpoints.
    """

    out: Path | None = None
    resume: str | None = None


TrainOptions.__doc__ = f"{TrainOptions.__doc__}{(TrainingConfig.__doc__ or '').partition('Args:')[2].lstrip(chr(10))}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run_command(run, TrainOptions, argv, "train.py", plan, bare={"resume": "latest"})


def plan(options: TrainOptions) -> Iterator[str]:
    """Say what would be done."""
    config = training_config(options)
    yield f"train {description(config)} for {config.total_images / 1000:g} kimg"
    yield f"into {options.out or (TRAIN_RUNS / 'NNNNN-').as_posix() + description(config)}"


def run(options: TrainOptions) -> None:
    """Train as asked for."""
    from rtil.data import open_dataset
    from rtil.devices import pick_device
    from rtil.training.run import train

    config = training_config(options)
    out = options.out or (newest_run() if options.resume else None)
    if options.resume and out is not None:
        check_resume(out, resume=True)
        config = resumed(config, out, given_names(options))
    pick_device(config.device)  # mistakes come before a folder is made
    open_dataset(config.data, config.resolution, "train")
    if out is None:
        out = new_run(TRAIN_RUNS, description(config))
    with claim(out, resume=options.resume is not None):
        write_settings(out, config.to_json())
        print(f"{description(config)}: {config.total_images / 1000:g} kimg into {out}", flush=True)
        try:
            train(config, out, options.resume)
        except (KeyboardInterrupt, Terminated):
            print(f"checkpoint kept: go on with --out {out} --resume", file=sys.stderr)
            raise
        print(f"done: {out}", flush=True)


def training_config(options: TrainOptions) -> TrainingConfig:
    """Return the options that belong to the training itself."""
    return TrainingConfig(**{f.name: getattr(options, f.name) for f in dataclasses.fields(TrainingConfig)})


def description(config: TrainingConfig) -> str:
    """Return the second half of a run folder's name."""
    data = "synthetic" if config.data == "synthetic" else Path(config.data).stem
    return f"{config.arch}-{'rtil' if config.rtil else 'vanilla'}-{data}-{config.resolution}"


def newest_run() -> Path:
    """Return the training run folder with the highest number."""
    runs = sorted(path.parent for path in TRAIN_RUNS.glob("*-*/settings.json"))
    if not runs:
        raise UserError(f"nothing to resume: no run in {TRAIN_RUNS}; give its folder as --out")
    return runs[-1]


def resumed(asked: TrainingConfig, run_folder: Path, given: Collection[str]) -> TrainingConfig:
    """Return the run's own settings with the changes asked for.

    Args:
        asked: Settings of which those named in ``given`` count.
        run_folder: The run.
        given: Names of the options that were given.

    Raises:
        UserError: If a setting was given that cannot change within a run.
    """
    settings = read_settings(run_folder)
    if settings.keys() != asked.to_json().keys():
        raise UserError(f"{run_folder} is no training run of this version: give the folder of one as --out")
    own: dict[str, Any] = TrainingConfig(**_int_keys(settings)).to_json()
    for name, value in asked.to_json().items():
        if value == own[name] or name not in given:
            continue
        if name not in CHANGEABLE:
            raise UserError(f"--{name} {value} differs from this run's {own[name]}: leave it away, or start a new run")
        own[name] = value
    return TrainingConfig(**_int_keys(own))


def _int_keys(settings: dict[str, Any]) -> dict[str, Any]:
    return settings | {"channels": {int(side): width for side, width in settings["channels"].items()}}


if __name__ == "__main__":
    sys.exit(main())
