"""Where an inversion starts when the user says so: at an earlier one, or at codes from outside.

A start holds some of the tensors of :attr:`rtil.inverse.result.Inversion.latents`, [S, N, ...] each; one attempt is
made from each of its S entries. What it does not hold is drawn as usual. ``ws`` alone, the W+ codes of an encoder say,
are turned into proxies; beside ``v`` it says nothing new and is not looked at. Tensors of type bool tell of an outcome,
and ``adapted`` is a picture: no attempt starts from them.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from rtil.errors import UserError, unknown
from rtil.generators.base import LayeredGenerator
from rtil.inverse.latent_space import LatentSpace

ADAPTED = "adapted"
"""Name of the picture that adapted weights add, [S, N, 3, R, R] in generator units, where there is one."""
Shapes = Mapping[str, tuple[int, ...]]
"""Of what a solver can start from, by name and for one image."""


def row_shape(generator: LayeredGenerator) -> tuple[int, int]:
    """Return (L, D) of one image's v, which are those of its ws."""
    with torch.no_grad():
        L, D = generator.mapping(torch.zeros(1, generator.z_dim, device=generator.device)).shape[1:]
    return L, D


def noise_start_shapes(generator: LayeredGenerator) -> Shapes:
    """Return those of ``noise_i``."""
    return {f"noise_{i}": shape for i, shape in enumerate(generator.noise_shapes())}


def check_start(start_from: Mapping[str, Tensor], shapes: Shapes, images: int) -> None:
    """Raise UserError unless the tensors are [S, N, ...] of valid names and shapes, with one S, and finite.

    Args:
        start_from: The tensors.
        shapes: What is valid, ``v`` among it.
        images: N.
    """
    given, valid = _tensors(start_from), {"v": shapes["v"], "ws": shapes["v"], **shapes}
    if not given:
        raise UserError(f"start_from is empty: valid are {', '.join(valid)}, [attempts, images, ...] each")
    for name, t in given.items():
        if name not in valid:
            raise unknown("tensor in start_from", name, valid)
        if t.ndim < 2 or len(t) == 0 or tuple(t.shape[1:]) != (images, *valid[name]):
            expected = ", ".join(["S", *map(str, (images, *valid[name]))])
            raise UserError(
                f"{name} in start_from has shape {list(t.shape)}: valid is [{expected}], S attempts at {images} images"
            )
        if not bool(t.isfinite().all()):
            raise UserError(f"{name} in start_from holds NaN or infinity: give finite numbers, or leave it away")
    attempts = {name: len(t) for name, t in given.items()}
    if len(set(attempts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in attempts.items())
        raise UserError(f"the tensors in start_from are for different numbers of attempts ({told}): give the same S")


def starts_of_attempts(start_from: Mapping[str, Tensor], space: LatentSpace) -> list[dict[str, Tensor]]:
    """Return for each attempt where it starts: tensors [N, ...], float32, on the space's device, ``v`` for ``ws``.

    Args:
        start_from: Checked tensors [S, N, ...].
        space: The input space.
    """
    given = {name: t.detach().to(space.device, torch.float32) for name, t in _tensors(start_from).items()}
    ws = given.pop("ws", None)
    if "v" not in given and ws is not None:
        given["v"] = space.v(ws)
    attempts = len(next(iter(given.values())))
    return [{name: t[s] for name, t in given.items()} for s in range(attempts)]


def _tensors(start_from: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t for name, t in start_from.items() if t.dtype != torch.bool and name != ADAPTED}
