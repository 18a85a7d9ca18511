"""What an evaluation compares: methods with their settings, or variants, which are named settings side by side.

Settings are objects: each solver's own frozen dataclass (:mod:`rtil.inverse.settings`), the same on the command line,
in YAML and in Python. A name with the method before it (``ilo.z1_weight``) is a field of one of them;
:func:`short_names` are older names without the method. Steps may be one budget for all methods: CSGM, PULSE and
mGANprior run the sum of ILO's rounds. Nothing here needs torch.
"""

import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple

from ilo.presets import StepsPreset, preset_steps
from rtil.errors import Notice, UserError, did_you_mean, unknown
from rtil.inverse.registry import method_names, settings_class
from rtil.inverse.settings import DEFAULT_STEPS, Selection, SolverSettings

CLASSIFIER = "classifier"
"""The task without a measurement."""
HeldOut = Literal["validation", "test"]
LINEAR = "linear"
BASELINE_NAMES = ("adjoint", "bicubic", "tv", "bm3d", "pnp-bm3d", "dpir")
REFERENCES = (LINEAR, *BASELINE_NAMES)
"""Names of the reconstructions that have no checkpoint."""
STANDARD_METHOD = "ilo"
LONGEST_NAME = 16
"""Longer names of variants would not fit into tables."""
LEAST_PICTURES = {"fusion": ("training", 8, 64), "representation": ("training", 8, 128)}
LEAST_PICTURES |= {"calibration": ("validation", 4, 32)}
"""Of options of :class:`Estimation`: which pictures, the least number, and a good one."""

AllSettings = Mapping[str, SolverSettings]
"""The settings of every method, by its name."""

OF_ROUND_0 = (
    *("lr", "geodesic_weight", "geodesic_of", "sphere", "radii", "radius_noise", "radius_latent", "start", "switch"),
    *("switch_window", "switch_threshold", "perceptual_mode", "policy", "measurement_weight", "sna_sigma"),
)
OF_LATER_ROUNDS = (
    *("z1_weight", "z1_start", "z1_sigma", "z1_sphere", "radius_feature", "range_projection", "range_steps"),
)
OF_MGANPRIOR = ("compose_side", "alpha_init", "optimizer", "perceptual", "perceptual_weight", "pair")
OF_PULSE = ("lr", "geodesic_weight", "geodesic_of", "noise", "eps", "clamp")


def short_names() -> dict[str, tuple[str, ...]]:
    """Return the names without a method, and which settings each of them sets."""
    short: dict[str, tuple[str, ...]] = {name: (f"ilo.{name}", f"csgm.{name}") for name in OF_ROUND_0}
    short |= {f"ilo_{name}": (f"ilo.{name}", f"csgm.{name}") for name in ("perceptual", "perceptual_weight")}
    short |= {name: (f"ilo.{name}",) for name in OF_LATER_ROUNDS}
    short |= {
        name: tuple(f"{m}.{name}" for m in ("ilo", "csgm", "mganprior")) for name in ("noise", "rampup", "rampdown")
    }
    short |= {name: (f"mganprior.{name}",) for name in OF_MGANPRIOR} | {"mganprior_lr": ("mganprior.lr",)}
    short |= {f"pulse_{name}": (f"pulse.{name}",) for name in OF_PULSE}
    short |= {f"sparse_{name}": (f"sparse.{name}",) for name in ("inner", "radius", "alternations")}
    short |= {"sparse_latent_steps": ("sparse.steps",), "sparse_steps": ("sparse.sparse_steps",)}
    of_all = ("selection", "discrepancy_tau", "precision", "restarts", "combination", "back_projection")
    of_adapting = ("adapt_steps", "adapt_lr")
    return short | {name: tuple(f"{method}.{name}" for method in method_names()) for name in (*of_all, *of_adapting)}


@dataclass
class Budget:
    """Steps that all methods of a comparison have.

    Args:
        steps: Steps of each of ILO's rounds; one number stands for every round; null is 100,60,60,100, as far as the
            generator has blocks. The others run their sum in one round. A method's own steps (--ilo.steps) come first.
        steps_preset: In place of steps, those of the papers: icml-quick (4 x 50), icml-speed (4 x 300), rtil
            (2000,1000,1000,1000,2000), exp1 to exp5 (RTIL, figure 20: 5 x 100, 300, 1000, rtil, 2000), z0 to z4 (RTIL,
            figure 6: as deep as that cut); rounds without a cut are left out, and named.
        rounds: Run only the first rounds, this many; with one number of steps, this many rounds (null is 4, or as many
            as the generator has blocks).
        codes: Codes of mGANprior; several numbers, as 1,10,20, are several columns of results.
    """

    steps: list[int] | None = None
    steps_preset: StepsPreset | None = None
    rounds: int | None = None
    codes: list[int] = field(default_factory=lambda: [20])

    @property
    def budget(self) -> "Budget":
        """These alone, of options that hold others too."""
        return Budget(self.steps, self.steps_preset, self.rounds, self.codes)

    def per_round(self, num_blocks: int) -> tuple[int, ...]:
        """Return the steps of ILO's rounds for a generator with this many blocks.

        Raises:
            UserError: More rounds are wanted than steps are given, or steps are given twice.

        Example:
            >>> Budget().per_round(3), Budget(steps=[50], rounds=2).per_round(3)
            ((100, 60, 60), (50, 50))
        """
        if self.rounds is not None and self.rounds < 1:
            raise UserError(f"rounds is {self.rounds}: valid is a whole number of 1 or more")
        if self.steps is not None and self.steps_preset is not None:
            raise UserError(f"steps and steps_preset '{self.steps_preset}' say the same thing: give one of them")
        if self.steps_preset is not None:
            steps = preset_steps(self.steps_preset, num_blocks)
        elif self.steps is None:
            steps = DEFAULT_STEPS[:num_blocks]
        elif len(self.steps) == 1:
            steps = tuple(self.steps) * (self.rounds or min(len(DEFAULT_STEPS), num_blocks))
        else:
            steps = tuple(self.steps)
        if self.rounds is not None and self.rounds > len(steps):
            raise UserError(f"rounds is {self.rounds} but steps has {len(steps)}: give as many steps as rounds")
        return steps[: self.rounds]


@dataclass
class Estimation(Budget):
    """Steps, and what becomes of a solver's picture in an evaluation, which has training pictures.

    Args:
        fusion: Training pictures that are measured and inverted first, to learn where the method's picture is better
            than the linear prior's; the result mixes both accordingly (:mod:`rtil.evaluation.fusion`). 0 is the
            method's picture alone.
        representation: Training pictures that are inverted completely measured, to learn what no picture of the
            generator can be: a Gaussian beside it (:mod:`rtil.evaluation.representation`). 0 is none.
        calibration: Validation pictures, other than those that are evaluated, that are measured and inverted first, to
            learn by which factor intervals must be widened (:mod:`rtil.inverse.intervals`). 0 leaves them as they are.
    """

    fusion: int = 0
    representation: int = 0
    calibration: int = 0

    @property
    def budget(self) -> "Estimation":
        """These alone, of options that hold others too."""
        own = self.fusion, self.representation, self.calibration
        return Estimation(self.steps, self.steps_preset, self.rounds, self.codes, *own)


class Candidate(NamedTuple):
    """One column of results, for every checkpoint.

    Attributes:
        label: In rows and tables: ``ilo``, ``mganprior-20``, or the name of a variant.
        method: A name of :func:`rtil.inverse.registry.method_names`.
        settings: As the user gave them; :meth:`rtil.inverse.solver.Solver.settings` are those of one checkpoint.
        budget: Steps, where the settings have none of their own.
        is_variant: Whether the label is a name that the user gave.
        fusion: See :class:`Estimation`, as for the others.
        representation: Training pictures.
        calibration: Validation pictures.
    """

    label: str
    method: str
    settings: SolverSettings
    budget: Budget
    is_variant: bool = False
    fusion: int = 0
    representation: int = 0
    calibration: int = 0

    @contextmanager
    def named(self) -> Iterator[None]:
        """Name the variant in a user's mistakes."""
        try:
            yield
        except UserError as error:
            if not self.is_variant:
                raise
            raise UserError(f"variant '{self.label}': {error}") from error

    def settings_for(
        self, num_blocks: int, info: Mapping[str, Any], compared: Sequence[Mapping[str, Any]]
    ) -> SolverSettings:
        """Return the settings for a checkpoint.

        Args:
            num_blocks: Of its generator.
            info: What its snapshot says of its training.
            compared: Likewise of it and all that it is compared with.

        Raises:
            UserError: A setting does not fit.
        """
        return self.settings.with_budget(self.budget.per_round(num_blocks)).of_checkpoint(info, compared)


def standard_settings() -> dict[str, SolverSettings]:
    """Return the defaults of every method."""
    return {name: settings_class(name)() for name in method_names()}


def candidates_of_methods(
    methods: Sequence[str], settings: AllSettings, budget: Budget, selections: Sequence[Selection]
) -> list[Candidate]:
    """Return every method, by each way to select an iterate.

    Raises:
        UserError: An unknown method, or codes are not valid.
    """
    return [
        Candidate(one.label(method), method, one, budget, False, *checked_pictures(budget))
        for method in methods
        for several in _several(method, _settings_of(method, settings), budget)
        for one in (replace(several, selection=selection) for selection in selections)
    ]


def candidates_of_variants(
    variants: Mapping[str, Mapping[str, Any]],
    settings: AllSettings,
    budget: Budget,
    selections: Sequence[Selection],
    read: Callable[[Mapping[str, Any], str], Mapping[str, Any]],
) -> list[Candidate]:
    """Return named settings; one of mGANprior with several numbers of codes has one name for each.

    Args:
        variants: What differs from the settings of the evaluation, by name: ``method``, :class:`Budget`, any setting,
            those of the variant's own method without its name before them.
        settings: The evaluation's.
        budget: The evaluation's.
        selections: The evaluation's.
        read: Called as read(table, where): types a table of flat and dotted names, dotted ones without shorts.

    Raises:
        UserError: A name or a setting is not valid.
    """
    found: list[Candidate] = []
    for name, table in variants.items():
        if not isinstance(table, Mapping):
            raise UserError(f"variant '{name}' is {table!r}: give a table of settings, or {{}}")
        where = f"variant '{name}'"
        method = str(table.get("method", name if name in method_names() else STANDARD_METHOD))
        check_variant_name(name, method)
        try:
            own = {f.name for f in fields(settings_class(method))} - {f.name for f in fields(Budget)}
            named = {f"{method}.{key}" if key in own else key: table[key] for key in table if key != "method"}
            found += _variant(name, method, read(named, where), list(named), settings, budget, selections)
        except UserError as error:
            text = str(error).replace(f"{where}: {method}.", f"{where}: ")
            raise UserError(text if where in text else f"{where}: {text}") from error
    labels = [(candidate.label, candidate.settings.selection) for candidate in found]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice or not found:
        what = f"two are called '{twice[0][0]}'" if twice else "there is none"
        raise UserError(f"variants need names of their own, and one at least: {what}")
    return found


def _variant(
    name: str,
    method: str,
    given: Mapping[str, Any],
    names: Sequence[str],
    settings: AllSettings,
    budget: Budget,
    selections: Sequence[Selection],
) -> list[Candidate]:
    flat = {key: value for key, value in given.items() if "." not in key}
    own_budget = replace(budget.budget, **{key: flat[key] for key in flat if key != "selection"})
    if ("steps" in flat) != ("steps_preset" in flat):
        own_budget = replace(own_budget, steps=flat.get("steps"), steps_preset=flat.get("steps_preset"))
    changed = overlaid(settings, given)
    check_used([method], changed, names)
    chosen: Sequence[Selection] = [given[f"{method}.selection"]] if f"{method}.selection" in given else selections
    ways = list(_several(method, _settings_of(method, changed), own_budget))
    labels = [name] if len(ways) == 1 else [f"{name}-{getattr(way, way.SEVERAL)}" for way in ways]
    return [
        Candidate(label, method, replace(way, selection=selection), own_budget, True, *checked_pictures(own_budget))
        for label, way in zip(labels, ways, strict=True)
        for selection in chosen
    ]


def checked_pictures(budget: Budget) -> tuple[int, ...]:
    """Return the pictures of fusion, representation and calibration: 0 where there is no evaluation.

    Raises:
        UserError: They are too few.
    """
    found = []
    for name, (which, least, good) in LEAST_PICTURES.items():
        found.append(getattr(budget, name) if isinstance(budget, Estimation) else 0)
        if found[-1] and found[-1] < least:
            raise UserError(
                f"{name} is {found[-1]}: valid is 0, or {least} {which} pictures or more ({good} are a good number)"
            )
    return tuple(found)


def overlaid(settings: AllSettings, given: Mapping[str, Any]) -> dict[str, SolverSettings]:
    """Return settings with those fields changed that are given by dotted names."""
    changes: dict[str, dict[str, Any]] = {}
    for name, value in given.items():
        method, dot, option = name.partition(".")
        if dot:
            changes.setdefault(method, {})[option] = value
    return {method: replace(one, **changes.get(method, {})) for method, one in settings.items()}


def _settings_of(method: str, settings: AllSettings) -> SolverSettings:
    if method not in settings:
        raise unknown("method", method, method_names())
    return settings[method].beside(settings)


def _several(method: str, settings: SolverSettings, budget: Budget) -> Iterator[SolverSettings]:
    """Yield one object for each number of codes, of methods that have codes."""
    if settings.SEVERAL != "codes":
        yield settings
        return
    codes = budget.codes
    if not codes or min(codes) < 1 or len(set(codes)) != len(codes):
        raise UserError(
            f"codes is {','.join(map(str, codes)) or 'empty'}: valid are whole numbers of 1 or more, each once"
        )
    standard = getattr(type(settings)(), settings.SEVERAL)
    own = getattr(settings, settings.SEVERAL)
    for number in [own] if own != standard else codes:
        yield settings.changed(**{settings.SEVERAL: number})


def used_methods(methods: Sequence[str], settings: AllSettings) -> set[str]:
    """Return the methods whose settings count: those that run, and what runs before a sparse deviation."""
    return {*methods, *(getattr(settings[method], "inner", method) for method in methods if method in settings)}


def check_used(methods: Sequence[str], settings: AllSettings, given: Collection[str]) -> None:
    """Say which settings a user gave that no method uses.

    They get a notice, so that a file of one method's settings can be tried with another method; but those of ILO,
    some of which its relatives have, are a mistake. What is given its default value needs no word.

    Args:
        methods: All methods of a command.
        settings: All settings.
        given: Names that were given to it, flat and dotted, a short name beside those that it sets.

    Raises:
        UserError: A setting of ILO has no effect.
    """
    used, short = used_methods(methods, settings), short_names()
    of_short = {dotted for name in given if name in short for dotted in short[name]}
    groups = [(name, targets) for name, targets in short.items() if name in given]
    groups += [(name, (name,)) for name in sorted(given) if "." in name and name not in of_short]
    unused = [
        (name, dotted)
        for name, dotted in groups
        if not any(one.partition(".")[0] in used for one in dotted) and any(_changed(one, settings) for one in dotted)
    ]
    wrong = [name for name, dotted in unused if dotted[0].startswith("ilo.")]
    if wrong:
        raise UserError(f"{_unused(methods, wrong)}: leave {'it' if len(wrong) == 1 else 'them'} away")
    if unused:
        warnings.warn(_unused(methods, [name for name, _ in unused]), Notice, stacklevel=1)


def _changed(dotted: str, settings: AllSettings) -> bool:
    method, _, option = dotted.partition(".")
    return bool(getattr(settings[method], option) != getattr(settings_class(method)(), option))


def _unused(methods: Sequence[str], names: Sequence[str]) -> str:
    """Say that methods do not use settings, and which of their own they have instead."""
    who = f"method '{methods[0]}' does not use" if len(methods) == 1 else f"none of {', '.join(methods)} uses"
    own = []
    for method in methods:
        options = {f.name for f in fields(settings_class(method))}
        own += [f"{method}.{name.rpartition('.')[2]}" for name in names if name.rpartition(".")[2] in options]
    return f"{who} {', '.join(names)}" + (f", but has {', '.join(own)}" if own else "")


def check_variant_name(name: str, method: str) -> None:
    """Raise UserError unless the name can stand in tables and file names, and for nothing else."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name) or len(name) > LONGEST_NAME:
        raise UserError(
            f"variant name '{name}' is not valid: use letters, digits, '.', '_', '+', '-', {LONGEST_NAME} at most"
        )
    if name in REFERENCES:
        raise UserError(f"variant name '{name}' is that of a reconstruction without checkpoint: use another")
    if name in method_names() and name != method:
        raise UserError(f"variant '{name}' is of method {method}: use another name, or method {name}")


def check_baselines(names: Sequence[str]) -> None:
    """Raise UserError unless these are names of baselines, each once."""
    for name in names:
        if name not in BASELINE_NAMES:
            raise UserError(
                f"unknown baseline '{name}': valid are {', '.join(BASELINE_NAMES)}{did_you_mean(name, BASELINE_NAMES)}"
            )
    if len(set(names)) != len(names):
        raise UserError(f"baselines is {','.join(names)}: name each once")
