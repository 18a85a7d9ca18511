"""Several codes in one picture: their features mixed at a cut (Gu et al. 2020, equation 4; RTIL, section 3.2).

The heads of all codes run as rows of one batch. At the cut the rows of one picture become one state:

    feature = sum_k alpha_k * feature_k        alpha_k one scalar (RTIL's training) or one per channel (mGANprior)
    rgb     = sum_k mean(alpha_k) rgb_k        the picture accumulated so far, where there is one
    ws      = sum_k mean(alpha_k) ws_k         the styles of the tail

with mean over the channels. With one code and alpha 1 all of this is the plain generator. Noise maps are shared by the
codes of a picture. Memory for the backward pass is bounded by running the rows in chunks that are computed again.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rtil.generators.base import LayeredGenerator, State
from rtil.generators.recompute import recomputed
from rtil.layout import DEFAULT_CHUNK


def head_of_rows(
    generator: LayeredGenerator, ws: Tensor, noise: Sequence[Tensor], cut: int, chunk: int = DEFAULT_CHUNK
) -> State:
    """Run many codes to a cut; the values do not depend on the chunk, only memory and time do.

    Args:
        generator: The generator.
        ws: Rows [R, L, D].
        noise: Maps [R or 1, 1, H, W].
        cut: Where to stop.
        chunk: Rows whose activations are kept for the backward pass at one time.

    Returns:
        The state of R rows.
    """
    if len(ws) <= chunk:
        return generator.head(ws, noise, cut)
    dtype = generator.compute_dtype

    def head(rows_ws: Tensor, rows_noise: list[Tensor]) -> State:
        with generator.computing_in(dtype):  # the backward pass, which computes it again, may run outside the context
            return generator.head(rows_ws, rows_noise, cut)

    states = []
    for first in range(0, len(ws), chunk):
        rows = slice(first, first + chunk)
        maps = [n if len(n) == 1 else n[rows] for n in noise]
        states.append(recomputed(head, ws[rows], maps))
    rgbs = [state.rgb for state in states if state.rgb is not None]
    return State(torch.cat([state.feature for state in states]), torch.cat(rgbs) if rgbs else None)


def mix_rows(state: State, weights: Tensor) -> State:
    """Mix rows by one scalar for each picture and row.

    Args:
        state: Of R rows.
        weights: [N, R]; zero where a row does not belong to a picture.

    Returns:
        The state of N pictures.
    """
    return State(_mixed(state.feature, weights), None if state.rgb is None else _mixed(state.rgb, weights))


def mix_channels(state: State, alpha: Tensor) -> State:
    """Mix rows by one weight for each picture, code and channel.

    Args:
        state: Of N K rows, the K codes of a picture one after the other.
        alpha: [N, K, C].

    Returns:
        The state of N pictures.
    """
    N, K = alpha.shape[:2]
    feature = state.feature.permute(0, 2, 3, 1).unflatten(0, (N, K))  # [N K H W C]
    mixed = (feature * alpha[:, :, None, None].to(feature.dtype)).sum(1).permute(0, 3, 1, 2)
    rgb = state.rgb
    if rgb is not None:
        rgb = torch.einsum("nk...,nk->n...", rgb.unflatten(0, (N, K)), alpha.mean(2).to(rgb.dtype))
    return State(mixed, rgb)


def mix_ws(ws: Tensor, alpha: Tensor) -> Tensor:
    """Return the tail's styles [N, L, D] of ws [N, K, L, D] and alpha [N, K, C]."""
    return torch.einsum("nkld,nk->nld", ws, alpha.mean(2))


def picture_of_codes(
    generator: LayeredGenerator,
    ws: Tensor,
    alpha: Tensor,
    noise: Sequence[Tensor],
    cut: int,
    chunk: int = DEFAULT_CHUNK,
) -> Tensor:
    """Compose K codes at a cut and run the tail once (Gu et al. 2020, equation 4, on any generator).

    Args:
        generator: The generator.
        ws: [N, K, L, D].
        alpha: [N, K, C], C being the width at the cut.
        noise: Maps [N, 1, H, W], shared by the codes of a picture.
        cut: Where the codes become one.
        chunk: See :func:`head_of_rows`.

    Returns:
        Raw pictures [N, 3, R, R].
    """
    K = ws.shape[1]
    used = noise[: generator.noise_of_block(cut - 1).stop]
    maps = [n[:, None].expand(-1, K, -1, -1, -1).flatten(0, 1) for n in used]
    state = head_of_rows(generator, ws.flatten(0, 1), maps, cut, chunk)
    return generator.tail(mix_channels(state, alpha), mix_ws(ws, alpha), noise, cut)


def _mixed(x: Tensor, weights: Tensor) -> Tensor:
    rows = x.permute(0, 2, 3, 1)  # channels_last features are contiguous so
    return (weights.to(x.dtype) @ rows.flatten(1)).unflatten(1, rows.shape[1:]).permute(0, 3, 1, 2)
