"""The lit, turned ellipsoid that procedural faces are drawn on, and the soft-edged painting of shapes.

Pictures are x right, y down, in [-1, 1]; maps are [N, R, R], parameters [N, 1, 1], colours [N, 3, 1, 1].
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

Parameters = Mapping[str, Tensor]


class Sphere(NamedTuple):
    """Points of an ellipsoid seen from the front.

    Attributes:
        u: Face coordinate to the right, [-1, 1].
        v: Face coordinate downwards, [-1, 1].
        w: Face coordinate towards the nose, negative on the back of the head.
        normal: (x, y, z) of the surface in picture coordinates.
        coverage: Share of the pixel that the ellipsoid covers.
        pixel: Width of a pixel in face coordinates.
    """

    u: Tensor
    v: Tensor
    w: Tensor
    normal: tuple[Tensor, Tensor, Tensor]
    coverage: Tensor
    pixel: Tensor


def cast(p: Parameters, x: Tensor, y: Tensor, scale: Tensor | float, pixel: float) -> Sphere:
    """Cast parallel rays at the head (scale 1) or at the hair around it.

    Args:
        p: Parameters of the faces.
        x: Position relative to the middle of the head, turned back by roll.
        y: The same, downwards.
        scale: Size relative to the head.
        pixel: Width of a pixel in picture coordinates.
    """
    b = p["size"] * scale
    qy = y / b
    jaw = 1 - p["jaw"] * qy.clamp(0, 1.2).square()
    a = p["size"] * p["aspect"] * scale
    qx = x / (a * jaw)
    radius = (qx.square() + qy.square()).sqrt()
    qz = (1 - radius.square()).clamp_min(0).sqrt()
    coverage = inside((radius - 1) * a * 0.95, pixel)
    u = qx * p["yaw"].cos() - qz * p["yaw"].sin()
    w = qx * p["yaw"].sin() + qz * p["yaw"].cos()
    v = qy * p["pitch"].cos() - w * p["pitch"].sin()
    w = w * p["pitch"].cos() + qy * p["pitch"].sin()
    return Sphere(u, v, w, (qx, qy, qz), coverage, pixel / a)


def lambert(p: Parameters, nx: Tensor, ny: Tensor, nz: Tensor) -> Tensor:
    """Return the brightness of a surface: ambient and wrapped diffuse light."""
    length = (nx.square() + ny.square() + nz.square() + 1e-6).sqrt()
    facing = (nx * p["light_x"] + ny * p["light_y"] + nz * p["light_z"]) / length
    return p["ambient"] + (1.12 - p["ambient"]) * ((facing + 0.2) / 1.2).clamp_min(0)


def over(canvas: Tensor, colour: Tensor, coverage: Tensor) -> Tensor:
    """Paint a colour over the canvas where coverage [N, R, R] is 1."""
    return torch.lerp(canvas, colour, coverage[:, None])


def inside(distance: Tensor, width: Tensor | float) -> Tensor:
    """Return how much of a pixel of a given width lies inside a shape, from its signed distance (negative inside)."""
    return (0.5 - distance / width).clamp(0, 1)


def bump(distance: Tensor) -> Tensor:
    """Return exp(-d^2), a soft spot."""
    return (-distance.square()).exp()


def front(head: Sphere) -> Tensor:
    """Return 1 on the face, 0 on the back half of the head."""
    return ((head.w - 0.08) * 8).clamp(0, 1) * head.coverage
