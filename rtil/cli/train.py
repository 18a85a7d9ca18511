"""``python train.py``: train a prior, vanilla or RTIL."""

import sys
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rtil.cli.class_paths import instance_of
from rtil.cli.common import Prepared, given_names, mistake, run_command
from rtil.cli.values import read_yaml
from rtil.errors import UserError, in_short, unknown
from rtil.presets import config_path
from rtil.runs import TRAIN_RUNS, check_resume, claim, new_run, read_settings, write_settings
from rtil.stopping import Terminated
from rtil.training.config import CONFIGS, TrainingConfig, config_of
from rtil.training.trainer_options import TrainerOptions

LEAST_PICTURES = 16


@dataclass
class TrainOptions:
    """Where a training run lies, and who watches it.

    Args:
        out: Run folder to create; by default the next numbered one in runs/train.
        resume: Go on with the run in ``out`` (by default the newest): ``latest``, or one of its checkpoints.
        logger: Where numbers and pictures go: tensorboard, csv, wandb, or a class of Lightning's loggers; several with
            commas, ``[]`` for none.
        callbacks: Classes of Lightning's callbacks, module.Class or {class_path: module.Class, init_args: {...}}.
    """

    out: Path | None = None
    resume: str | None = None
    logger: list[str | dict[str, Any]] = field(default_factory=lambda: ["tensorboard"])
    callbacks: list[str | dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.resume == "":
            raise UserError("resume is empty: give latest, the path of a checkpoint, or --resume alone")

    @property
    def config(self) -> TrainingConfig:
        """The settings of the training, which stand among the options."""
        config: TrainingConfig = self.settings[""]
        return config

    @property
    def trainer(self) -> TrainerOptions:
        """What Lightning's Trainer gets."""
        options: TrainerOptions = self.settings["trainer"]
        return options


@dataclass(frozen=True)
class PlannedTraining(Prepared):
    """A training as its lines and what does it; memory and time are counted only where they are asked for."""

    config: TrainingConfig

    def plan(self) -> Iterable[str]:
        """Yield the lines, memory and time."""
        from rtil.devices import pick_device
        from rtil.training.duration import time_line
        from rtil.training.memory import memory_line

        yield from self.lines
        device = pick_device(self.config.device)
        yield memory_line(self.config, device)
        if line := time_line(self.config, device):
            yield line


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
            run = Path(str(found["out"])) if found.get("out") else newest_run()
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
        nested={"": CONFIGS[arch], "trainer": TrainerOptions},
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
    return replace(
        options, out=out, settings=options.settings | {"": resumed(options.config, out, given_names(options))}
    )


def open_training(options: TrainOptions) -> Prepared:
    """Check settings, data, device, memory and the checkpoint to go on from."""
    from pytorch_lightning import Callback

    from rtil.data import open_dataset
    from rtil.devices import pick_device
    from rtil.training.checkpoint import resume_point
    from rtil.training.memory import check_memory
    from rtil.training.processes import is_first_process, trainer_options
    from rtil.training.run import check_checkpoint

    config, out = options.config, options.out
    device = pick_device(config.device)
    trainer_options(config, device)
    is_first = is_first_process(config, device)
    if out is not None and (is_first or options.resume):
        check_resume(out, resume=options.resume is not None)
    if options.resume and out is not None:
        checkpoint = resume_point(out, options.resume)
        if checkpoint is not None:
            check_checkpoint(checkpoint, config)
    loggers = [chosen_logger(one) for one in options.logger]
    callbacks = [instance_of(Callback, one, "--callbacks") for one in options.callbacks]
    check_memory(config, device)
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

    work = partial(train_alone_in_folder if is_first else take_part, options, loggers, callbacks)
    return PlannedTraining(lines, work, config)


def train_alone_in_folder(options: TrainOptions, loggers: Sequence[Any], callbacks: Sequence[Any]) -> None:
    """Own the run folder and train, as the only process or the first of several."""
    from rtil.training.checkpoint import checkpoints
    from rtil.training.run import train

    config = options.config
    folder = options.out or new_run(TRAIN_RUNS, description(config))
    with claim(folder, resume=options.resume is not None):
        write_settings(folder, config.to_json())
        print(f"{description(config)}: {config.total_images / 1000:g} kimg into {folder}", flush=True)
        try:
            is_done = train(config, folder, options.resume, loggers=loggers, callbacks=callbacks, extra=options.trainer)
        except (KeyboardInterrupt, Terminated) as error:
            kept = "a checkpoint is kept" if checkpoints(folder) else "before the first checkpoint"
            error.add_note(f"{kept}, go on with --out {folder} --resume")
            raise
        print(f"done: {folder}" if is_done else f"stopped: go on with --out {folder} --resume", flush=True)


def take_part(options: TrainOptions, loggers: Sequence[Any], callbacks: Sequence[Any]) -> int:
    """Train as a process that is not the first, which tells what concerns all; return the exit code.

    A stop that all agreed on is no failure: what starts processes would take it for one, and end the first.
    """
    from rtil.training.divergence import TrainingDivergedError
    from rtil.training.ranks import LostProcessError
    from rtil.training.run import train

    folder = options.out or TRAIN_RUNS
    try:
        train(options.config, folder, options.resume, loggers=loggers, callbacks=callbacks, extra=options.trainer)
    except (TrainingDivergedError, LostProcessError):
        return 2
    except (KeyboardInterrupt, Terminated):
        pass
    return 0


def chosen_logger(given: str | dict[str, Any]) -> Any:
    """Return a logger's name as it is, or the logger of a class.

    Raises:
        UserError: There is none, its package is missing, or it cannot be made.
    """
    from pytorch_lightning.loggers import Logger

    from rtil.training.loggers import check_logger

    if isinstance(given, str) and "." not in given:
        return check_logger(given)
    return instance_of(Logger, given, "--logger")


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
        reason = in_short(error)
        raise UserError(f"{run_folder} is no training run of this version ({reason}): give another --out") from error
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
