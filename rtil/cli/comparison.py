"""An evaluation, opened and run; the options are in :mod:`rtil.cli.eval`."""

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rtil.cli.common import given_names, kept_rows, read_table
from rtil.cli.eval import EvalOptions, nested
from rtil.devices import pick_device
from rtil.errors import Notice, UserError
from rtil.evaluation.candidates import CLASSIFIER, overlaid, standard_settings
from rtil.evaluation.conditions import conditions
from rtil.evaluation.evaluation import FORMAT, Evaluation
from rtil.evaluation.fusions import Fusions
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
from rtil.inverse.settings import SolverSettings
from rtil.priors import chosen_pair
from rtil.runs import EVAL_RUNS, check_resume, claim, new_run, read_settings, write_settings
from rtil.snapshot import Snapshot, load_snapshot
from rtil.weights.classifiers import open_classifier

NOT_RESUMED = ("out", "resume", "device", "batch")


class Comparison:
    """An evaluation, opened: every mistake shows here, before anything is computed or written."""

    def __init__(self, options: EvalOptions) -> None:
        self.out, self.before = options.out, dict[str, Any]()
        if options.out is not None:
            check_resume(options.out, options.resume)
            if options.resume:
                self.before = read_settings(options.out)
        options.check_task()
        self.options = options
        self.evaluation = open_evaluation(options)
        self.evaluation.check_identity(self.before, self.out)

    def plan(self) -> Iterator[str]:
        """Say what would be done."""
        yield from self.evaluation.plan()
        yield f"into {self.out or (EVAL_RUNS / 'NNNNN-').as_posix() + self.evaluation.description()}"

    def run(self) -> None:
        """Evaluate."""
        folder = self.out or new_run(EVAL_RUNS, self.evaluation.description())
        with claim(folder, self.options.resume), kept_rows(folder):
            write_settings(folder, self.evaluation.settings(options_table(self.options), self.before))
            self.evaluation.run(folder, self.options.batch)


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
    before = read_settings(folder)
    table = before.get("options")
    if not isinstance(table, dict):
        raise UserError(f"{folder} holds no evaluation: give the folder of one as --out")
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


def open_evaluation(options: EvalOptions) -> Evaluation:
    """Open checkpoints, pictures or classifier, and resolve the jobs.

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
    device = pick_device(options.device)
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
        experiment = Reconstruction(
            measured,
            heldout_pictures(source, resolution, split, options.images, options.pictures),
            device,
            seed=options.seed,
            noise_sigma=options.noise_sigma,
            lpips=None if options.lpips == "none" else options.lpips,
            kept=options.images if options.keep_pictures is None else options.keep_pictures,
            baselines=options.baselines,
            drunet=options.drunet,
            linear_data=linear_data,
            fit_linear_prior=None if linear_data is None else partial(fit_linear_prior, linear_data, resolution),
            fusions=None if linear_data is None else Fusions(linear_data, resolution),
        )
        data = "synthetic" if source == "synthetic" else Path(source).stem
        subject = f"{'+'.join(options.task)}-{data}-{resolution}"
    jobs = resolve(experiment, candidates, checkpoints, options.seed)
    return Evaluation(experiment, jobs, checkpoints, candidates, options.seed, subject)


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
