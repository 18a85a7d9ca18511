"""An evaluation, opened and run; the options are in :mod:`rtil.cli.eval`."""

import dataclasses
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from rtil.cli.common import given_names, read_table, way_on
from rtil.cli.eval import EvalOptions, nested
from rtil.cli.local_shards import local_devices, run_shards
from rtil.devices import pick_device
from rtil.errors import Notice, RunError, UserError
from rtil.evaluation.calibration import Calibrations
from rtil.evaluation.candidates import CLASSIFIER, overlaid, standard_settings
from rtil.evaluation.conditions import conditions
from rtil.evaluation.evaluation import FORMAT, Evaluation
from rtil.evaluation.folder import IDENTITY, OPTIONS, PICTURES, check_same, read_evaluation, shared, whole
from rtil.evaluation.guided import Guided, balls
from rtil.evaluation.held_out import (
    fit_linear_prior,
    heldout_pictures,
    heldout_source,
    linear_prior_source,
    open_linear_prior_data,
)
from rtil.evaluation.jobs import Experiment, resolve
from rtil.evaluation.reconstruction import Reconstruction
from rtil.evaluation.shards import Shard
from rtil.evaluation.training_pictures import TrainingPictures
from rtil.inverse.settings import SolverSettings
from rtil.priors import chosen_pair
from rtil.runs import EVAL_RUNS, check_resume, holds_run, new_run, write_settings
from rtil.snapshot import Snapshot, load_snapshot
from rtil.weights.classifiers import open_classifier

NOT_RESUMED = ("out", "resume", "device", "shard", "devices")


class Comparison:
    """An evaluation, opened: every mistake shows here, before anything is computed or written.

    Args:
        options: Of the evaluation.
        evaluation: What they open, where that is done already.
    """

    def __init__(self, options: EvalOptions, evaluation: Evaluation | None = None) -> None:
        self.out, self.before = options.out, dict[str, Any]()
        self.shard = None if options.shard is None else Shard.parse(options.shard)
        if options.out is not None:
            joins = self.shard is not None and holds_run(options.out)  # another shard came first
            check_resume(options.out, options.resume or joins)
            if options.resume or joins:
                self.before = read_evaluation(options.out)
        options.check_task()
        self.options = options
        self.devices = local_devices(options.devices, options.device)
        self.evaluation = evaluation or open_evaluation(options, self.before, self.devices[0])
        self.evaluation.check_identity(self.before, self.out)
        if self.out is not None and self.before:
            self.evaluation.check_pictures(self.out)

    def plan(self) -> Iterator[str]:
        """Say what would be done."""
        yield from self.evaluation.plan()
        if len(self.devices) > 1:
            yield f"by {len(self.devices)} processes, on {', '.join(dict.fromkeys(self.devices))}"
        if self.shard is not None:
            yield f"shard {self.shard}, into {self.shard.file}"
        yield f"into {self.out or (EVAL_RUNS / 'NNNNN-').as_posix() + self.evaluation.description()}"

    def run(self) -> None:
        """Evaluate."""
        folder, options = self.out or new_run(EVAL_RUNS, self.evaluation.description()), self.options
        if len(self.devices) > 1:
            self._run_on_devices(folder)
        elif self.shard is not None:
            with self._kept(folder), shared(folder, self.shard, lambda: self._enter(folder)):
                self.evaluation.run(folder, options.batch, self.shard)
        else:
            with whole(folder, options.resume), self._kept(folder):
                write_settings(folder, self._settings())
                self.evaluation.run(folder, options.batch)

    def _run_on_devices(self, folder: Path) -> None:
        """Share the work with processes of this machine; join the rows, unless there are shards elsewhere."""
        of_all, count = self.shard or Shard(1, 1), len(self.devices)
        with shared(folder, None, lambda: self._enter(folder)):
            pass
        shards = [of_all.part(number, count) for number in range(1, count + 1)]
        with self._kept(folder):
            run_shards(folder, shards, self.devices)
        if self.shard is not None:
            print(f"shard {self.shard} is done; when all are: rtil merge {folder}")
            return
        with whole(folder, resume=True):
            self.evaluation.write_joined(folder, self.evaluation.join([folder], read_evaluation(folder), False))

    def _enter(self, folder: Path) -> None:
        """Write the settings, or check that those of the shards that came before are the same."""
        there = read_evaluation(folder) if holds_run(folder) else {}
        mine = self._settings()
        if there and not self.options.resume:
            check_same(folder, there, mine, "this command")
            return
        if there and self.shard is not None and there[OPTIONS].get("batch") != self.options.batch:
            raise RunError(
                f"shards of {folder} have batch {there[OPTIONS].get('batch')}, not {self.options.batch}: leave --batch "
                "away; a memory that is full halves it by itself"
            )
        write_settings(folder, mine)

    def _settings(self) -> dict[str, Any]:
        options = options_table(self.options) | {"shard": None, "devices": 1}  # which are of a process, not of the run
        settings = self.evaluation.settings(options, self.before)
        return dict(json.loads(json.dumps(settings)))  # as they are read again

    def _kept(self, folder: Path) -> AbstractContextManager[None]:
        shard = "" if self.shard is None else f" --shard {self.shard}"
        devices = f" --devices {len(self.devices)}" if len(self.devices) > 1 else ""
        return way_on(f"finished rows are kept, go on with --out {folder} --resume{shard}{devices}")


def options_table(options: EvalOptions) -> dict[str, Any]:
    """Return options as JSON values, the settings of each method in a table of its name."""
    flat = {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if f.name != "settings"}
    flat["out"] = None if options.out is None else str(options.out)
    return flat | {name: _visible(settings) for name, settings in options.settings.items()}


def _visible(settings: SolverSettings) -> dict[str, Any]:
    shown = [f.name for f in dataclasses.fields(settings) if not f.metadata.get("hidden")]
    return {name: getattr(settings, name) for name in shown}


def resumed(options: EvalOptions) -> EvalOptions:
    """Return the options of the run in the folder ``out``, with those changed that are given now.

    Raises:
        UserError: There is none, or the folder holds no evaluation of this version.
    """
    folder = options.out
    assert folder is not None  # noqa: S101  EvalOptions
    check_resume(folder, resume=True)
    before = read_evaluation(folder)
    table = before[OPTIONS]
    if before.get("format") != FORMAT:
        raise UserError(
            f"{folder} is of an older version, whose settings have other hashes: its rows and tables stay readable, "
            "but to go on give another --out"
        )
    given = given_names(options)
    stored = {name: value for name, value in table.items() if name not in NOT_RESUMED}
    for name, other in {"variants": "method", "method": "variants"}.items():
        if name in given and other not in given:
            stored.pop(other, None)
    typed = read_table(EvalOptions, stored, str(folder), nested=nested(), short={})
    flat = {name: value for name, value in typed.items() if "." not in name}
    flat |= {
        name: getattr(options, name) for name in (*given, *NOT_RESUMED) if name in EvalOptions.__dataclass_fields__
    }
    dotted = {name: value for name, value in typed.items() if "." in name and name not in given}
    dotted |= {name: _get(options.settings, name) for name in given if "." in name}
    merged = EvalOptions(**flat, settings=overlaid(standard_settings(), dotted))
    merged.__dict__.update({name: value for name, value in options.__dict__.items() if name.startswith("_")})
    return merged


def _get(settings: Mapping[str, SolverSettings], dotted: str) -> Any:
    method, _, option = dotted.partition(".")
    return getattr(settings[method], option)


def open_evaluation(options: EvalOptions, before: Mapping[str, Any] | None = None, on: str | None = None) -> Evaluation:
    """Open checkpoints, pictures or classifier, and resolve the jobs.

    Args:
        options: What is asked for.
        before: Settings of the run that is gone on with, whose pictures stay.
        on: Device in place of that of the options.

    Raises:
        UserError: Anything that was asked for is not valid.
    """
    candidates = options.candidates()
    paths = chosen_pair(options.checkpoints)
    if options.task != [CLASSIFIER]:
        measured = conditions(
            options.task,
            options.rates,
            options.factors,
            options.sigmas,
            options.mask,
            options.widths,
            options.lengths,
            options.exposures,
        )
    device = pick_device(on or options.device)
    checkpoints = {name: load_snapshot(path, device) for name, path in paths.items()}
    experiment: Experiment
    if options.task == [CLASSIFIER]:
        assert options.classifier is not None  # noqa: S101  check_task
        columns = balls(candidates, options.radius_scales)
        candidates = [candidate for candidate, _ in columns.values()]
        scales = {label: scale for label, (_, scale) in columns.items()}
        classifier = open_classifier(options.classifier, options.classifier_side).to(device)
        experiment = Guided(classifier, options.classes, scales, checkpoints, options.pictures_per_class, options.seed)
        subject = f"{CLASSIFIER}-{classifier.source.partition('=')[0].removeprefix('torchvision:')}"
    else:
        resolution = _one_resolution(checkpoints)
        infos = [snapshot.info for snapshot in checkpoints.values()]
        linear_data = None
        if options.linear and any(condition.linear for condition in measured):
            linear_data = _linear_data(infos, options)
        source, split = heldout_source(infos, options.data, options.split, linear_data)
        if linear_data is not None:
            open_linear_prior_data(linear_data, resolution)
        known = _known_pictures(before or {}, {"data": source, "split": split, "which": options.pictures})
        experiment = Reconstruction(
            measured,
            heldout_pictures(source, resolution, split, options.images, options.pictures, known),
            device,
            seed=options.seed,
            noise_sigma=options.noise_sigma,
            lpips=None if options.lpips == "none" else options.lpips,
            kept=options.images if options.keep_pictures is None else options.keep_pictures,
            baselines=options.baselines,
            drunet=options.drunet,
            linear_data=linear_data,
            fit_linear_prior=None if linear_data is None else partial(fit_linear_prior, linear_data, resolution),
            training=None if linear_data is None else TrainingPictures(linear_data, resolution),
            calibrations=_calibrations(
                linear_prior_source(infos, options.linear_data), resolution, source, split, options
            ),
        )
        data = "synthetic" if source == "synthetic" else Path(source).stem
        subject = f"{'+'.join(options.task)}-{data}-{resolution}"
    jobs = resolve(experiment, candidates, checkpoints, options.seed)
    return Evaluation(experiment, jobs, checkpoints, candidates, options.seed, subject)


def _calibrations(
    trained_on: str | None, resolution: int, source: str, split: str, options: EvalOptions
) -> Calibrations | None:
    """Return what fits intervals to validation pictures of the training's data; None where that is not known."""
    if trained_on is None:
        return None
    evaluated = options.images if split == "validation" and source == trained_on else 0
    return Calibrations(trained_on, resolution, evaluated)


def _known_pictures(before: Mapping[str, Any], origin: Mapping[str, Any]) -> Sequence[str]:
    """Return the ids of a run's pictures, if they are still asked for from where they came."""
    earlier = before.get(IDENTITY, {}).get(PICTURES, {})
    found: Sequence[str] = before.get(PICTURES, ())
    return found if all(earlier.get(name, value) == value for name, value in origin.items()) else ()


def _linear_data(infos: Sequence[Mapping[str, Any]], options: EvalOptions) -> str | None:
    """Return what the linear prior is fitted to; None, with a notice, where no checkpoint says and none is named."""
    found = linear_prior_source(infos, options.linear_data)
    if found is None:
        what = "no checkpoint says what it was trained on, so there is no linear prior: name pictures as --linear_data"
        if "linear" in given_names(options):
            raise UserError(what)
        warnings.warn(what, Notice, stacklevel=2)
    return found


def _one_resolution(checkpoints: Mapping[str, Snapshot]) -> int:
    sides = {name: snapshot.generator.resolution for name, snapshot in checkpoints.items()}
    if len(set(sides.values())) != 1:
        text = ", ".join(f"{name} {side} px" for name, side in sides.items())
        raise UserError(f"checkpoints differ in resolution ({text}): compare those of one resolution")
    return next(iter(sides.values()))
