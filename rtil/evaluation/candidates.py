"""What an evaluation compares: methods with their settings, or variants, which are named settings side by side."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, cast, get_args

import torch

from rtil.baselines import BASELINES
from rtil.devices import compute_dtype
from rtil.errors import UserError, unknown
from rtil.evaluation.methods import METHODS, Series, SolverOptions, composing_as_trained
from rtil.evaluation.summary import LINEAR
from rtil.inverse.perceptual import Perceptual, PerceptualName
from rtil.inverse.solver import Selection
from rtil.snapshot import Snapshot

REFERENCES = (LINEAR, *BASELINES)
"""Names of the reconstructions that have no checkpoint."""
LONGEST_NAME = 16
"""Longer names of variants would not fit into tables."""


class Candidate(NamedTuple):
    """One column of results, for every checkpoint.

    Attributes:
        series: Method and name.
        options: Its settings.
        selection: Which iterate is returned.
    """

    series: Series
    options: SolverOptions
    selection: Selection

    def options_for(self, snapshot: Snapshot, compared: Iterable[Snapshot]) -> SolverOptions:
        """Return its settings for a checkpoint; mGANprior composes where RTIL checkpoints were trained to.

        Raises:
            UserError: Checkpoints to compare were trained to mix at different sides.
        """
        if self.series.method != "mganprior":
            return self.options
        return composing_as_trained(self.options, snapshot, compared)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Name the variant in a user's mistakes."""
        try:
            yield
        except UserError as error:
            if self.series.name is None:
                raise
            raise UserError(f"variant '{self.series.name}': {error}") from error


@dataclass(frozen=True)
class Variant:
    """Settings that have a name.

    Attributes:
        method: A name of :data:`rtil.evaluation.methods.METHODS`.
        options: All settings.
        selections: Which iterates are returned.
    """

    method: str
    options: SolverOptions
    selections: Sequence[Selection]


def candidates_of_methods(
    options: SolverOptions, methods: Sequence[str], selections: Sequence[Selection]
) -> list[Candidate]:
    """Return every method with the same settings.

    Raises:
        UserError: An unknown method, or settings that are not valid for one.
    """
    return [Candidate(series, options, selection) for series in options.series(methods) for selection in selections]


def candidates_of_variants(variants: Mapping[str, Variant]) -> list[Candidate]:
    """Return the variants; one of mGANprior with several numbers of codes has one name for each.

    Raises:
        UserError: A name or a setting is not valid.
    """
    found = []
    for name, variant in variants.items():
        check_variant_name(name, variant.method)
        try:
            series = variant.options.series([variant.method])
        except UserError as error:
            raise UserError(f"variant '{name}': {error}") from error
        for one in series:
            label = name if len(series) == 1 else f"{name}-{one.codes}"
            found += [Candidate(one._replace(name=label), variant.options, s) for s in variant.selections]
    labels = [(candidate.series.label, candidate.selection) for candidate in found]
    twice = [label for label, _ in labels if labels.count((label, _)) > 1]
    if twice or not found:
        what = f"two are called '{twice[0]}'" if twice else "there is none"
        raise UserError(f"variants need names of their own, and one at least: {what}")
    return found


def check_variant_name(name: str, method: str) -> None:
    """Raise UserError unless the name can stand in tables and file names, and for nothing else."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name) or len(name) > LONGEST_NAME:
        raise UserError(
            f"variant name '{name}' is not valid: use letters, digits, '.', '_', '+', '-', {LONGEST_NAME} at most"
        )
    if name in REFERENCES:
        raise UserError(f"variant name '{name}' is that of a reconstruction without checkpoint: use another")
    if name in METHODS and name != method:
        raise UserError(f"variant '{name}' is of method {method}: use another name, or method {name}")


class Networks:
    """The networks of perceptual terms, each opened once.

    Args:
        device: Where they compute.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._opened: dict[tuple[PerceptualName, torch.dtype], Perceptual] = {}

    def open(self, candidate: Candidate) -> Perceptual | None:
        """Return the network of a candidate in tasks whose measurements are pictures, or None if it has none.

        Raises:
            UserError: Its weights are not on this machine.
        """
        name = candidate.options.perceptual_name(candidate.series.method)
        if name is None:
            return None
        key = name, compute_dtype(candidate.options.precision, self.device)
        if key not in self._opened:
            network = candidate.options.open_perceptual(candidate.series.method, self.device)
            assert network is not None  # noqa: S101  it has a name
            self._opened[key] = network
        return self._opened[key]


def check_baselines(names: Sequence[str]) -> None:
    """Raise UserError unless these are names of baselines, each once."""
    for name in names:
        if name not in BASELINES:
            raise unknown("baseline", name, BASELINES)
    if len(set(names)) != len(names):
        raise UserError(f"baselines is {','.join(names)}: name each once")


def in_order(selections: Iterable[str]) -> list[Selection]:
    """Return selections in the order in which they are listed everywhere."""
    wanted = set(selections)
    return [cast(Selection, s) for s in get_args(Selection) if s in wanted]
