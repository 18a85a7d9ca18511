"""``python eval.py``: compare checkpoints by how well they reconstruct held-out pictures."""

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from rtil.cli.common import Work, given_names, read_table, run_command
from rtil.errors import UserError, unknown
from rtil.evaluation.candidates import (
    CLASSIFIER,
    REFERENCES,
    STANDARD_METHOD,
    Candidate,
    Estimation,
    HeldOut,
    candidates_of_methods,
    candidates_of_variants,
    check_baselines,
    check_used,
    short_names,
    standard_settings,
)
from rtil.evaluation.shards import Shard
from rtil.inverse.registry import method_names, settings_class
from rtil.inverse.settings import Selection, SolverSettings
from rtil.layout import LpipsNet

MOST_DEVICES = 64


@dataclass
class EvalOptions(Estimation):
    """Reconstruct held-out pictures from measurements and compare checkpoints on them.

    Args:
        method: Methods, each with its own settings and all with the same steps: ilo, csgm, langevin, multicut, pulse,
            sparse, mganprior, and those that installed packages add.
        variants: In place of method, named settings beside each other: {name: {method: ..., and whatever differs from
            the settings of the evaluation}}, of which selection may be one too. Without a method it is that of the
            name, if it is one, else ilo. With --resume others are added to the same table.
        baselines: Reconstructions without a checkpoint: adjoint, bicubic, tv, bm3d, pnp-bm3d, dpir, each at the
            tasks that it is for.
        drunet: Weights of dpir: a state dict of deepinv's DRUNet for colours.
        task: Tasks: cs, inpaint, box, hole, sr, denoise, colorize, inversion, blur, motion, gaussian, mri, fourier,
            phase, fourier_phase, hdr, each at the levels below, or at one of its own: inpaint:0.08. Or classifier,
            alone: pictures of its classes, with nothing to reconstruct.
        rates: Observed fractions of cs, gaussian, mri, fourier, box, hole, and inpaint.
        factors: Factors of sr.
        sigmas: Noise of denoise, on the 0-255 scale.
        mask: Mask file of inpaint (white is observed), in place of rates.
        widths: Standard deviations of blur, in pixels.
        lengths: Lengths of motion, in pixels.
        exposures: Numbers of coded masks of phase.
        noise_sigma: Measurement noise of the tasks but denoise; pictures are in [0, 1].
        images: Number of held-out pictures.
        pictures: Which ones: drawn (once for all, by no seed), first (by name), or a text file of names, one a line.
        keep_pictures: Results (and truths) kept as PNG files in pictures/, without rescaling; null is all of them. Of a
            run that is resumed, those still to come.
        data: Held-out set: synthetic, or a folder or uncompressed zip; null is that of the checkpoints.
        split: Its part: validation or test; null is all of a set that was not trained on.
        checkpoints: name=PATH, once or more, each a run folder, a snapshot, a shipped prior (shipped:rtil) or another
            project's checkpoint, of one resolution and any architectures; null is the newest vanilla and RTIL runs in
            runs/train that agree in architecture, data, resolution and kimg, or the shipped pair where there is no run.
        selection: Which iterates are returned: auto (sure for methods that would fit the known noise of a denoising
            task, else measurement), measurement (lowest measurement error), heldout, last, crossfit, discrepancy (where
            the noise is known), sure (denoising).
        seed: Root seed of operators, noise and solvers.
        lpips: Backbone of LPIPS: alex, vgg or none.
        linear: Evaluate the linear prior too, where the task is linear (all but phase, fourier_phase, hdr).
        linear_data: Training pictures to fit it to: synthetic, or a folder or uncompressed zip; null is what the first
            checkpoint that says so was trained on. Of a set that is data too, the validation part is evaluated.
        classifier: For the task classifier: torchvision:NAME (torchvision's weights, downloaded once),
            torchvision:NAME=PATH (a state dict, or a checkpoint of the robustness library), or efficientnet-lite0 (pip
            install rtil[classifier]).
        classes: Its classes, by name (ImageNet's as torchvision spells them, with _ for spaces if so wanted) or number:
            the rows of the grid.
        radius_scales: Columns of the grid: factors of the radii of the l1 balls, which are those of radii or radius_*
            and without any those of a61-1; none for no ball.
        pictures_per_class: Pictures of each class and radius; all classes and radii start from the same ones.
        classifier_side: Side in pixels at which the classifier sees pictures; null is that of its training. Smaller is
            faster.
        batch: Pictures inverted at a time; null chooses by their size.
        device: auto (cuda where there is one, else cpu), cpu, cuda, cuda:N or mps.
        out: Run folder to create; null is the next numbered one in runs/eval.
        resume: Go on with the run in out.
        shard: Compute one of n shares of the work, i/n: n processes, on one machine or many, run the same command with
            1/n to n/n, at any time and into one folder or each its own; rtil merge joins them. Of a shard that was
            killed the same command goes on.
        devices: Processes that share the work on this machine, one for each GPU (auto: all of them), or of a CPU; the
            rows are joined at the end. With shard, each has a part of that.
    """

    method: list[str] = field(default_factory=lambda: [STANDARD_METHOD])
    variants: dict[str, dict[str, Any]] | None = None
    baselines: list[str] = field(default_factory=list)
    drunet: Path | None = None
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
    pictures: str = "drawn"
    keep_pictures: int | None = 8
    data: str | None = None
    split: HeldOut | None = None
    checkpoints: dict[str, str] | None = None
    selection: list[str] = field(default_factory=lambda: ["auto"])
    seed: int = 0
    lpips: LpipsNet | Literal["none"] = "alex"
    linear: bool = True
    linear_data: str | None = None
    classifier: str | None = None
    classes: list[str] = field(default_factory=list)
    radius_scales: list[str] = field(default_factory=lambda: ["0.25", "1", "4", "none"])
    pictures_per_class: int = 4
    classifier_side: int | None = None
    batch: int | None = None
    device: str = "auto"
    out: Path | None = None
    resume: bool = False
    shard: str | None = None
    devices: int | Literal["auto"] = 1
    settings: dict[str, SolverSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings = standard_settings() | self.settings
        for name in self.selection:
            if name not in get_args(Selection):
                raise unknown("selection", name, get_args(Selection))
        for kind, chosen in (("method", self.method), ("selection", self.selection)):
            if not chosen or len(set(chosen)) != len(chosen):
                raise UserError(f"{kind} is {','.join(chosen)}: name at least one, and each once")
        if "auto" in self.selection and len(self.selection) > 1:
            raise UserError(f"selection is {','.join(self.selection)}: auto stands for one of them, so it stands alone")
        if self.variants is not None and self.method != [STANDARD_METHOD]:
            raise UserError("variants take the place of method: leave method away, and give each variant its own")
        check_baselines(self.baselines)
        for name in ("batch", "pictures_per_class", "keep_pictures"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}: valid is a whole number of 1 or more")
        for name in self.checkpoints or {}:
            if not re.fullmatch(r"[A-Za-z0-9._+][A-Za-z0-9._+-]*", name) or name in REFERENCES:
                raise UserError(f"checkpoint name '{name}' is not valid: use letters, digits, '.', '_', '+', '-'")
        if self.resume and self.out is None:
            raise UserError("--resume needs --out: give the folder of the run to go on with")
        if self.shard is not None:
            Shard.parse(self.shard)
            if self.out is None:
                raise UserError("--shard needs --out: give the folder that all shards share, or one for each machine")
        if isinstance(self.devices, int) and not 1 <= self.devices <= MOST_DEVICES:
            raise UserError(f"devices is {self.devices}: valid is auto, or 1 to {MOST_DEVICES}")

    def check_task(self) -> None:
        """Check what the task classifier needs, or that nothing of it is given without it.

        Raises:
            UserError: An option is missing, not valid, or does not fit.
        """
        if CLASSIFIER not in self.task:
            for name in ("classifier", "classes"):
                if getattr(self, name):
                    tasks = ", ".join(self.task)
                    raise UserError(f"{name} is of task classifier, not of {tasks}: add --task classifier")
            return
        if self.task != [CLASSIFIER]:
            others = ", ".join(task for task in self.task if task != CLASSIFIER)
            raise UserError(f"task 'classifier' has no picture to reconstruct: evaluate {others} on its own")
        for name in ("variants", "baselines"):
            if getattr(self, name):
                raise UserError(f"{name} are not for task classifier: leave them away")
        if len(self.selection) != 1 or self.selection[0] not in ("auto", "measurement", "last"):
            given = ",".join(self.selection)
            raise UserError(f"selection is {given}: for task classifier valid is measurement or last")
        if not self.classifier:
            raise UserError(
                "task 'classifier' needs --classifier: torchvision:NAME, torchvision:NAME=PATH, efficientnet-lite0"
            )
        if not self.classes or not all(self.classes):
            raise UserError("task 'classifier' needs --classes, names or numbers, such as goldfish,tench")
        if self.classifier_side is not None and self.classifier_side < 32:
            raise UserError(f"classifier_side is {self.classifier_side}: valid is 32 or more, or null")

    def candidates(self) -> list[Candidate]:
        """Return methods, or variants, with their settings.

        Raises:
            UserError: One is not valid, or a setting that was given has no effect.
        """
        selections = [name for name in get_args(Selection) if name in self.selection]
        if self.variants is None:
            found = candidates_of_methods(self.method, self.settings, self.budget, selections)
        else:
            found = candidates_of_variants(self.variants, self.settings, self.budget, selections, read_variant)
        check_used(list(dict.fromkeys(c.method for c in found)), self.settings, given_names(self))
        return found


def nested() -> dict[str, type]:
    """Return the settings that have the name of their method before them."""
    return {name: settings_class(name) for name in method_names()}


def short() -> dict[str, tuple[str, ...]]:
    """Return the names without a method; ``selection`` is an option of an evaluation itself."""
    return {name: targets for name, targets in short_names().items() if name != "selection"}


def read_variant(table: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Type a table of a variant's settings."""
    return read_table(Estimation, table, where, nested=nested(), short=short_names())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    logging.basicConfig(format="%(message)s")
    return run_command(
        open_comparison,
        EvalOptions,
        argv,
        "rtil eval",
        nested=nested(),
        short=short(),
        presets="eval",
        settle=settled,
    )


def settled(options: EvalOptions) -> EvalOptions:
    """Return the options, those of a run that is resumed with its own settings below what is given now."""
    if not options.resume:
        return options
    from rtil.cli.comparison import resumed

    return resumed(options)


def open_comparison(options: EvalOptions) -> Work:
    """Open checkpoints and pictures, which takes heavier imports than the options do."""
    from rtil.cli.comparison import Comparison

    return Comparison(options)


if __name__ == "__main__":
    sys.exit(main())
