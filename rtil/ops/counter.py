"""Gaussian numbers addressed by (key, index): every tier, device and layout draws the same ones.

Philox4x32-10 (Salmon et al. 2011) maps the counter j under a 64-bit key to four 32-bit words; Box and Muller's
transform of words (0, 1) and (2, 3) gives the elements 4j .. 4j+3. Nothing is stored between draws, so a fused kernel
can draw in its forward pass, again in its backward pass, and a resumed run gets the same numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rtil.devices import to_device
from rtil.ops.plan import is_nhwc
from rtil.ops.tier import tier_of

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_CACHED_COUNTERS = 1 << 15  # whose words stay in a CPU's caches


@dataclass(frozen=True)
class Drawn:
    """Gaussian input that is drawn where it is used; takes the place of a tensor [N, C, H, W] and has no gradient.

    Attributes:
        key: 64 bits; element (n, c, h, w) is the number of index ((n C + c) H + h) W + w.
        sigma: [N] standard deviation of every sample; None is 1.
        rows: [N], on the CPU, which samples of a larger batch these are; None is 0 .. N-1.
    """

    key: int
    sigma: Tensor | None = None
    rows: Tensor | None = None


Noise = Tensor | Drawn


def draw_later(generator: torch.Generator, sigma: Tensor | None = None, rows: Tensor | None = None) -> Drawn:
    """Take only a key from ``generator`` now: the numbers are drawn where they are used; see :class:`Drawn`."""
    return Drawn(int(torch.randint(2**63 - 1, (), generator=generator)), sigma, rows)


def philox(counter: Tensor, key: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the four 32-bit words of Philox4x32-10 for the counters (low, high, 0, 0).

    Args:
        counter: int64, any shape.
        key: Its low and high 32 bits are the key's two words.

    Returns:
        Four int64 tensors of that shape, with values below 2^32.
    """
    k0, k1 = key & _MASK, key >> 32 & _MASK
    c0, c1 = counter & _MASK, counter >> 32 & _MASK
    c2 = c3 = torch.zeros_like(counter)
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]  # modulo 2^64, which is what the words need
        c0 = (p1 >> 32).bitwise_xor_(c1).bitwise_xor_(k0).bitwise_and_(_MASK)
        c2 = (p0 >> 32).bitwise_xor_(c3).bitwise_xor_(k1).bitwise_and_(_MASK)
        c1, c3 = p1, p0  # their upper halves are masked when they are used
        k0, k1 = k0 + _WEYL[0] & _MASK, k1 + _WEYL[1] & _MASK
    return c0, c1 & _MASK, c2, c3 & _MASK


def int64_bits(key: int) -> int:
    """Return the signed 64-bit integer with the low 64 bits of ``key``, as a compiled operation takes it."""
    return (key & (1 << 64) - 1 ^ 1 << 63) - (1 << 63)


def counter_normal(
    shape: Sequence[int], key: int, device: torch.device | str = "cpu", rows: Tensor | None = None
) -> Tensor:
    """Return N(0, 1) numbers, float32, contiguous; element i depends on key and i only.

    Args:
        shape: Of the result.
        key: 64 bits, for instance :func:`rtil.seeds.derive_seed`.
        device: Of the result. Tiers and devices agree up to the rounding of logarithm, sine and cosine. For Apple's
            GPUs, which have no float64, the CPU draws.
        rows: [shape[0]], on the CPU, which rows of a larger result these are; None is the first ones.

    Example:
        >>> torch.equal(counter_normal((2, 3), 7)[1], counter_normal((6,), 7)[3:])
        True
    """
    if torch.device(device).type == "mps":
        return counter_normal(shape, key, rows=rows).to(device)
    empty = torch.empty(0, device=device)
    tier = tier_of("counter_normal", empty)
    if rows is not None:
        if tier == "native" and empty.device.type == "cpu":
            return _draw_rows(shape[1:], key, rows)
        return counter_normal((int(rows.max()) + 1, *shape[1:]), key, device)[to_device(rows, empty.device)]
    if tier == "ext":
        return torch.ops.rtil.counter_normal(list(shape), int64_bits(key), empty)
    n = math.prod(shape)
    counters = torch.arange(-(-n // 4), device=device)
    return _normals(counters, key, torch.float64 if tier == "ref" else torch.float32)[:n].reshape(*shape)


def materialise(value: Noise, shape: Sequence[int], like: Tensor) -> Tensor:
    """Return the tensor that ``value`` stands for, in the type, on the device and in the layout of ``like``.

    Args:
        value: A tensor (converted only) or what is to be drawn.
        shape: [N, C, H, W] of what is drawn.
        like: Any tensor of four dimensions.
    """
    if isinstance(value, Tensor):
        return value.to(like)
    if value.sigma is None:
        x = counter_normal(shape, value.key, like.device, value.rows)
    elif like.device.type == "cpu" and tier_of("counter_normal", like) == "native":
        sigma = value.sigma.detach()
        own = sigma.nonzero().squeeze(1)  # of a step's branches, few reach the wide maps
        drawn = _draw_rows(shape[1:], value.key, own if value.rows is None else value.rows[own])
        x = torch.zeros(*shape).index_copy_(0, own, drawn * sigma[own].reshape(-1, 1, 1, 1))
    else:
        drawn = counter_normal(shape, value.key, like.device, value.rows)
        x = drawn * value.sigma.detach().to(like.device).reshape(-1, 1, 1, 1)
    return x.to(like.dtype, memory_format=torch.channels_last if is_nhwc(like) else torch.contiguous_format)


def _draw_rows(shape_of_row: Sequence[int], key: int, rows: Tensor) -> Tensor:
    """Draw some rows only, on a CPU without the compiled operations."""
    counters_of_row, rest = divmod(math.prod(shape_of_row), 4)
    if rest:
        return counter_normal((int(rows.max()) + 1 if len(rows) else 0, *shape_of_row), key)[rows]
    counters = rows[:, None] * counters_of_row + torch.arange(counters_of_row)
    return _normals(counters.flatten(), key, torch.float32).reshape(-1, *shape_of_row)


def _normals(counters: Tensor, key: int, exact: torch.dtype) -> Tensor:
    """Return the four numbers of every counter [m], one after the other: [4m] float32, computed in type ``exact``."""
    step = _CACHED_COUNTERS if counters.device.type == "cpu" else len(counters)
    chunks = [_box_muller(philox(part, key), exact) for part in counters.split(max(step, 1))]
    return torch.cat(chunks)


def _box_muller(words: tuple[Tensor, Tensor, Tensor, Tensor], exact: torch.dtype) -> Tensor:
    pairs = []
    for w_radius, w_angle in (words[:2], words[2:]):
        uniform = w_radius.double().add_(0.5).mul_(2**-32)  # float32 has too few digits next to 1
        radius = uniform.log_().mul_(-2).to(exact).sqrt_()
        angle = w_angle.to(exact).mul_(2**-32 * 2 * math.pi)
        pairs += [radius * angle.cos(), radius * angle.sin()]
    return torch.stack(pairs, dim=-1).flatten().float()
