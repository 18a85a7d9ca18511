"""The inverters by name, and their settings as a user gives them.

With the same settings all methods have the same number of steps, projections to the range and sparse deviations aside:
CSGM, PULSE and mGANprior run the sum of ILO's rounds. Perceptual terms belong to the tasks whose measurements are
pictures.
"""

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple

import torch

from ilo import CSGM, ILO, PULSE, SparseDeviation
from ilo.policies import has_perceptual_term
from ilo.presets import StepsPreset, preset_steps
from ilo.rounds import NoiseRule
from mganprior import MGANPrior
from mganprior.mganprior import cut_of_side
from mganprior.start import AlphaInit
from rtil.branches import MOST_CUTS
from rtil.devices import Precision, compute_dtype
from rtil.errors import Notice, UserError, unknown
from rtil.evaluation.ilo_options import ILOOptions, PerceptualChoice
from rtil.evaluation.pulse_options import PULSEOptions
from rtil.generators.base import LayeredGenerator
from rtil.inverse.loop import OptimizerName
from rtil.inverse.operators import Operator
from rtil.inverse.perceptual import Perceptual, PerceptualName, is_picture
from rtil.inverse.schedules import Ramp
from rtil.inverse.solver import Combination, Selection, Solver
from rtil.snapshot import Snapshot

SparseInner = Literal["ilo", "csgm"]
SPARSE_SHARE = 0.02


def sparse_deviation(
    generator: LayeredGenerator, *, inner: SparseInner, of_inner: Mapping[str, Any], seed: int, **own: Any
) -> SparseDeviation:
    """Return the inverter ``sparse``: a deviation of the picture behind ILO or CSGM.

    Args:
        generator: The prior.
        inner: Which of the two.
        of_inner: Its arguments.
        seed: Root seed.
        own: Arguments of :class:`ilo.SparseDeviation`.
    """
    return SparseDeviation({"ilo": ILO, "csgm": CSGM}[inner](generator, seed=seed, **of_inner), **own)


METHODS: Mapping[str, Callable[..., Solver]] = {
    "ilo": ILO,
    "csgm": CSGM,
    "pulse": PULSE,
    "sparse": sparse_deviation,
    "mganprior": MGANPrior,
}
"""The methods, by the name that users type."""
STEPS = (100, 60, 60, 100)
"""ILO's own default."""

Pair = Literal["common", "paper"]
PAPER_PAIR: Mapping[bool, Mapping[str, Any]] = {
    True: {"optimizer": "adam", "mganprior_lr": 0.1, "alpha_init": "dirichlet", "perceptual_weight": 0.1},
    False: {"optimizer": "sgd", "mganprior_lr": 1.0, "alpha_init": "channels", "perceptual_weight": 0.5},
}
"""mGANprior as tuned in RTIL (A.4 and its code) for its own checkpoints (True) and for vanilla ones (False).

The numbers are theirs, the scale of the loss is this project's (pictures in [-1, 1], every task normalised): SGD with
rate 1 takes other steps than there, and a difference between two checkpoints is also one between two optimisers."""

OF_ANY_METHOD = ("steps", "steps_preset", "rounds", "precision", "restarts", "combination")
OF_ILO = (*(f.name for f in fields(ILOOptions)), "noise", "rampup", "rampdown")
OF_LATER_ROUNDS = (
    "z1_weight",
    "z1_start",
    "z1_sigma",
    "z1_sphere",
    "radius_feature",
    "range_projection",
    "range_steps",
)
USED: Mapping[str, tuple[str, ...]] = {
    "ilo": OF_ILO,
    "csgm": tuple(name for name in OF_ILO if name not in OF_LATER_ROUNDS),
    "pulse": tuple(f.name for f in fields(PULSEOptions)),
    "sparse": ("sparse_inner", "sparse_radius", "sparse_alternations", "sparse_latent_steps", "sparse_steps"),
    "mganprior": (
        *("codes", "compose_side", "alpha_init", "optimizer", "mganprior_lr", "perceptual", "perceptual_weight"),
        *("pair", "noise", "rampup", "rampdown"),
    ),
}
"""Settings of each method besides :data:`OF_ANY_METHOD`; sparse has those of its inner method too."""


class Series(NamedTuple):
    """One column of results: a method, and for mGANprior how many codes it has.

    Attributes:
        method: A name of :data:`METHODS`.
        codes: K of mGANprior; None for the others.
        name: Of the variant whose settings it has; None without variants.
    """

    method: str
    codes: int | None = None
    name: str | None = None

    @property
    def label(self) -> str:
        """Name in rows and tables: ``ilo``, ``mganprior-20``, or that of the variant."""
        return self.name or (self.method if self.codes is None else f"{self.method}-{self.codes}")


@dataclass
class SolverOptions(PULSEOptions, ILOOptions):
    """Settings of the inverters; the defaults are those of the classes of :data:`METHODS`.

    Args:
        steps: Steps of each of ILO's rounds; one number stands for every round; null is 100,60,60,100, as far as the
            generator has blocks. The others run their sum in one round.
        steps_preset: In place of steps, those of the papers: icml-quick (4 x 50), icml-speed (4 x 300), rtil
            (2000,1000,1000,1000,2000), exp1 to exp5 (RTIL, figure 20: 5 x 100, 300, 1000, rtil, 2000), z0 to z4 (RTIL,
            figure 6: as deep as that cut); rounds without a cut are left out, and named.
        rounds: Run only the first rounds, this many; with one number of steps, this many rounds (null is 4, or as many
            as the generator has blocks).
        noise: Noise maps that round k optimises, of those behind its cut: 5+2k (ILO's code), first5, next5, none, all.
            CSGM and mGANprior have round 0 only; PULSE has pulse_noise.
        codes: Codes of mGANprior; several numbers, as 1,10,20, are several series.
        compose_side: Side in pixels of the feature at which mGANprior's codes become one; null is where the RTIL
            checkpoints of the same architecture were trained to mix them, for vanilla ones too; without any, resolution
            / 8, at least 4.
        alpha_init: Where mGANprior's weights start: uniform (1 / codes), dirichlet (one draw for all channels) or
            channels (1 / channels).
        optimizer: mGANprior's: adam, or sgd without momentum.
        mganprior_lr: Peak learning rate of mGANprior.
        perceptual: Perceptual term of mGANprior, none, vgg or lpips, in the tasks whose measurements are pictures, as
            ilo_perceptual.
        perceptual_weight: Weight of that term.
        pair: common has one mGANprior for all checkpoints; paper has RTIL's two, which set optimizer, mganprior_lr,
            alpha_init and perceptual_weight: adam, 0.1, dirichlet, 0.1 for RTIL checkpoints, sgd, 1, channels, 0.5 for
            vanilla ones.
        sparse_inner: What runs before sparse, ilo or csgm, with all settings of that method; then a sparse deviation of
            the picture and the latents follow each other in turns.
        sparse_radius: Largest l1 norm of that deviation, with pictures in [-1, 1]; null is 0.02 for each entry of the
            picture.
        sparse_alternations: Turns of the latents; they come on top of steps.
        sparse_latent_steps: Steps of the latents in each.
        sparse_steps: Steps of the deviation in each.
        rampup: Fraction of a round over which the learning rate rises (not PULSE's).
        rampdown: Fraction of a round over which it falls (not PULSE's).
        precision: Type of the layers while optimising: float32, bfloat16, or auto (bfloat16 where it is faster).
        restarts: Independent attempts.
        combination: best keeps each image's attempt of lowest error, mean averages the pictures.
    """

    steps: list[int] | None = None
    steps_preset: StepsPreset | None = None
    rounds: int | None = None
    noise: NoiseRule = "5+2k"
    codes: list[int] = field(default_factory=lambda: [20])
    compose_side: int | None = None
    alpha_init: AlphaInit = "uniform"
    optimizer: OptimizerName = "adam"
    mganprior_lr: float = 0.1
    perceptual: PerceptualChoice = "none"
    perceptual_weight: float = 0.1
    pair: Pair = "common"
    sparse_inner: SparseInner = "ilo"
    sparse_radius: float | None = None
    sparse_alternations: int = 4
    sparse_latent_steps: int = 60
    sparse_steps: int = 100
    rampup: float = Ramp.rampup
    rampdown: float = Ramp.rampdown
    precision: Precision = "auto"
    restarts: int = 1
    combination: Combination = "best"

    def series(self, methods: Sequence[str]) -> list[Series]:
        """Return what is evaluated of the named methods.

        Raises:
            UserError: An unknown method, or mGANprior's codes or pair are not valid.

        Example:
            >>> [series.label for series in SolverOptions(codes=[1, 20]).series(["ilo", "mganprior"])]
            ['ilo', 'mganprior-1', 'mganprior-20']
        """
        found = []
        for method in methods:
            if method not in METHODS:
                raise unknown("method", method, METHODS)
            if method != "mganprior":
                found.append(Series(method))
                continue
            self._check_mganprior()
            found += [Series(method, codes) for codes in self.codes]
        return found

    def used_by(self, method: str) -> frozenset[str]:
        """Return the names of the settings that a method uses."""
        inner = self.used_by(self.sparse_inner) if method == "sparse" else frozenset()
        return frozenset((*OF_ANY_METHOD, *USED[method])) | inner

    def check_used(self, methods: Sequence[str], given: Collection[str]) -> None:
        """Say which settings a user gave that no method uses.

        They get a notice, so that a file of one method's settings can be tried with another method; but those of ILO,
        some of which its relatives have, are a mistake. What is given its default value needs no word.

        Args:
            methods: All methods of a command.
            given: Names of the options that were given to it.

        Raises:
            UserError: A setting of ILO has no effect.
        """
        used = frozenset[str]().union(*(self.used_by(method) for method in methods))
        unused = [f.name for f in fields(SolverOptions) if f.name in given and f.name not in used]
        wrong = [name for name in self._changed(USED["ilo"]) if name in unused]
        if wrong:
            raise UserError(f"{_unused(methods, wrong)}: leave {'it' if len(wrong) == 1 else 'them'} away")
        if changed := self._changed(unused):
            warnings.warn(_unused(methods, changed), Notice, stacklevel=1)

    def steps_per_round(self, num_blocks: int) -> tuple[int, ...]:
        """Return the steps of ILO's rounds for a generator with this many blocks.

        Raises:
            UserError: More rounds are wanted than steps are given, or steps are given twice.

        Example:
            >>> SolverOptions().steps_per_round(3), SolverOptions(steps=[50], rounds=2).steps_per_round(3)
            ((100, 60, 60), (50, 50))
        """
        if self.rounds is not None and self.rounds < 1:
            raise UserError(f"rounds is {self.rounds}: valid is a whole number of 1 or more")
        if self.steps is not None and self.steps_preset is not None:
            raise UserError(f"steps and steps_preset '{self.steps_preset}' say the same thing: give one of them")
        if self.steps_preset is not None:
            steps = preset_steps(self.steps_preset, num_blocks)
        elif self.steps is None:
            steps = STEPS[:num_blocks]
        elif len(self.steps) == 1:
            steps = tuple(self.steps) * (self.rounds or min(len(STEPS), num_blocks))
        else:
            steps = tuple(self.steps)
        if self.rounds is not None and self.rounds > len(steps):
            raise UserError(f"rounds is {self.rounds} but steps has {len(steps)}: give as many steps as rounds")
        return steps[: self.rounds]

    def arguments(
        self, series: Series, snapshot: Snapshot, selection: Selection, pictures: bool = True
    ) -> dict[str, Any]:
        """Return everything of a method that decides its result besides weights and seed, as JSON values.

        Args:
            series: Method, and codes.
            snapshot: The checkpoint; ``pair: paper`` tells RTIL's from vanilla ones.
            selection: Which iterate is returned.
            pictures: Whether the measurements are pictures; without, there is no perceptual term.

        Raises:
            UserError: A setting is not valid for this generator.
        """
        steps = self.steps_per_round(snapshot.generator.num_blocks)
        common = {
            "rampup": self.rampup,
            "rampdown": self.rampdown,
            "selection": selection,
            "precision": self.precision,
            "restarts": self.restarts,
            "combination": self.combination,
        }
        if series.method == "mganprior":
            return self._mganprior(series, snapshot, sum(steps), pictures) | common
        if series.method == "pulse":  # with a schedule of its own
            of_all = {name: common[name] for name in common if not name.startswith("ramp")}
            return {"steps": sum(steps), **self.of_pulse(), **of_all}
        if series.method == "sparse":
            return self._sparse(snapshot, selection, pictures)
        csgm = series.method == "csgm"
        steps = (sum(steps),) if csgm else steps
        if self.switch == "plateau":
            common |= {"rampup": 0.0, "rampdown": 0.0}
        of_ilo = self.of_ilo(snapshot.generator, steps, pictures, csgm)
        return {"steps": list(steps), "noise": self.noise, **of_ilo, **common}

    def solver(
        self,
        series: Series,
        snapshot: Snapshot,
        selection: Selection,
        seed: int,
        perceptual: Perceptual | None = None,
    ) -> Solver:
        """Return the inverter.

        A setting of ILO that the method does not use, and that is not the default, gets a notice.

        Args:
            series: Method, and codes.
            snapshot: The checkpoint.
            selection: Which iterate is returned.
            seed: Root seed.
            perceptual: The term of :meth:`perceptual_name` where the measurements are pictures, else None.

        Raises:
            UserError: A setting is not valid for this generator.
        """
        ignored = [name for name in self._changed(USED["ilo"]) if name not in self.used_by(series.method)]
        if ignored:
            variant = f"variant '{series.name}': " if series.name else ""
            warnings.warn(variant + _unused([series.method], ignored), Notice, stacklevel=1)
        arguments = self.arguments(series, snapshot, selection, perceptual is not None)
        for own in (arguments, arguments.get("of_inner", {})):
            if "rampup" in own:
                own["schedule"] = Ramp(own.pop("rampup"), own.pop("rampdown"))
            if "perceptual" in own:
                own["perceptual"] = perceptual if own["perceptual"] != "none" else None
        return METHODS[series.method](snapshot.generator, seed=seed, **arguments)

    def perceptual_name(self, method: str) -> PerceptualName | None:
        """Return which perceptual term a method has in tasks whose measurements are pictures."""
        chosen = self.perceptual if method == "mganprior" else "none" if method == "pulse" else self.ilo_perceptual
        return None if chosen == "none" else chosen

    def has_perceptual_term(self, method: str, operator: Operator) -> bool:
        """Return whether a method has its perceptual term for these measurements: pictures, and not left out."""
        shape = operator.measurement_shape
        if self.perceptual_name(method) is None or not is_picture(shape):
            return False
        return method == "mganprior" or has_perceptual_term(
            self.policy, operator, torch.empty(1, *shape), operator.img_size[-1]
        )

    def open_perceptual(self, method: str, device: torch.device) -> Perceptual | None:
        """Return the perceptual term of a method, or None if it has none.

        Raises:
            UserError: Its weights are not on this machine.
        """
        name = self.perceptual_name(method)
        return None if name is None else Perceptual(name, compute_dtype(self.precision, device)).to(device)

    def _changed(self, names: Iterable[str]) -> list[str]:
        """Return those of the settings that are not the default."""
        standard = SolverOptions()
        return [name for name in names if getattr(self, name) != getattr(standard, name)]

    def _sparse(self, snapshot: Snapshot, selection: Selection, pictures: bool) -> dict[str, Any]:
        of_inner = self.arguments(Series(self.sparse_inner), snapshot, selection, pictures)
        radius = self.sparse_radius
        return {
            "inner": self.sparse_inner,
            "of_inner": of_inner,
            "radius": SPARSE_SHARE * 3 * snapshot.generator.resolution**2 if radius is None else radius,
            "alternations": self.sparse_alternations,
            "steps": self.sparse_latent_steps,
            "lr": of_inner["lr"][-1],
            "sparse_steps": self.sparse_steps,
            "sphere": self.sphere,
            "noise": self.noise,
            "rampup": of_inner["rampup"],
            "rampdown": of_inner["rampdown"],
        }

    def _mganprior(self, series: Series, snapshot: Snapshot, steps: int, pictures: bool) -> dict[str, Any]:
        own: Mapping[str, Any] = vars(self) if self.pair == "common" else PAPER_PAIR[bool(snapshot.info.get("rtil"))]
        G = snapshot.generator
        has_term = pictures and self.perceptual != "none"
        return {
            "steps": steps,
            "lr": own["mganprior_lr"],
            "codes": series.codes,
            "compose_side": G.cut_shape(cut_of_side(G, self.compose_side))[1],
            "alpha_init": own["alpha_init"],
            "optimizer": own["optimizer"],
            "noise": self.noise,
            "perceptual": self.perceptual if has_term else "none",
            "perceptual_weight": own["perceptual_weight"] if has_term else 0.0,
        }

    def _check_mganprior(self) -> None:
        if not self.codes or min(self.codes) < 1 or len(set(self.codes)) != len(self.codes):
            given = ",".join(map(str, self.codes)) or "empty"
            raise UserError(f"codes is {given}: valid are whole numbers of 1 or more, each once")
        if self.perceptual != "none" and not 0 < self.perceptual_weight < float("inf"):
            raise UserError(
                f"perceptual_weight is {self.perceptual_weight:g}: valid is a number above 0; for no term: "
                "perceptual none"
            )
        clash = self._changed(PAPER_PAIR[True]) if self.pair == "paper" else []
        if clash:
            raise UserError(f"pair 'paper' sets {clash[0]} itself: leave {clash[0]} away, or use pair common")


def _unused(methods: Sequence[str], names: Sequence[str]) -> str:
    """Say that methods do not use settings, and which of their own they have instead.

    Example:
        >>> _unused(["pulse"], ["lr", "sphere"])
        "method 'pulse' does not use lr, sphere, but has pulse_lr"
    """
    who = f"method '{methods[0]}' does not use" if len(methods) == 1 else f"none of {', '.join(methods)} uses"
    own = [f"{method}_{name}" for method in methods for name in names if f"{method}_{name}" in USED[method]]
    return f"{who} {', '.join(names)}" + (f", but has {', '.join(own)}" if own else "")


def composing_as_trained(options: SolverOptions, snapshot: Snapshot, compared: Iterable[Snapshot]) -> SolverOptions:
    """Return options whose ``compose_side`` is set for a checkpoint, where it was left open.

    Args:
        options: The options.
        snapshot: The checkpoint.
        compared: It and those it is compared with; the RTIL ones of its architecture say where codes mix.

    Raises:
        UserError: They say different things.
    """
    if options.compose_side is not None:
        return options
    trained = [s for s in compared if s.generator.arch == snapshot.generator.arch and s.info.get("rtil")]
    sides = {int(s.info["mixture_side"]) for s in trained if s.info.get("branches") == "mixture"}
    if len(sides) > 1:
        raise UserError(f"checkpoints were trained to mix codes at sides {sorted(sides)}: give --compose_side")
    return replace(options, compose_side=sides.pop()) if sides else options


def mixes_differently(method: str, arguments: Mapping[str, Any], info: Mapping[str, Any]) -> bool:
    """Return whether an RTIL checkpoint got other random input in training than the method optimises.

    ILO's place is the additive branches, as far as its rounds go; mGANprior's the mixture at its own ``compose_side``,
    however many codes; CSGM and PULSE move the plain generator, which is a branch of every training. Sparse deviations
    lie behind the generator, and what runs before them decides. Vanilla checkpoints have none to differ from.

    Args:
        method: Name of the method.
        arguments: Its :meth:`SolverOptions.arguments`.
        info: What the snapshot says of its training; one without ``branches`` is older than mixtures, and additive.
    """
    if method in ("csgm", "pulse") or not info.get("rtil"):
        return False
    branches = info.get("branches", "additive")
    if method == "sparse":
        return mixes_differently(arguments["inner"], arguments["of_inner"], info)
    if method == "ilo":
        trained_cuts = min(MOST_CUTS, int(info["resolution"]).bit_length() - 3) if branches == "additive" else 0
        return len(arguments["steps"]) - 1 > trained_cuts or not info.get("sigma", 1)
    return bool(branches != "mixture" or info.get("mixture_side") != arguments["compose_side"])
