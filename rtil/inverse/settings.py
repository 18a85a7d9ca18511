"""The settings of a solver: one frozen dataclass, which is what users write, what is checked and what is recorded.

A field is an option: in Python, on the command line (``--ilo.z1_weight``) and in YAML files; the ``Args`` of the
docstrings are its help. :func:`option` says what is valid and when it acts; types are checked by themselves. Nothing
here needs torch, so that a command can list all options of all solvers at once.

Example:
    >>> @dataclass(frozen=True, kw_only=True)
    ... class Mine(SolverSettings):
    ...     steps: int = option(100, least=1)
    ...     pull: float = option(0.0, off=True, least=0)
    >>> Mine(pull=2.0).unusual()
    {'pull': 2.0}
    >>> "pull" in Mine().to_json()
    False
"""

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from types import UnionType
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from rtil.errors import UserError, unknown
from rtil.inverse.schedules import Ramp
from rtil.precision import Precision

Selection = Literal["auto", "measurement", "heldout", "last", "crossfit", "discrepancy", "sure"]
Combination = Literal["best", "mean"]
NoiseRule = Literal["5+2k", "first5", "next5", "none", "all"]
OptimizerName = Literal["adam", "sgd"]
Start = Literal["normal", "mean"]
GeodesicOf = Literal["ws", "v"]
PerceptualChoice = Literal["none", "vgg", "lpips"]
FeaturePrior = Literal["training", "channel", "full"]
PerceptualMode = Literal["fill", "mask"]

BOUNDS: Mapping[str, tuple[str, Callable[[float, float], bool]]] = {
    "least": (">=", operator.ge),
    "above": ("above", operator.gt),
    "most": ("<=", operator.le),
    "below": ("below", operator.lt),
}
"""Of numbers, in words and as a rule."""
DEFAULT_STEPS = (100, 60, 60, 100)
"""Of the rounds of ILO; solvers of one round have their sum."""


def option(
    default: Any,
    *,
    off: bool = False,
    of: str = "",
    hidden: bool = False,
    recorded: bool = True,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> Any:
    """Return the dataclass field of an option.

    Args:
        default: Its default, immutable.
        off: At its default it does nothing, and is not recorded.
        of: It acts, and is recorded, only while this option of the same object does: is neither off nor 0, ``none`` or
            None; ``name=value``: while that one has this value.
        hidden: Not on the command line.
        recorded: Whether it can change a result.
        least: Smallest number that is valid.
        above: Largest number that is too small.
        most: Largest number that is valid.
        below: Smallest number that is too large.
    """
    bounds = {"least": least, "above": above, "most": most, "below": below}
    return field(default=default, metadata={"off": off, "of": of, "hidden": hidden, "recorded": recorded, **bounds})


@dataclass(frozen=True, kw_only=True)
class SolverSettings:
    """What every solver has.

    Args:
        selection: Which iterate of each round is kept, and continued from: auto (sure where a solver would fit the
            known noise of a denoising task, else measurement), measurement (lowest measurement error), heldout (lowest
            error on a tenth of the measurements, to which it is not fitted), last, crossfit (as many steps as serve two
            halves of the measurements, judged by each other), discrepancy (the first whose error is that of the known
            noise) or sure (lowest unbiased estimate of its error; denoising); see :mod:`rtil.inverse.stopping`.
        discrepancy_tau: That first iterate's residual norm, as a multiple of the noise's, at most.
        precision: Type of the layers while optimising: float32, bfloat16, or auto (bfloat16 where it is faster).
            Losses, variables and the returned pictures are float32.
        restarts: Independent attempts.
        combination: What becomes of them: best keeps each picture's attempt of lowest error, mean averages the pictures
            and gives their spread.
        back_projection: Move each attempt's picture to the nearest one that agrees with the measurements, as far as
            their noise goes; see :mod:`rtil.inverse.back_projection`. For linear operators.
        adapt_steps: Steps of the generator's own weights, for each picture, behind each attempt, at most: a tenth of
            the measurements says when to stop; see :mod:`rtil.inverse.adaptation`.
        adapt_lr: Their learning rate.

    Raises:
        UserError: An option is not valid.
    """

    SEVERAL: ClassVar[str] = ""
    """An option of which a comparison may name several values."""

    selection: Selection = "auto"
    discrepancy_tau: float = option(1.0, of="selection=discrepancy", above=0)
    precision: Precision = "auto"
    restarts: int = option(1, least=1)
    combination: Combination = "best"
    back_projection: bool = option(False, off=True)
    adapt_steps: int = option(0, off=True, least=0)
    adapt_lr: float = option(1e-3, of="adapt_steps", above=0)

    def __post_init__(self) -> None:
        kinds = _kinds(type(self))
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, list):
                object.__setattr__(self, f.name, tuple(value))
            if not is_dataclass(value):
                _check(f, getattr(self, f.name), kinds[f.name])

    @property
    def has_spread(self) -> bool:
        """Whether results are means of several attempts, with their spread."""
        return self.combination == "mean" and self.restarts > 1

    def label(self, method: str) -> str:
        """Return the name of a method with these settings in rows and tables: ``ilo``, ``mganprior-20``."""
        return f"{method}-{getattr(self, self.SEVERAL)}" if self.SEVERAL else method

    def beside(self, others: Mapping[str, "SolverSettings"]) -> Self:
        """Return the settings with what they take from those of other methods, by name."""
        return self

    def with_budget(self, steps: Sequence[int]) -> Self:
        """Return the settings with as many steps as these rounds of ILO, where they name none themselves."""
        return self.changed(steps=sum(steps)) if getattr(self, "steps", 0) is None else self

    def of_checkpoint(self, info: Mapping[str, Any], compared: Sequence[Mapping[str, Any]]) -> Self:
        """Return the settings for a checkpoint.

        Args:
            info: What its snapshot says of its training.
            compared: The same of all checkpoints that are compared, it among them.
        """
        return self

    def changed(self, **values: Any) -> Self:
        """Return the settings with other values of some options.

        Raises:
            UserError: There is no such option, or a value is not valid.
        """
        names = [f.name for f in fields(self)]
        for name in values:
            if name not in names:
                raise unknown("option", name, names)
        return replace(self, **values)

    def to_json(self) -> dict[str, Any]:
        """Return everything that acts, as JSON values: what a result depends on, besides weights, y and seed."""
        return {name: _json(value) for name, value in self._acting()}

    def unusual(self) -> dict[str, Any]:
        """Return the options that act and differ from their defaults."""
        standard = {f.name: f.default for f in fields(self)}
        return {
            name: value
            for name, value in self._acting()
            if value != standard[name] and not (isinstance(value, tuple) and set(value) == {standard[name]})
        }

    def _acting(self) -> Iterator[tuple[str, Any]]:
        metadata = {f.name: f.metadata for f in fields(self)}
        for name, about in metadata.items():
            of = about.get("of", "")
            if about.get("recorded", True) and not self._is_off(name) and not (of and not self._acts(of)):
                yield name, getattr(self, name)

    def _acts(self, name: str) -> bool:
        name, equals, value = name.partition("=")
        if equals:
            return bool(getattr(self, name) == value)
        return not self._is_off(name) and getattr(self, name) not in (None, 0, "none")

    def _is_off(self, name: str) -> bool:
        about = next(f for f in fields(self) if f.name == name)
        return bool(about.metadata.get("off")) and getattr(self, name) == about.default


@dataclass(frozen=True, kw_only=True)
class RampSettings:
    """The course of the learning rate within a round.

    Args:
        rampup: Fraction of a round over which the learning rate rises from 0.
        rampdown: Fraction of a round over which it falls back to 0.
    """

    rampup: float = option(Ramp.rampup, least=0, most=1)
    rampdown: float = option(Ramp.rampdown, least=0, most=1)

    @property
    def ramp(self) -> Ramp:
        """The schedule."""
        return Ramp(self.rampup, self.rampdown)


@dataclass(frozen=True, kw_only=True)
class PerceptualSettings:
    """A perceptual distance of A x from y beside the measurement error, where measurements are pictures.

    Args:
        perceptual: none, vgg or lpips; see :mod:`rtil.inverse.perceptual`. It belongs to tasks whose measurements are
            pictures: all but cs, gaussian, mri, fourier, phase and fourier_phase.
        perceptual_weight: Weight of that term. Iterates are selected by the measurement error alone.
    """

    perceptual: PerceptualChoice = option("none", off=True)
    perceptual_weight: float = option(1.0, of="perceptual", above=0)


def per_round(name: str, value: float | tuple[float, ...], rounds: int) -> tuple[float, ...]:
    """Return one number for each round.

    Raises:
        UserError: Several are given, but not one for each.

    Example:
        >>> per_round("lr", 0.1, 3)
        (0.1, 0.1, 0.1)
    """
    numbers = value if isinstance(value, tuple) else (value,)
    if len(numbers) not in (1, rounds):
        raise UserError(f"{name} is {_told(value)}: valid is one number, or one for each of {rounds} rounds")
    return numbers if len(numbers) == rounds else numbers * rounds


def _kinds(settings: type) -> Mapping[str, tuple[Any, ...]]:
    """Return the types that each option may have."""
    hints = get_type_hints(settings)
    unions = (Union, UnionType)
    return {f.name: get_args(h) if get_origin(h := hints[f.name]) in unions else (h,) for f in fields(settings)}


def _check(about: "Field[Any]", value: Any, kinds: Sequence[Any]) -> None:
    """Raise UserError unless the value has one of the types and is within the option's bounds."""
    choices = [name for kind in kinds if get_origin(kind) is Literal for name in get_args(kind)]
    if isinstance(value, str) and choices and value not in choices:
        raise unknown(about.name, value, choices)
    single = [kind for kind in kinds if kind in (int, float)]
    several = [get_args(kind)[0] for kind in kinds if get_origin(kind) is tuple]
    numbers, allowed = (value, several) if isinstance(value, tuple) else ((value,), single)
    if not (
        (value is None and type(None) in kinds)
        or (isinstance(value, str) and bool(choices or str in kinds))
        or (isinstance(value, bool) and bool in kinds)
        or (numbers and allowed and all(_is_valid(number, allowed[0], about.metadata) for number in numbers))
    ):
        words = [", ".join(choices)] if choices else []
        words += ["true or false"] if bool in kinds else []
        words += [_number(kind, about.metadata) + ", or one for each round" * bool(several) for kind in single]
        words += [] if single else [f"one for each round: {_number(kind, about.metadata)}" for kind in several]
        words += ["null"] if type(None) in kinds else []
        raise UserError(f"{about.name} is {_told(value)}: valid is {' or '.join(words)}")


def _is_valid(value: Any, kind: Any, bounds: Mapping[str, Any]) -> bool:
    if kind is str or isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        return kind is str and isinstance(value, str)
    within = (holds(value, bounds[name]) for name, (_, holds) in BOUNDS.items() if bounds.get(name) is not None)
    return math.isfinite(value) and all(within)


def _number(kind: Any, bounds: Mapping[str, Any]) -> str:
    if kind is int and bounds.get("least") is not None:
        return f"a whole number of {bounds['least']} or more"
    limits = [f"{word} {bounds[name]:g}" for name, (word, _) in BOUNDS.items() if bounds.get(name) is not None]
    return f"a {'whole ' * (kind is int)}number {' and '.join(limits)}".strip()


def _told(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_told, value)) or "empty"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _json(value: Any) -> Any:
    if isinstance(value, SolverSettings):
        return value.to_json()
    return [_json(entry) for entry in value] if isinstance(value, tuple) else value
