"""``python eval.py``: compare checkpoints by how well they reconstruct held-out pictures."""

import logging
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from rtil.cli.classifier import TASK, ClassifierOptions, generate, plan_generation
from rtil.cli.common import given_names, kept_rows, run_command
from rtil.cli.variants import STANDARD_METHOD, read_variants
from rtil.devices import pick_device
from rtil.errors import UserError, unknown
from rtil.evaluation.candidates import (
    REFERENCES,
    Candidate,
    candidates_of_methods,
    candidates_of_variants,
    check_baselines,
    in_order,
)
from rtil.evaluation.curves import write_curves
from rtil.evaluation.methods import SolverOptions
from rtil.evaluation.overview import markdown_overview, terminal_overview
from rtil.evaluation.remarks import remarks
from rtil.evaluation.report import (
    MIXES_DIFFERENTLY,
    markdown_table,
    nonlinear_note,
    terminal_table,
    write_summary,
)
from rtil.evaluation.runner import Runner
from rtil.evaluation.study import (
    HeldOut,
    Place,
    Study,
    fit_linear_prior,
    heldout_pictures,
    heldout_source,
    open_linear_prior_data,
    places,
)
from rtil.files import write_text
from rtil.inverse.solver import Selection
from rtil.runs import EVAL_RUNS, check_resume, claim, new_run, newest_pair, read_settings, write_settings
from rtil.snapshot import Snapshot, load_snapshot
from rtil.weights.backbones import LpipsNet

IDENTITY = "identity"
SOLVERS = "solvers"
NOT_RESUMED = ("out", "resume", "device", "batch")


@dataclass
class EvalOptions(SolverOptions, ClassifierOptions):
    """Reconstruct held-out pictures from measurements and compare checkpoints on them.

    Args:
        method: Methods: ilo, csgm, pulse, sparse, mganprior; all with the same settings.
        variants: In place of method, named settings beside each other: {name: {method: ..., and whatever differs from
            the settings of the evaluation}}, of which selection may be one too. Without a method it is that of the
            name, if it is one, else ilo. With --resume others are added to the same table.
        baselines: Reconstructions without a checkpoint: adjoint, bicubic, tv, bm3d, each at the tasks that it is for.
        task: Tasks: cs, inpaint, box, sr, denoise, colorize, inversion, blur, motion, gaussian, mri, fourier, phase;
            or classifier, alone: pictures of its classes, with nothing to reconstruct.
        rates: Observed fractions of cs, gaussian, mri, fourier, box, and inpaint.
        factors: Factors of sr.
        sigmas: Noise of denoise, on the 0-255 scale.
        mask: Mask file of inpaint (white is observed), in place of rates.
        widths: Standard deviations of blur, in pixels.
        lengths: Lengths of motion, in pixels.
        exposures: Numbers of coded masks of phase.
        noise_sigma: Measurement noise of the tasks but denoise; pictures are in [0, 1].
        images: Number of held-out pictures.
        data: Held-out set: synthetic, or a folder or uncompressed zip; null is that of the checkpoints.
        split: Its part: validation or test; null is all of a set that was not trained on.
        checkpoints: name=PATH, once or more, each a run folder or a snapshot, of one resolution and any architectures;
            null is the newest vanilla and RTIL runs in runs/train that agree in architecture, data, resolution and
            kimg.
        selection: Which iterates are returned: measurement (lowest measurement error), heldout, last.
        seed: Root seed of operators, noise and solvers.
        lpips: Backbone of LPIPS: alex, vgg or none.
        linear: Evaluate the linear prior too, where the task is linear (all but phase).
        batch: Pictures inverted at a time; null chooses by their size.
        device: auto, cpu, cuda or cuda:N.
        out: Run folder to create; null is the next numbered one in runs/eval.
        resume: Go on with the run in out.
    """

    method: list[str] = field(default_factory=lambda: [STANDARD_METHOD])
    variants: dict[str, dict[str, Any]] | None = None
    baselines: list[str] = field(default_factory=list)
    task: list[str] = field(default_factory=lambda: ["cs"])
    rates: list[float] = field(default_factory=lambda: [0.1])
    factors: list[int] = field(default_factory=lambda: [4])
    sigmas: list[float] = field(default_factory=lambda: [25.0])
    mask: str | None = None
    widths: list[float] = field(default_factory=lambda: [2.0])
    lengths: list[float] = field(default_factory=lambda: [9.0])
    exposures: list[int] = field(default_factory=lambda: [4])
    noise_sigma: float = 0.0
    images: int = 32
    data: str | None = None
    split: HeldOut | None = None
    checkpoints: dict[str, str] | None = None
    selection: list[str] = field(default_factory=lambda: ["measurement"])
    seed: int = 0
    lpips: LpipsNet | Literal["none"] = "alex"
    linear: bool = True
    batch: int | None = None
    device: str = "auto"
    out: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        for name in self.selection:
            if name not in get_args(Selection):
                raise unknown("selection", name, get_args(Selection))
        for kind, chosen in (("method", self.method), ("selection", self.selection)):
            if not chosen or len(set(chosen)) != len(chosen):
                raise UserError(f"{kind} is {','.join(chosen)}: name at least one, and each once")
        if self.variants is not None and self.method != [STANDARD_METHOD]:
            raise UserError("variants take the place of method: leave method away, and give each variant its own")
        self.candidates()
        check_baselines(self.baselines)
        if self.batch is not None and self.batch < 1:
            raise UserError(f"batch is {self.batch}: valid is a whole number of 1 or more")
        for name in self.checkpoints or {}:
            if not re.fullmatch(r"[A-Za-z0-9._+][A-Za-z0-9._+-]*", name) or name in REFERENCES:
                raise UserError(f"checkpoint name '{name}' is not valid: use letters, digits, '.', '_', '+', '-'")
        if self.resume and self.out is None:
            raise UserError("--resume needs --out: give the folder of the run to go on with")
        self.check_classifier(self.task, self.method, self.selection, self.resume)
        if self.task != [TASK]:
            self.places()

    def places(self) -> list[Place]:
        """Return tasks and levels."""
        levels = self.rates, self.factors, self.sigmas, self.mask, self.widths, self.lengths, self.exposures
        return places(self.task, *levels)

    def candidates(self) -> list[Candidate]:
        """Return methods, or variants, with their settings."""
        selections = in_order(self.selection)
        if self.variants is None:
            return candidates_of_methods(self, self.method, selections)
        return candidates_of_variants(read_variants(self.variants, self, selections))

    def checkpoint_paths(self) -> dict[str, Path]:
        """Return the snapshots to compare, by name."""
        if self.checkpoints is None:
            return {name: run.snapshot for name, run in newest_pair().items()}
        return {name: Path(path) for name, path in self.checkpoints.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    logging.basicConfig(format="%(message)s")
    return run_command(run, EvalOptions, argv, "eval.py", plan)


def plan(options: EvalOptions) -> Iterator[str]:
    """Say what would be done."""
    if options.task == [TASK]:
        yield from plan_generation(options)
        return
    study = open_study(options)
    for name, snapshot in study.checkpoints.items():
        yield f"checkpoint {name}: {snapshot.path}"
    yield f"pictures: {len(study.pictures.keys)} of {study.pictures.data} ({study.pictures.split})"
    for item in study.work():
        name = f"{item.place.label}: {item.method} {item.checkpoint} {item.selection}".rstrip(" -")
        yield name + remarks(item, study.has_perceptual_term(item))
    for baseline in study.baselines:
        lacking = [place.label for place in study.places if baseline not in study.baselines_at(place)]
        if lacking:
            yield f"{baseline}: not for {', '.join(lacking)}"
    if any(item.mixes_differently for item in study.work()):
        yield MIXES_DIFFERENTLY
    if study.linear:
        yield from nonlinear_note([place.task for place in study.places])
    yield f"into {options.out or (EVAL_RUNS / 'NNNNN-').as_posix() + description(options, study)}"


def run(options: EvalOptions) -> None:
    """Evaluate as asked for."""
    if options.out is not None:
        check_resume(options.out, options.resume)
        options = resumed(options, options.out) if options.resume else options
    if options.task == [TASK]:
        generate(options)
        return
    study = open_study(options)
    folder = options.out or new_run(EVAL_RUNS, description(options, study))
    with claim(folder, options.resume), kept_rows(folder):
        before = check_identity(study, folder) if options.resume else {}
        write_settings(folder, settings(options, study, before))
        print(f"{len(study.pictures.keys)} pictures of {study.pictures.data} ({study.pictures.split}) into {folder}")
        for name, snapshot in study.checkpoints.items():
            print(f"checkpoint {name}: {snapshot.path} ({snapshot.info['kimg']:g} kimg)", flush=True)
        runner = Runner(study, folder, lambda: fit_linear_prior(first_info(study), study.resolution), options.batch)
        rows = runner.run()
        write_summary(rows, folder / "summary.csv")
        tables = [table for table in (markdown_overview(rows), markdown_table(rows)) if table]
        write_text(folder / "summary.md", "\n\n".join(tables) + "\n")
        grids = runner.write_grids()
        curves = write_curves(rows, folder)
        for table in (terminal_table(rows), terminal_overview(rows)):
            print(f"\n{table}" if table else "")
        print(f"summary: {folder / 'summary.csv'}")
        for path in [*curves, *grids]:
            print(f"pictures: {path}")


def open_study(options: EvalOptions) -> Study:
    """Open checkpoints and pictures; every mistake shows here, before anything is computed or written."""
    candidates = options.candidates()
    options.check_used(list(dict.fromkeys(c.series.method for c in candidates)), given_names(options))
    device = pick_device(options.device)
    paths = options.checkpoint_paths()
    checkpoints: dict[str, Snapshot] = {name: load_snapshot(path, device) for name, path in paths.items()}
    source, split = heldout_source([s.info for s in checkpoints.values()], options.data, options.split)
    resolution = next(iter(checkpoints.values())).generator.resolution
    study = Study(
        places=options.places(),
        candidates=candidates,
        checkpoints=checkpoints,
        pictures=heldout_pictures(source, resolution, split, options.images),
        seed=options.seed,
        noise_sigma=options.noise_sigma,
        lpips=None if options.lpips == "none" else options.lpips,
        linear=options.linear,
        baselines=options.baselines,
    )
    if options.linear and any(place.linear for place in study.places):
        open_linear_prior_data(first_info(study), resolution)
    return study


def first_info(study: Study) -> dict[str, Any]:
    """Return how the first checkpoint was trained."""
    return next(iter(study.checkpoints.values())).info


def description(options: EvalOptions, study: Study) -> str:
    """Return the second half of a run folder's name."""
    data = "synthetic" if study.pictures.data == "synthetic" else Path(study.pictures.data).stem
    methods = dict.fromkeys(candidate.series.method for candidate in study.candidates)
    words = ["+".join(methods), "+".join(options.task), data, str(study.resolution)]
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", "-".join(words))


def settings(options: EvalOptions, study: Study, before: dict[str, Any]) -> dict[str, Any]:
    """Return what settings.json holds: options, checkpoints (named, also if they were found), and what stays.

    Args:
        options: The options.
        study: The evaluation.
        before: The settings of a run that is resumed, else empty: its weights and solvers stay recorded.
    """
    paths = {name: str(snapshot.path) for name, snapshot in study.checkpoints.items()}
    given = asdict(options) | {"out": None if options.out is None else str(options.out), "checkpoints": paths}
    checkpoints = {
        name: {"path": str(snapshot.path), "weight_hash": snapshot.weight_hash, "info": snapshot.info}
        for name, snapshot in study.checkpoints.items()
    }
    identity = study.identity()
    identity["weights"] = before.get(IDENTITY, {}).get("weights", {}) | identity["weights"]
    solvers = before.get(SOLVERS, {}) | {item.settings: dict(item.arguments) for item in study.work()}
    return {"options": given, "checkpoints": checkpoints, SOLVERS: solvers, IDENTITY: identity}


def resumed(options: EvalOptions, folder: Path) -> EvalOptions:
    """Return the options of the run in a folder, with those changed that are given now."""
    before = read_settings(folder).get("options")
    if not isinstance(before, dict):
        raise UserError(f"{folder} holds no evaluation: give the folder of one as --out")
    standard, given = asdict(EvalOptions()), asdict(options)
    for name in NOT_RESUMED:
        before[name] = given[name]
    changed = {name: value for name, value in given.items() if name in given_names(options)}
    replaced = {"variants": "method", "method": "variants"}
    gone = [other for name, other in replaced.items() if name in changed and other not in changed]
    known = {name: value for name, value in before.items() if name in standard and name not in gone}
    return EvalOptions(**known | changed)


def check_identity(study: Study, folder: Path) -> dict[str, Any]:
    """Refuse to add rows of other pictures or weights to a run; returns its settings so far.

    Raises:
        UserError: The run in the folder used others under the same name.
    """
    settings_before, now = read_settings(folder), study.identity()
    before = settings_before[IDENTITY]
    if before["pictures"] != now["pictures"]:
        raise UserError(f"{folder} used pictures {before['pictures']}, not {now['pictures']}: give another --out")
    weights: dict[str, str] = before["weights"]
    for name, digest in now["weights"].items():
        if weights.get(name, digest) != digest:
            raise UserError(f"checkpoint '{name}' of {folder} had other weights: name it otherwise, or another --out")
    return settings_before


if __name__ == "__main__":
    sys.exit(main())
