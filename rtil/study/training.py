"""Checkpoints that a study trains: by ``rtil train`` itself, with its very options, into the study's folder.

A training that was stopped goes on where it was. It runs as a process of its own, as training on several devices starts
its program anew.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from rtil.cli.local_shards import end, environment
from rtil.cli.options import Reader
from rtil.cli.train import TrainOptions, asked_arch
from rtil.cli.values import as_yaml
from rtil.errors import RunError, UserError, unknown
from rtil.runs import SNAPSHOTS, holds_run, newest_snapshot, read_settings
from rtil.snapshot_header import read_header
from rtil.study.runs import training_folder, training_seeds
from rtil.study.specification import Study, Table
from rtil.training.config import CONFIGS
from rtil.training.trainer_options import TrainerOptions

OF_THE_STUDY = ("out", "resume")


def check_training(study: Study) -> None:
    """Check the options of all trainings.

    Raises:
        UserError: One is not valid.
    """
    for name, checkpoint in study.checkpoints.items():
        if checkpoint.train is not None:
            where = f"checkpoints: {name} of study {study.name}: train"
            wrong = (*OF_THE_STUDY, "seed") if study.training_seeds else OF_THE_STUDY
            if given := [option for option in wrong if option in checkpoint.train]:
                raise UserError(f"{where} has {given[0]}, which is the study's own: leave it away")
            try:
                words = _words(checkpoint.train)
                arch = asked_arch(words)
                if arch not in CONFIGS:
                    raise unknown("architecture", arch, CONFIGS)
                groups = {"": CONFIGS[arch], "trainer": TrainerOptions}
                reader = Reader(TrainOptions, "rtil train", groups, {}, {"resume": "latest"}, "train")
                reader.build(*reader.read(words)[1:])
            except UserError as error:
                raise UserError(f"{where}: {error}") from error


def missing(study: Study, out: Path) -> list[tuple[Path, Table, int | None]]:
    """Return the trainings that are not finished: folder, options, seed."""
    found = []
    for name, checkpoint in study.checkpoints.items():
        for seed in training_seeds(study) if checkpoint.train is not None else []:
            folder = training_folder(name, seed, out)
            if checkpoint.train is not None and not _is_finished(folder):
                found.append((folder, checkpoint.train, seed))
    return found


def train(folder: Path, options: Table, seed: int | None, device: str) -> None:
    """Train a checkpoint, or go on with it.

    Raises:
        RunError: It did not finish.
    """
    words = [*_words(options), "--out", str(folder)]
    words += [] if seed is None else ["--seed", str(seed)]
    words += [] if "device" in options else ["--device", device]
    words += ["--resume"] if holds_run(folder) else []
    print(f"rtil train {' '.join(words)}", flush=True)
    command = [sys.executable, "-m", "rtil", "train", *words]
    # a session of its own: Ctrl-C comes to this process alone, which hands it on, once
    process = subprocess.Popen(command, env=environment(1), start_new_session=True)  # noqa: S603
    try:
        code = process.wait()
    finally:
        end([process])
    if code or not _is_finished(folder):
        raise RunError(f"the training in {folder} did not finish (exit code {code}): run the study again to go on")


def _is_finished(folder: Path) -> bool:
    if not any(folder.glob(SNAPSHOTS)) or not holds_run(folder):
        return False
    header = read_header(newest_snapshot(folder))
    return header is not None and header.info.get("kimg", 0) >= read_settings(folder).get("kimg", 0)


def _words(options: Table) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", _text(value))]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else as_yaml(value)
