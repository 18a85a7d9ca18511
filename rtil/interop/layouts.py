"""What a reader of one project's networks is, and what it makes of them; see :mod:`rtil.interop.foreign`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from rtil.errors import UserError
from rtil.generators import LayeredGenerator
from rtil.interop.checkpoint_files import Content

Weights = Mapping[str, Tensor]
"""Of a generator, by name."""


class Built(NamedTuple):
    """A generator with its weights.

    Attributes:
        generator: In float32.
        w_mean: Where its mean style comes from: ``stored``, ``estimated from N draws``, or ``none`` without styles.
        notes: What it does otherwise than the network in the file, one line each.
    """

    generator: LayeredGenerator
    w_mean: str
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Layout:
    """How a project names the weights of its generator.

    Attributes:
        name: Of the project, for people and for the card.
        signatures: Keys that its generators have and no others do; one of them is there.
        build: Called as build(network, whole): what lies below the generator's place, and all that the file holds.
            Raises UserError where ours cannot be that generator.
    """

    name: str
    signatures: Sequence[str]
    build: Callable[[Content, Content], Built]


def shape(weights: Weights, name: str) -> Sequence[int]:
    """Return the shape of a weight.

    Raises:
        UserError: It is missing.
    """
    if name not in weights:
        raise UserError(f"weight {name} is missing")
    return list(weights[name].shape)


def check_rgb(channels: int) -> None:
    """Raise UserError unless pictures have three channels."""
    if channels != 3:
        raise UserError(f"its pictures have {channels} channels: ours have 3")
