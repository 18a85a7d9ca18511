"""A reconstruction from the user's own measurements, opened and run; the options are in :mod:`rtil.cli.reconstruct`."""

import copy
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rtil.cli.common import given_names
from rtil.cli.measurements import TRANSPARENCY, Measurement, MeasurementReader, file_labels, numbers
from rtil.cli.outputs import check_out_folder, owned_folder
from rtil.cli.progress import Progress
from rtil.cli.reconstruct import RESULT, ReconstructOptions
from rtil.cli.reconstruction_files import (
    FRAMES,
    HISTORY,
    MASK,
    PICTURE,
    PLACED,
    RESULT_FILE,
    SHEET,
    SPREAD,
    WRITTEN_LEVEL,
    images_of,
    labelled,
    lines_of,
    sha256_of,
    write_pictures,
    write_spread,
)
from rtil.data.alignment import put_back
from rtil.data.landmarks import FaceAligner
from rtil.devices import pick_device
from rtil.errors import Notice, UserError, printable
from rtil.evaluation.batches import Batches
from rtil.evaluation.candidates import candidates_of_methods, check_used
from rtil.evaluation.sheets import Panel, measurement_panel, observed_panel, spread_panel, write_sheet
from rtil.files import write_text
from rtil.inverse.consistency import doubt_of_observed, doubt_of_seed
from rtil.inverse.frames import FrameRecorder, write_animation
from rtil.inverse.history import write_history
from rtil.inverse.intervals import half_width
from rtil.inverse.operators import Inpainting, Operator
from rtil.inverse.problem import Callback
from rtil.inverse.registry import solver_class
from rtil.inverse.result import Inversion, join_batches
from rtil.inverse.result_file import ResultFile, load_result, save_result
from rtil.inverse.solver import Solver
from rtil.pictures import readable, save_bytes, save_png
from rtil.priors import chosen_prior
from rtil.ranges import to_uint8
from rtil.runs import new_run
from rtil.sampling import samples
from rtil.snapshot import load_snapshot

RECONSTRUCT_RUNS = Path("runs/reconstruct")
MEAN_SAMPLES = 16
"""Of which the mean picture is that of a prior without styles."""


class Start(NamedTuple):
    """Where to start: the latents of an earlier reconstruction, and the SHA-256 of its result file."""

    latents: Mapping[str, Tensor]
    sha256: str


class Reconstructing:
    """A reconstruction, opened: prior, inverters, operator and measurements."""

    def __init__(self, options: ReconstructOptions) -> None:
        self.options = options
        check_used([options.method], options.settings, given_names(options))
        if options.frames is not None:
            FrameRecorder(options.frames)
        device = pick_device(options.device)
        check_out_folder(options.out or RECONSTRUCT_RUNS)
        options.snapshot = chosen_prior(options.snapshot)
        self.snapshot = load_snapshot(options.snapshot, device)
        side = self.snapshot.generator.resolution
        aligner = None if options.align is None else FaceAligner(options.align)
        reader = MeasurementReader(options, given_names(options), side, options.fit, aligner)
        self.measurements = reader.read(options.input_path)
        for line in reader.notes.lines():
            warnings.warn(line, Notice, stacklevel=1)
        for name, faces in () if aligner is None else aligner.several.items():
            warnings.warn(f"{name} has {faces} faces: the largest is taken", Notice, stacklevel=1)
        count = len(self.measurements)
        self.labels = numbers(count) if options.sequence else file_labels(self.measurements)
        operators = {id(one.operator): one.operator for one in self.measurements}
        self.first = self.following = self._solver(options, self.measurements[0].operator)
        if options.frame_steps is not None:
            later = replace(options, steps=options.frame_steps, steps_preset=None, rounds=None)
            self.following = self._solver(later, self.measurements[0].operator)
        self.groups = [[n] for n in range(count)]
        if not options.sequence:
            self.groups = [[n for n in range(count) if id(self.measurements[n].operator) == key] for key in operators]
        self.start = self._start(1 if options.sequence else count)
        if self.start is not None and len(operators) > 1 and not options.sequence:
            raise UserError("start_from is for pictures of one mask, but theirs differ: reconstruct them one at a time")
        for operator in operators.values():
            operator.to(device)
        self.y = torch.stack([one.y for one in self.measurements]).to(device)
        self.batches = Batches(options.batch, side, device)

    @cached_property
    def mean(self) -> Tensor:
        """The prior's mean picture [1, 3, R, R] in [0, 1]: of the mean style, or of some samples without styles."""
        G = self.snapshot.generator
        x = samples(G, MEAN_SAMPLES if G.latent_space == "z" else 1, 0.0, 0).clamp(0, 1)
        return x.mean(0, keepdim=True).to(self.y.device)

    def plan(self) -> Iterator[str]:
        """Say what would be done."""
        options = self.options
        start = "" if options.start_from is None else f", starting from {options.start_from}"
        (label, *others) = dict.fromkeys(one.operator.label for one in self.measurements)
        yield (
            f"reconstruct {len(self.y)} x {label}{' and others' if others else ''} from {options.input_path} with "
            f"{options.method} of {self.snapshot.path}{', as a sequence' if options.sequence else ''}{start}"
        )
        yield from self._mask_lines()
        yield f"into {options.out or (RECONSTRUCT_RUNS / 'NNNNN-').as_posix() + self._description()}"

    def run(self) -> None:
        """Reconstruct; of a sequence frame after frame."""
        self._tell_doubts()
        for line in self._mask_lines():
            print(printable(line), flush=True)
        with owned_folder(self.options.out or new_run(RECONSTRUCT_RUNS, self._description()), RESULT) as out:
            self._run(out)

    def _run(self, out: Path) -> None:
        options, count = self.options, len(self.y)
        start, seconds, images = self.start, 0.0, dict[int, dict[str, Any]]()
        progress = self._progress()
        try:
            for group in self.groups:
                solver = self.first if start is None else self.following
                found, errors, animations = self._invert(solver, group, start, progress)
                labels, names = [self.labels[n] for n in group], [self.measurements[n].name for n in group]
                of_group = labels[0] if len(self.groups) > 1 else ""
                spread_path, history_path, result_file = (
                    labelled(out / name, [of_group])[0] for name in (SPREAD, HISTORY, RESULT_FILE)
                )
                operator, recipe = self.measurements[group[0]].operator, self.measurements[group[0]].recipe
                settings = solver.settings_for(operator).to_json() | {"seed": options.seed}
                settings |= {} if start is None else {"start_from": start.sha256}
                named = [] if options.sequence or self.labels == numbers(count) else labels
                kept = ResultFile.of(found, self.y[group], recipe, self.snapshot, options.method, settings, named)
                save_result(result_file, kept)  # first: all else can be made of it again
                pictures = labelled(out / PICTURE, labels)
                write_pictures(found.x, pictures)
                self._write_placed(out, group, found.x)
                for path, frames in zip(labelled(out / FRAMES, labels), animations, strict=bool(animations)):
                    write_animation(frames, path)
                if found.spread is not None:
                    half = half_width(found.spread, len(found.latents.ws), WRITTEN_LEVEL, options.interval_scale)
                    write_spread(found.x, found.spread, half, spread_path)
                write_history(history_path, found.history, names, group[0])
                told = images_of(found, names, pictures, errors, options.interval_scale)
                images |= dict(zip(group, told, strict=True))
                self._write_sheets(out, group, found, errors)
                seconds += found.seconds
                progress.say(list(lines_of(pictures, told)))
                start = Start(found.latents, sha256_of(result_file)) if options.sequence else start
        finally:
            progress.close()
        in_order = [images[n] for n in range(count)]
        self._tell_unexplained([image["measurement_error"] for image in in_order])
        about = {"path": str(self.snapshot.path), "weight_hash": self.snapshot.weight_hash, "info": self.snapshot.info}
        report = {"images": in_order, "seconds": seconds, "settings": options.table(), "snapshot": about}
        write_text(out / RESULT, json.dumps(report, indent=2) + "\n")

    def _progress(self) -> Progress:
        """Return the bar over all pictures."""
        total: int | None = 0
        for number, group in enumerate(self.groups):
            is_first = number == 0 and self.start is None
            solver = self.first if is_first or not self.options.sequence else self.following
            attempts = solver.settings.restarts if self.start is None else len(self.start.latents["ws"])
            iterates = solver.iterates()
            total = None if total is None or iterates is None else total + iterates * attempts * len(group)
        return Progress(total, len(self.y))

    def _mask_lines(self) -> Iterator[str]:
        """Say how masks were understood."""
        for group in self.groups:
            one = self.measurements[group[0]]
            if one.recipe.mask is not None:
                share = 100 * one.recipe.mask.double().mean().item()
                what = "opaque" if one.recipe.parameters["mask"] == TRANSPARENCY else "white"
                file = one.name if what == "opaque" else one.recipe.parameters["mask"]
                yield f"{file}: {what} is observed, {share:.3g} % of the pixels"

    def _tell_doubts(self) -> None:
        """Warn where operator and measurements do not seem to belong together, which a recipe beside them rules out."""
        for group in self.groups if not self.options.sequence else [list(range(len(self.y)))]:
            asked = [n for n in group if self.measurements[n].raw is not None and not self.measurements[n].is_told]
            if not asked:
                continue
            one = self.measurements[asked[0]]
            raws = (self.measurements[n].raw for n in asked)
            doubts = [doubt for raw in raws if raw is not None and (doubt := doubt_of_observed(one.operator, raw))]
            if not doubts and (of_seed := doubt_of_seed(one.operator, one.recipe, self.y[asked], self.mean)):
                doubts = [of_seed]
            for doubt in doubts[:1]:
                warnings.warn(f"{self.options.input}: {doubt}", Notice, stacklevel=1)

    def _tell_unexplained(self, errors: Sequence[float]) -> None:
        """Warn where a reconstruction explains its measurement no better than the prior's mean picture does."""
        for n, one in enumerate(self.measurements):
            of_mean = one.operator.error(self.mean, self.y[n : n + 1]).item()
            if not errors[n] < of_mean:
                warnings.warn(
                    f"{one.name}: the measurement error {errors[n]:.3g} is not below that of the prior's mean picture, "
                    f"{of_mean:.3g}; the options of the task may not be those that measured, or steps are too few",
                    Notice,
                    stacklevel=1,
                )

    def _write_placed(self, out: Path, group: Sequence[int], x: Tensor) -> None:
        """Write the photographs that faces were cropped from, with the reconstructions [N, 3, R, R] in their places."""
        for picture, n in zip(x, group, strict=True):
            one = self.measurements[n]
            if one.photo is not None and one.square is not None:
                placed = put_back(one.photo, one.square, to_uint8(picture.cpu()))
                save_bytes(placed, labelled(out / PLACED, [self.labels[n]])[0])

    def _write_sheets(self, out: Path, group: Sequence[int], found: Inversion, errors: Sequence[float]) -> None:
        """Write the sheet of each picture, and of masks what is missing."""
        for i, n in enumerate(group):
            one, x = self.measurements[n], found.x[i].cpu()
            operator, y = copy.deepcopy(one.operator).cpu(), self.y[n].cpu()
            given = [] if one.photo is None else [_input_panel(one)]
            where = observed_panel(operator, y if one.framed is None else one.framed)
            result = Panel("reconstruction", x, f"measurement error {errors[i]:.3g}, {found.status[i]}")
            unsure = [] if found.spread is None else [spread_panel(found.spread[i].cpu())]
            panels = [*given, measurement_panel(y, operator), result, *([where] if where else []), *unsure]
            prior = f"{self.options.method} with the prior {self.options.snapshot}"
            sheet, mask = (labelled(out / name, [self.labels[n]])[0] for name in (SHEET, MASK))
            write_sheet(sheet, one.name, f"{operator.label}, {prior}", panels)
            if where is not None and isinstance(operator, Inpainting):
                save_png(readable(where.picture), mask)

    def _solver(self, options: ReconstructOptions, operator: Operator) -> Solver:
        settings = options.settings[options.method]
        (one,) = candidates_of_methods([options.method], options.settings, options.budget, [settings.selection])
        G, info = self.snapshot.generator, self.snapshot.info
        solver = solver_class(options.method)(G, one.settings_for(G.num_blocks, info, [info]), seed=options.seed)
        found = type(solver)(G, solver.settings_for(operator), seed=options.seed)
        found.open_networks()
        return found

    def _start(self, pictures: int) -> Start | None:
        options = self.options
        if options.start_from is None:
            return None
        before = _stamp(options.start_from)
        earlier = load_result(options.start_from)
        earlier.check_snapshot(self.snapshot)
        sha256 = sha256_of(options.start_from)
        if _stamp(options.start_from) != before:
            raise UserError(f"start_from {options.start_from} changed while it was read: start again")
        if len(earlier.y) != pictures:
            what = "a sequence starts from" if options.sequence else f"{options.input} has"
            raise UserError(f"start_from {options.start_from} holds {len(earlier.y)} pictures but {what} {pictures}")
        self.following.check_start(earlier.latents, pictures)
        attempts = len(earlier.latents["ws"])
        if options.frames is not None and attempts > 1:
            raise UserError(f"frames show one attempt but start_from holds {attempts}: leave one of them away")
        return Start(earlier.latents, sha256)

    def _invert(
        self, solver: Solver, group: Sequence[int], start: Start | None, progress: Progress
    ) -> tuple[Inversion, list[float], list[Tensor]]:
        """Invert measurements that belong together, as many at a time as fit.

        Args:
            solver: The inverter.
            group: Their numbers among all measurements; what is drawn for them depends on these alone.
            start: Where they start; None as usual.
            progress: Is told of every iterate.

        Returns:
            The result, on the CPU; the measurement error of each picture; and its frames [T, 3, R, R], bytes, or none.
        """
        most, operator = self.options.frames, self.measurements[group[0]].operator

        def of_batch(batch: Sequence[int]) -> tuple[Inversion, list[float], list[Tensor]]:
            recorder = None if most is None else FrameRecorder(most)
            places = [group.index(n) for n in batch]
            latents = None if start is None else {name: t[:, places] for name, t in start.latents.items()}
            y = self.y[list(batch)]
            watching: list[Callback] = [*progress.watching(operator, y), *([] if recorder is None else [recorder])]
            found = solver.invert(y, operator, [str(n) for n in batch], _all_of(watching), latents)
            progress.finish(len(batch))
            errors = operator.error(found.x, y).tolist()
            return found.to("cpu"), errors, [] if recorder is None else list(recorder.frames(found.x).unbind(1))

        parts = [part for _, part in self.batches.over(group, of_batch)]
        found = join_batches([found for found, _, _ in parts], sum(found.seconds for found, _, _ in parts))
        return found, [e for _, errors, _ in parts for e in errors], [f for _, _, shown in parts for f in shown]

    def _description(self) -> str:
        return f"{self.options.method}-{self.options.task}"


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is replaced."""
    if not os.path.exists(path):
        return None
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _input_panel(one: Measurement) -> Panel:
    assert one.photo is not None  # noqa: S101
    colour, alpha = one.photo[:3].float() / 255, one.photo[3:].float() / 255
    height, width = one.photo.shape[1:]
    return Panel("input", torch.lerp(torch.ones(()), colour, alpha), f"{width} x {height} pixels")


def _all_of(callbacks: Sequence[Callback]) -> Callback | None:
    """Return one callback that calls them all; None of none."""

    def call(k: int, step: int, x: Tensor) -> None:
        for callback in callbacks:
            callback(k, step, x)

    return call if callbacks else None
