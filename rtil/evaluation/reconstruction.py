"""Held-out pictures, measured and reconstructed: the experiment behind every task but ``classifier``.

Besides each method's own result a row holds what the truth alone can tell: the PSNR of the iterate nearest to it (the
oracle), watched through the solver's callback, and the PSNR after every round. The time that watching takes is not
counted among a method's seconds.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rtil.baselines import Reconstruct, baselines_of, open_baseline
from rtil.devices import wait_for
from rtil.errors import UserError
from rtil.evaluation.calibration import Calibrations, Estimate
from rtil.evaluation.candidates import LINEAR, Candidate
from rtil.evaluation.conditions import Condition
from rtil.evaluation.figures import show_measurement
from rtil.evaluation.fusions import Fusions
from rtil.evaluation.held_out import HeldOutPictures, picture_hash
from rtil.evaluation.jobs import Batch, Experiment, Grid, Job, Record, Saved
from rtil.evaluation.linear_prior import LinearPrior, PosteriorMean
from rtil.evaluation.metrics import Metrics, psnr
from rtil.evaluation.notes import nonlinear_note
from rtil.evaluation.representation import Explained, check_size
from rtil.evaluation.representations import Representations
from rtil.evaluation.stopwatch import Stopwatch
from rtil.evaluation.training_pictures import TrainingPictures
from rtil.inverse.back_projection import reported
from rtil.inverse.intervals import coverage
from rtil.inverse.operators import LinearOperator, Operator
from rtil.inverse.result import Inversion
from rtil.inverse.settings import SolverSettings
from rtil.inverse.solver import Solver
from rtil.layout import LpipsNet

SHOWN = 8
"""Pictures of a grid."""


class Oracle:
    """Watches a solver's iterates: the best PSNR [N] against the truth, in dB, and the seconds spent on that.

    Each iterate is taken as it would be returned, after back-projection and the operator's ``consistent`` step.
    """

    def __init__(self, truth: Tensor, operator: Operator, y: Tensor, back_projection: bool = False) -> None:
        self.truth, self.operator, self.y, self.back_projection = truth, operator, y, back_projection
        self.stopwatch = Stopwatch(truth.device)
        self.best = torch.full((len(truth),), -torch.inf, device=truth.device)

    def __call__(self, round_number: int, step: int, x: Tensor) -> None:
        """Look at one iterate."""
        with self.stopwatch.running():
            self.best = torch.fmax(
                self.best, psnr(reported(x, self.y, self.operator, self.back_projection), self.truth)
            )


class Reconstruction(Experiment):
    """See the module.

    Args:
        conditions: Tasks and levels.
        pictures: The held-out pictures.
        device: Of the checkpoints.
        seed: Root seed of operators and noise.
        noise_sigma: Measurement noise of tasks that have none of their own.
        lpips: Backbone of LPIPS; None for no LPIPS.
        kept: Pictures of which results are kept; those of the grids always are.
        baselines: Reconstructions without a checkpoint, each where the operator has it.
        drunet: Weights of the baseline dpir.
        linear_data: Which pictures the linear prior is fitted to, for the record; None for no linear prior.
        fit_linear_prior: Called once, when it is needed.
        training: Pictures to which fusion and representation are fitted; None without linear prior.
        calibrations: Fits by what intervals are widened; None where no validation pictures are known.

    Raises:
        UserError: The packages of a baseline are not installed.
    """

    def __init__(
        self,
        conditions: Sequence[Condition],
        pictures: HeldOutPictures,
        device: torch.device,
        *,
        seed: int = 0,
        noise_sigma: float = 0.0,
        lpips: LpipsNet | None = "alex",
        kept: int = SHOWN,
        baselines: Sequence[str] = (),
        drunet: Path | None = None,
        linear_data: str | None = None,
        fit_linear_prior: Callable[[], LinearPrior] | None = None,
        training: TrainingPictures | None = None,
        calibrations: Calibrations | None = None,
    ) -> None:
        self.conditions: Sequence[Condition] = conditions
        self.pictures, self.device = pictures, device
        self.ids, self.resolution, self.gone = pictures.keys, pictures.images.shape[-1], pictures.gone
        self.seed, self.noise_sigma, self.lpips, self.linear_data = seed, noise_sigma, lpips, linear_data
        self.shown = min(SHOWN, len(self.ids))
        self.kept = max(self.shown, kept)
        self.truth = (pictures.images.float() / 255).to(device)
        self.baselines = baselines
        self._drunet = None if drunet is None or "dpir" not in baselines else _content(drunet)
        self._fit, self._calibrations, self._training_pictures = fit_linear_prior, calibrations, training
        self._fusions = None if training is None else Fusions(training)
        self._representations = None if training is None else Representations(training)
        self._explained: tuple[str, Operator, Explained] | None = None
        self._linear: LinearPrior | None = None
        self._conditioned: tuple[Operator, PosteriorMean] | None = None
        self._metrics: Metrics | None = None
        self._opened: dict[str, Reconstruct] = {}
        for condition in conditions if baselines else ():
            operator = self.operator(condition)
            self._opened |= {n: open_baseline(n, drunet) for n in self._baselines_at(operator) if n not in self._opened}

    def operator(self, condition: Condition) -> Operator:
        """Return what measures; see :meth:`Experiment.operator`."""
        return condition.operator(self.resolution, self.seed, self.noise_sigma).to(self.device)

    def identity(self) -> Record:
        """Return where the pictures come from, and the noise; what each one is to the last byte, its rows tell."""
        of = self.pictures
        origin = {"data": of.data, "split": of.split, "which": of.which, "resolution": self.resolution}
        return {"pictures": origin, "noise_sigma": self.noise_sigma}

    def content(self, index: int) -> str:
        """Return the hash of a picture."""
        return self._content[index]

    @cached_property
    def _content(self) -> list[str]:
        return [picture_hash(picture) for picture in self.pictures.images]

    def recorded(self, condition: Condition) -> Record:
        """Return noise, LPIPS backbone and the content of a mask file."""
        return {"noise_sigma": self.noise_sigma, "lpips": self.lpips, **condition.settings()}

    def settings_for(self, candidate: Candidate, solver: Solver, operator: Operator) -> SolverSettings:
        """Return what acts on these measurements."""
        if candidate.representation and solver.settings.selection == "auto":  # it judges by all measurements
            solver = type(solver)(solver.generator, solver.settings.changed(selection="measurement"), seed=solver.seed)
        settings = solver.settings_for(operator)
        type(solver)(solver.generator, settings).open_networks()
        return settings

    def afterwards(self, candidate: Candidate, condition: Condition) -> Record:
        """Return fusion, representation, calibration, and their pictures; see :meth:`Experiment.afterwards`."""
        own = [self._training(candidate, condition, name) for name in ("fusion", "representation")]
        if candidate.representation:
            check_size(3 * self.resolution**2)
            settings = candidate.settings
            if settings.selection not in ("auto", "measurement", "last") or settings.back_projection:
                what = "back_projection" if settings.back_projection else f"selection '{settings.selection}'"
                raise UserError(
                    f"{what} is not for representation, whose pictures agree with all measurements: leave one away"
                )
        return own[0] | own[1] | self._calibration(candidate)

    def _calibration(self, candidate: Candidate) -> Record:
        wanted = candidate.calibration
        if not wanted:
            return {}
        if not candidate.settings.has_spread:
            raise UserError(
                f"calibration is {wanted} but one attempt has no spread: add --restarts 4 --combination mean, or take "
                "method langevin"
            )
        if self._calibrations is None:
            raise UserError(f"calibration is {wanted} but no checkpoint says what it was trained on: leave it away")
        self._calibrations.check(wanted)
        return {"calibration": {"pictures": wanted, "data": self._calibrations.data}}

    def _training(self, candidate: Candidate, condition: Condition, name: str) -> Record:
        wanted: int = getattr(candidate, name)
        if not wanted:
            return {}
        if self._training_pictures is None or not condition.linear:
            what = "a linear prior" if condition.linear else f"linear tasks, which {condition.task} is not"
            raise UserError(f"{name} is {wanted} but needs {what}: leave it away")
        self._training_pictures.check(name, wanted)
        return {name: {"pictures": wanted, "data": self.linear_data}}

    def originals(self) -> Tensor:
        """Return the truth."""
        return self.truth[: self.kept].cpu()

    def references(self, condition: Condition, operator: Operator) -> dict[str, Record]:
        """Return the baselines that the operator has, and the linear prior where it is linear."""
        found: dict[str, Record] = {name: {"baseline": name} for name in self._baselines_at(operator)}
        if "dpir" in found:
            found["dpir"] |= {"weights": self._drunet}
        if self.linear_data is not None and condition.linear:
            found[LINEAR] = {"data": self.linear_data}
        return found

    def plan(self) -> Iterator[str]:
        """Yield the pictures, and what is not for all tasks."""
        yield f"pictures: {len(self.ids)} of {self.pictures.data} ({self.pictures.split})"
        for name in self.baselines:
            lacking = [c.label for c in self.conditions if name not in self._baselines_at(self.operator(c))]
            if lacking:
                yield f"{name}: not for {', '.join(lacking)}"
        if self.linear_data is not None:
            yield from nonlinear_note([condition.task for condition in self.conditions])

    def invert(self, job: Job, solver: Solver | None, operator: Operator, indices: Sequence[int]) -> Batch:
        """Reconstruct some of the pictures; see :meth:`Experiment.invert`."""
        truth, ids = self.truth[list(indices)], [self.ids[index] for index in indices]
        y = operator(truth, ids)
        spread = None
        if solver is None:
            x, of_method = self._refer(job, operator, y)
        else:
            seen = self._seen(job, solver, operator, len(y))
            found, of_method = _solve(solver, seen, y, truth, ids)
            estimate = self._estimate(job, solver, operator, y, found)
            x, spread = estimate.x, estimate.spread
            if spread is not None:
                of_method |= self._judged(job, solver, operator, estimate, truth)
        if self._metrics is None:
            self._metrics = Metrics(self.lpips, self.device)
        judged: dict[str, Any] = {name: t.tolist() for name, t in self._metrics(x, truth).items()}
        columns = judged | {"measurement_error": operator.error(x, y).tolist()} | of_method
        return Batch(x, [{name: values[n] for name, values in columns.items()} for n in range(len(x))], spread)

    def grids(self, jobs: Sequence[Job], saved: Saved) -> Iterator[Grid]:
        """Yield a grid for each condition and method: truth, measurement, each checkpoint, baselines, linear prior.

        Variants are beside each other: a grid for each condition and checkpoint.
        """
        shown, truth = self.shown, self.truth[: self.shown]
        for condition in self.conditions:
            operator = self.operator(condition)
            measured = show_measurement(operator(truth, self.ids[:shown]), operator).cpu()
            here = [job for job in jobs if job.condition == condition]
            last = {job.method: saved(job, shown) for job in here if job.settings is None}
            for name, columns in _columns([job for job in here if job.settings is not None]).items():
                found: dict[str, Tensor] = {}
                for label, job in columns.items():
                    found[label], spread = saved(job, shown), saved.spread(job, shown)
                    found |= {} if spread is None else {f"{label} std": spread}
                observed = {"truth": truth.cpu(), "measurement": measured}
                yield Grid(f"grid-{condition.slug}-{name}", observed | found | last)

    def _baselines_at(self, operator: Operator) -> list[str]:
        return [name for name in self.baselines if name in baselines_of(operator)]

    def _refer(self, job: Job, operator: Operator, y: Tensor) -> tuple[Tensor, dict[str, list[Any]]]:
        reconstruct = self._posterior_mean(operator) if job.method == LINEAR else self._opened[job.method]
        started = time.perf_counter()
        found = reconstruct(y) if job.method == LINEAR else reconstruct(y, operator)  # type: ignore[call-arg]
        x = operator.consistent(found.clamp(0, 1), y)
        wait_for(x.device)
        seconds = (time.perf_counter() - started) / len(x)
        return x, {"seconds": [seconds] * len(x)}

    def _seen(self, job: Job, solver: Solver, operator: Operator, batch: int) -> Operator:
        """Return the operator as the solver sees it: what is no picture of its generator may count as noise."""
        if job.candidate is None or not job.candidate.representation:
            return operator
        if self._explained is None or self._explained[:2] != (job.hash + job.checkpoint, operator):
            assert isinstance(operator, LinearOperator) and self._representations is not None  # noqa: S101, PT018
            errors = self._representations.of(job, solver, self._axes, batch)
            self._explained = job.hash + job.checkpoint, operator, Explained(operator, errors)
        return self._explained[2]

    def _estimate(self, job: Job, solver: Solver, operator: Operator, y: Tensor, found: Inversion) -> Estimate:
        """Return what becomes of what a solver found, as it sees the operator."""
        x, spread, attempts = found.x, found.spread, len(found.latents.ws)
        seen = self._seen(job, solver, operator, len(y))
        if isinstance(seen, Explained):
            x = seen.complete(x, y).clamp(0, 1)
            if spread is not None:
                spread = seen.spread(found.latents.render_attempts(solver.generator), y)
        if job.candidate is not None and job.candidate.fusion:
            assert self._fusions is not None  # noqa: S101  afterwards
            alone = replace(job, candidate=job.candidate._replace(fusion=0))

            def find(y: Tensor, ids: Sequence[str]) -> Tensor:
                return self._estimate(alone, solver, operator, y, solver.invert(y, seen, ids)).x

            linear = self._posterior_mean(operator)(y).clamp(0, 1)
            fusion = self._fusions.of(job, solver, operator, self._axes(), len(y), find)
            x = reported(fusion(linear, x).clamp(0, 1), y, operator, solver.settings.back_projection)
        return Estimate(x, spread, attempts)

    def _judged(
        self, job: Job, solver: Solver, operator: Operator, found: Estimate, truth: Tensor
    ) -> dict[str, list[Any]]:
        """Return what is told of intervals, as columns of the rows."""
        scale, seen = 1.0, self._seen(job, solver, operator, len(truth))
        if job.candidate is not None and job.candidate.calibration:
            assert self._calibrations is not None  # noqa: S101  afterwards

            def estimate(y: Tensor, ids: list[str]) -> Estimate:
                return self._estimate(job, solver, operator, y, solver.invert(y, seen, ids))

            scale = self._calibrations.of(job, solver, operator, len(truth), estimate)
        assert found.spread is not None  # noqa: S101
        shares = coverage(found.x, found.spread, truth, found.attempts, scale)
        return {
            "coverage": [tuple(of_image) for of_image in shares.tolist()],
            "spread": found.spread.flatten(1).mean(1).tolist(),
            "interval_scale": [scale] * len(truth),
        }

    def _axes(self) -> Tensor:
        """Return the principal axes of the training pictures."""
        return self._linear_prior().axes

    def _linear_prior(self) -> LinearPrior:
        if self._linear is None:
            assert self._fit is not None  # noqa: S101  it is evaluated
            self._linear = self._fit()
        return self._linear

    def _posterior_mean(self, operator: Operator) -> PosteriorMean:
        if self._conditioned is None or self._conditioned[0] is not operator:
            self._conditioned = operator, self._linear_prior().condition(operator)
        return self._conditioned[1]


def _solve(
    solver: Solver, operator: Operator, y: Tensor, truth: Tensor, ids: Sequence[str]
) -> tuple[Inversion, dict[str, list[Any]]]:
    """Return the inversion, and columns of the rows."""
    oracle = Oracle(truth, operator, y, solver.settings.back_projection)
    found = solver.invert(y, operator, ids, callback=oracle)
    rounds = torch.stack([psnr(x, truth) for x in found.rounds], 1)
    seconds = (found.seconds - oracle.stopwatch.seconds) / len(y)
    # iterates may be seen in bfloat16 and restarts be averaged: what is returned counts as well
    best = torch.fmax(oracle.best, torch.fmax(rounds.amax(1), psnr(found.x, truth)))
    columns: dict[str, list[Any]] = {
        "seconds": [seconds] * len(y),
        "status": list(found.status),
        "psnr_oracle": best.tolist(),
        "psnr_round": [tuple(of_image) for of_image in rounds.tolist()],
    }
    converged = found.latents.converged
    return found, columns if converged is None else columns | {"converged": converged}


def _content(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest() if path.is_file() else ""


def _columns(jobs: Sequence[Job]) -> dict[str, dict[str, Job]]:
    """Return {end of the file's name: {label of a column: job}}."""
    variants = any(job.candidate is not None and job.candidate.is_variant for job in jobs)
    found: dict[str, dict[str, Job]] = {}
    for job in jobs:
        name, label = (job.checkpoint, job.method) if variants else (job.method, job.checkpoint)
        several = len({other.selection for other in jobs if other.method == job.method}) > 1
        found.setdefault(f"{name}-{job.selection}" if several else name, {})[label] = job
    return found
