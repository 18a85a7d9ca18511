"""``python train.py``: train a prior, vanilla or RTIL."""

import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rtil.cli.common import Prepared, Terminated, given_names, mistake, run_command
from rtil.cli.values import read_yaml
from rtil.errors import UserError, unknown
from rtil.presets import config_path
from rtil.runs import TRAIN_RUNS, check_resume, claim, new_run, read_settings, write_settings
from rtil.training.config import CONFIGS, TrainingConfig, config_of

LEAST_PICTURES = 16


@dataclass
class TrainOptions:
    """Where a training run lies.

    Args:
        out: Run folder to create; by default the next numbered one in runs/train.
        resume: Go on with the run in ``out`` (by default the newest): ``latest``, or one of its checkpoints.
    """

    out: Path | None = None
    resume: str | None = None
    settings: dict[str, TrainingConfig] = field(default_factory=dict)

    @property
    def config(self) -> TrainingConfig:
        """The settings of the training, which stand among the options."""
        return self.settings[""]


def asked_arch(words: Sequence[str]) -> str:
    """Return the architecture that a command line asks for, whose options are then the command's.

    It is that of ``--arch``, else of the last ``--config`` that has one, else of the run that ``--resume`` goes on
    with, else ours.
    """
    files: dict[str, Any] = {}
    line: dict[str, Any] = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, has_value, value = word.partition("=")
        value = value if has_value else following
        if name in ("--arch", "--out", "--resume"):
            line[name.removeprefix("--")] = value if value or name == "--arch" else "latest"
        elif name == "--config":
            with suppress(UserError):  # run_command reads it again and tells
                files |= read_yaml(config_path(value, "train"))
    found = files | line
    if "arch" in found:
        return str(found["arch"])
    if found.get("resume"):
        with suppress(UserError):  # likewise
            run = Path(found["out"]) if found.get("out") else newest_run()
            return str(read_settings(run).get("arch", TrainingConfig.arch))
    return TrainingConfig.arch


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    arch = asked_arch(words)
    if arch not in CONFIGS:
        return mistake(unknown("architecture", arch, CONFIGS))
    return run_command(
        open_training,
        TrainOptions,
        words,
        "rtil train",
        nested={"": CONFIGS[arch]},
        bare={"resume": "latest"},
        presets="train",
        settle=settled,
    )


def settled(options: TrainOptions) -> TrainOptions:
    """Return the options, those of a run that is resumed with its folder and its own settings.

    Raises:
        UserError: As :func:`newest_run`, :func:`rtil.runs.check_resume` and :func:`resumed`.
    """
    if not options.resume:
        return options
    out = options.out or newest_run()
    check_resume(out, resume=True)
    return replace(options, out=out, settings={"": resumed(options.config, out, given_names(options))})


def open_training(options: TrainOptions) -> Prepared:
    """Check settings, data, device and the checkpoint to go on from."""
    from rtil.data import open_dataset
    from rtil.devices import pick_device
    from rtil.training.checkpoint import read_checkpoint, resume_point
    from rtil.training.processes import is_first_process, trainer_options

    config, out = options.config, options.out
    device = pick_device(config.device)
    trainer_options(config, device)
    is_first = is_first_process(config, device)
    if out is not None and (is_first or options.resume):
        check_resume(out, resume=options.resume is not None)
    if options.resume and out is not None:
        checkpoint = resume_point(out, options.resume)
        if checkpoint is not None:
            read_checkpoint(checkpoint, config)
    pictures = len(open_dataset(config.data, config.resolution, "train"))
    if config.quality_kimg and pictures < LEAST_PICTURES:
        raise UserError(
            f"quality_kimg needs at least {LEAST_PICTURES} training pictures, {config.data} has {pictures}: "
            "leave it away, or add pictures"
        )
    kimg = f"{config.total_images / 1000:g} kimg"
    lines = [f"go on in {out} with {description(config)} to {kimg}"]
    if not options.resume:
        folder = out or (TRAIN_RUNS / "NNNNN-").as_posix() + description(config)
        lines = [f"train {description(config)} for {kimg}", f"into {folder}"]

    return Prepared(lines, partial(train_alone_in_folder if is_first else take_part, options))


def train_alone_in_folder(options: TrainOptions) -> None:
    """Own the run folder and train, as the only process or the first of several."""
    from rtil.training.run import train

    config = options.config
    folder = options.out or new_run(TRAIN_RUNS, description(config))
    with claim(folder, resume=options.resume is not None):
        write_settings(folder, config.to_json())
        print(f"{description(config)}: {config.total_images / 1000:g} kimg into {folder}", flush=True)
        try:
            train(config, folder, options.resume)
        except (KeyboardInterrupt, Terminated):
            print(f"checkpoint kept: go on with --out {folder} --resume", file=sys.stderr)
            raise
        print(f"done: {folder}", flush=True)


def take_part(options: TrainOptions) -> int:
    """Train as a process that is not the first, which tells what concerns all; return the exit code.

    A stop that all agreed on is no failure: what starts processes would take it for one, and end the first.
    """
    from rtil.training.module import TrainingDivergedError
    from rtil.training.ranks import LostProcessError
    from rtil.training.run import train

    try:
        train(options.config, options.out or TRAIN_RUNS, options.resume)
    except (TrainingDivergedError, LostProcessError):
        return 2
    except (KeyboardInterrupt, Terminated):
        pass
    return 0


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
    try:
        before = config_of(settings)
    except (UserError, TypeError) as error:
        raise UserError(f"{run_folder} is no training run of this version ({error}): give another --out") from error
    own = before.to_json()
    for name, value in asked.to_json().items():
        if name not in given or value == own.get(name):
            continue
        if name not in before.changeable:
            reason = ", from which its stages follow" if name == "kimg" else ""
            raise UserError(
                f"--{name} {value} differs from this run's {own.get(name)}{reason}: leave it away, or start a new run"
            )
        own[name] = value
    return config_of(own)


if __name__ == "__main__":
    sys.exit(main())
