"""A reconstruction from the user's own measurements, opened and run; the options are in :mod:`rtil.cli.reconstruct`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from rtil.cli.common import given_names
from rtil.cli.measurements import read_measurement, read_sequence
from rtil.cli.reconstruct import RESULT, ReconstructOptions
from rtil.cli.reconstruction_files import (
    FRAMES,
    HISTORY,
    PICTURE,
    RESULT_FILE,
    SPREAD,
    images_of,
    lines_of,
    numbered,
    sha256_of,
    write_pictures,
    write_spread,
)
from rtil.devices import pick_device
from rtil.errors import UserError
from rtil.evaluation.batches import Batches
from rtil.evaluation.candidates import candidates_of_methods, check_used
from rtil.files import write_text
from rtil.inverse.frames import FrameRecorder, write_animation
from rtil.inverse.history import write_history
from rtil.inverse.operators import Operator
from rtil.inverse.recipe import make_with_recipe
from rtil.inverse.registry import solver_class
from rtil.inverse.result import Inversion, join_batches
from rtil.inverse.result_file import ResultFile, load_result, save_result
from rtil.inverse.solver import Solver
from rtil.priors import chosen_prior
from rtil.runs import new_run
from rtil.snapshot import load_snapshot

RECONSTRUCT_RUNS = Path("runs/reconstruct")


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
        options.snapshot = chosen_prior(options.snapshot)
        self.snapshot = load_snapshot(options.snapshot, device)
        side = self.snapshot.generator.resolution
        operator, self.recipe = make_with_recipe(
            options.task,
            (3, side, side),
            rate=options.rate,
            factor=options.factor,
            sigma=options.sigma,
            mask=options.mask,
            width=options.width,
            length=options.length,
            exposures=options.exposures,
            seed=options.operator_seed,
        )
        self.first = self.following = self._solver(options, operator)
        if options.frame_steps is not None:
            later = replace(options, steps=options.frame_steps, steps_preset=None, rounds=None)
            self.following = self._solver(later, operator)
        if options.sequence:
            y, self.names = read_sequence(options.input_path, operator, options.fit)
        else:
            y = read_measurement(options.input_path, operator, options.fit)
            self.names = [options.input_path.name] * len(y)
        self.start = self._start(1 if options.sequence else len(y))
        self.operator, self.y = operator.to(device), y.to(device)
        self.batches = Batches(options.batch, side, device)

    def plan(self) -> Iterator[str]:
        """Say what would be done."""
        options = self.options
        start = "" if options.start_from is None else f", starting from {options.start_from}"
        yield (
            f"reconstruct {len(self.y)} x {self.operator.label} from {options.input_path} with {options.method} of "
            f"{self.snapshot.path}{', as a sequence' if options.sequence else ''}{start}"
        )
        yield f"into {options.out or (RECONSTRUCT_RUNS / 'NNNNN-').as_posix() + self._description()}"

    def run(self) -> None:
        """Reconstruct; of a sequence frame after frame."""
        options, count = self.options, len(self.y)
        groups = [range(n, n + 1) for n in range(count)] if options.sequence else [range(count)]
        out, start, seconds, images = options.out, self.start, 0.0, list[dict[str, Any]]()
        for number, group in enumerate(groups):
            solver = self.first if start is None else self.following
            found, errors, animations = self._invert(solver, group, start)
            out = out or new_run(RECONSTRUCT_RUNS, self._description())
            here = slice(group.start, group.stop)
            pictures = numbered(out / PICTURE, count)[here]
            write_pictures(found.x, pictures)
            for path, frames in zip(numbered(out / FRAMES, count)[here], animations, strict=bool(animations)):
                write_animation(frames, path)
            if found.spread is not None:
                write_spread(found.x, found.spread, numbered(out / SPREAD, len(groups))[number])
            write_history(numbered(out / HISTORY, len(groups))[number], found.history, self.names[here], group.start)
            settings = solver.settings_for(self.operator).to_json() | {"seed": options.seed}
            settings |= {} if start is None else {"start_from": start.sha256}
            kept = ResultFile.of(found, self.y[here], self.recipe, self.snapshot, options.method, settings)
            result_file = numbered(out / RESULT_FILE, len(groups))[number]
            save_result(result_file, kept)
            images += images_of(found, self.names[here], pictures, errors)
            seconds += found.seconds
            print(*lines_of(pictures, images[here]), sep="\n", flush=True)
            start = Start(found.latents, sha256_of(result_file))
        assert out is not None  # noqa: S101  there is at least one measurement
        about = {"path": str(self.snapshot.path), "weight_hash": self.snapshot.weight_hash, "info": self.snapshot.info}
        report = {"images": images, "seconds": seconds, "settings": options.table(), "snapshot": about}
        write_text(out / RESULT, json.dumps(report, indent=2) + "\n")

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
        earlier = load_result(options.start_from)
        earlier.check_snapshot(self.snapshot)
        if len(earlier.y) != pictures:
            what = "a sequence starts from" if options.sequence else f"{options.input} has"
            raise UserError(f"start_from {options.start_from} holds {len(earlier.y)} pictures but {what} {pictures}")
        self.following.check_start(earlier.latents, pictures)
        attempts = len(earlier.latents["ws"])
        if options.frames is not None and attempts > 1:
            raise UserError(f"frames show one attempt but start_from holds {attempts}: leave one of them away")
        return Start(earlier.latents, sha256_of(options.start_from))

    def _invert(self, solver: Solver, group: range, start: Start | None) -> tuple[Inversion, list[float], list[Tensor]]:
        """Invert measurements that belong together, as many at a time as fit.

        Args:
            solver: The inverter.
            group: Their numbers among all measurements; what is drawn for them depends on these alone.
            start: Where they start; None as usual.

        Returns:
            The result, on the CPU; the measurement error of each picture; and its frames [T, 3, R, R], bytes, or none.
        """
        frames = self.options.frames

        def of_batch(batch: Sequence[int]) -> tuple[Inversion, list[float], list[Tensor]]:
            images = slice(batch[0], batch[-1] + 1)
            recorder = None if frames is None else FrameRecorder(frames)
            place = slice(images.start - group.start, images.stop - group.start)
            latents = None if start is None else {name: t[:, place] for name, t in start.latents.items()}
            y = self.y[images]
            found = solver.invert(y, self.operator, [str(n) for n in batch], callback=recorder, start_from=latents)
            errors = self.operator.error(found.x, y).tolist()
            return found.to("cpu"), errors, [] if recorder is None else list(recorder.frames(found.x).unbind(1))

        parts = [part for _, part in self.batches.over(group, of_batch)]
        found = join_batches([found for found, _, _ in parts], sum(found.seconds for found, _, _ in parts))
        return found, [e for _, errors, _ in parts for e in errors], [f for _, _, shown in parts for f in shown]

    def _description(self) -> str:
        return f"{self.options.method}-{self.options.task}"
