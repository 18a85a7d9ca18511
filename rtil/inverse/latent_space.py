"""How an inverter moves a generator's input: proxies v [N, L, D], ~ N(0, I) a priori, and their map to ws [N, L, D].

For a mapping network (``gaussian_wplus``) this is PULSE's proxy (Menon et al. 2020), which ILO uses: the network ends
in a LeakyReLU of slope 0.2; undone by one of slope 5, its outputs are nearly Gaussian, with moments mean and std, so

    ws = LeakyReLU_0.2(std v + mean)

maps N(0, I) to about the network's output. The moments are those of the very generator that is inverted (the public
code shares one file between all generators), and are kept in a cache by the hash of its weights.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from rtil import seeds
from rtil.caches import made_once
from rtil.errors import Notice, RunError, UserError
from rtil.files import cache_folder
from rtil.generators.base import LayeredGenerator, weight_hash
from rtil.inverse.settings import NoiseRule, Start
from rtil.tensor_files import read_tensors, write_tensors

FIT_DRAWS = 100_000
FIT_CHUNK = 2_000
SLOPE = 0.2
PROBES = 4

_known: WeakKeyDictionary[LayeredGenerator, tuple[Tensor, "LatentSpace"]] = WeakKeyDictionary()
"""Of each generator, what its mapping network made of a few z when its space was fitted, and that space."""


class LatentSpace(ABC):
    """A space of proxies v [N, L, D] whose prior is N(0, I).

    Args:
        rows: Style slots L.
        dim: Entries D of a row.
        device: Where drawn proxies go.
    """

    def __init__(self, rows: int, dim: int, device: torch.device) -> None:
        self.rows, self.dim, self.device = rows, dim, device

    @abstractmethod
    def ws(self, v: Tensor) -> Tensor:
        """Map proxies [N, L, D] to ws [N, L, D]; any subset of rows will do."""

    @abstractmethod
    def v(self, ws: Tensor) -> Tensor:
        """Map ws [..., D] back to proxies."""

    def start(self, kind: Start, image_ids: Sequence[str], seed: int, restart: int = 0) -> Tensor:
        """Return where to start: ``normal`` draws every row from N(0, I), ``mean`` is v = 0.

        Args:
            kind: ``normal`` or ``mean``.
            image_ids: One name per image; its draw depends on that, not on its place in the batch.
            seed: Root seed.
            restart: Number of the attempt.
        """
        if kind == "mean":
            return torch.zeros(len(image_ids), self.rows, self.dim, device=self.device)
        draws = [
            torch.randn(self.rows, self.dim, generator=seeds.generator(seed, "inverse/v", name, restart))
            for name in image_ids
        ]
        return torch.stack(draws).to(self.device)


class PlainZ(LatentSpace):
    """ws is v itself."""

    def ws(self, v: Tensor) -> Tensor:
        """Return v."""
        return v

    def v(self, ws: Tensor) -> Tensor:
        """Return ws."""
        return ws


class GaussianWPlus(LatentSpace):
    """Every style row is a Gaussian seen through a LeakyReLU.

    Args:
        mean: [D], of the mapping network's outputs after LeakyReLU_5.
        std: [D].
        rows: Style slots L.
    """

    def __init__(self, mean: Tensor, std: Tensor, rows: int) -> None:
        super().__init__(rows, len(mean), mean.device)
        self.mean, self.std = mean, std

    def ws(self, v: Tensor) -> Tensor:
        """Return LeakyReLU_0.2(std v + mean)."""
        return F.leaky_relu(torch.addcmul(self.mean, self.std, v), SLOPE)

    def v(self, ws: Tensor) -> Tensor:
        """Return (LeakyReLU_5(ws) - mean) / std; 0 for an entry that no proxy moves, where std is 0."""
        centred = F.leaky_relu(ws, 1 / SLOPE) - self.mean
        return torch.where(self.std > 0, centred / self.std, 0)


def latent_space_of(generator: LayeredGenerator) -> LatentSpace:
    """Return the proxies of a generator, fitting them to its mapping network if that was not yet done.

    The space is remembered as long as the generator lives and its mapping network maps as it did.
    """
    if generator.latent_space == "z":
        return PlainZ(generator.num_ws, generator.z_dim, generator.device)
    with torch.no_grad():  # not version counters: a replayed CUDA graph trains without counting
        probe = generator.mapping(generator.draw_z(PROBES, seeds.generator(0, "inverse/gaussian-fit")))[:, 0]
    if generator in _known:
        before, space = _known[generator]
        if before.device == probe.device and torch.equal(before, probe):
            return space
    with made_once(cache_folder() / "gaussian-fit"):
        mean, std = cached_fit(generator)
    space = GaussianWPlus(mean.to(generator.device), std.to(generator.device), generator.num_ws)
    _known[generator] = probe, space
    return space


def noise_maps(rule: NoiseRule, generator: LayeredGenerator, k: int) -> list[int]:
    """Return the indices of the noise maps that round k optimises: those that the rule names, behind cut k."""
    behind = range(generator.noise_of_block(k).start, len(generator.noise_shapes()))
    named = {
        "5+2k": range(5 + 2 * k),
        "first5": range(5),
        "next5": range(behind.start, behind.start + 5),
        "none": range(0),
        "all": behind,
    }[rule]
    return [i for i in behind if i in named]


def start_noise(generator: LayeredGenerator, image_ids: Sequence[str], seed: int, restart: int) -> list[Tensor]:
    """Draw one N(0, 1) map per noise input and image, [N, 1, H, W] each.

    Args:
        generator: Gives the shapes and the device.
        image_ids: One name per image; its draw depends on that, not on its place in the batch.
        seed: Root seed.
        restart: Number of the attempt.
    """
    of_image = [generator.draw_noise(1, seeds.generator(seed, "inverse/noise", i, restart)) for i in image_ids]
    return [torch.cat(maps) for maps in zip(*of_image, strict=True)]


@torch.no_grad()
def fit_gaussian(generator: LayeredGenerator, draws: int = FIT_DRAWS) -> tuple[Tensor, Tensor]:
    """Return mean and std [D], float32 on the CPU, of LeakyReLU_5(mapping(z)) over z ~ N(0, I).

    The gain behind the network's last LeakyReLU does not matter: LeakyReLUs commute with positive factors.
    """
    rng = seeds.generator(0, "inverse/gaussian-fit")
    total = squares = torch.zeros((), dtype=torch.float64)
    for done in range(0, draws, FIT_CHUNK):
        z = generator.draw_z(min(FIT_CHUNK, draws - done), rng)
        u = F.leaky_relu(generator.mapping(z)[:, 0].float(), 1 / SLOPE).cpu().double()
        total, squares = total + u.sum(0), squares + u.square().sum(0)
    mean = total / draws
    return mean.float(), (squares / draws - mean.square()).clamp(min=0).sqrt().float()


def cached_fit(generator: LayeredGenerator) -> tuple[Tensor, Tensor]:
    """Return :func:`fit_gaussian` from the cache, or compute and keep it.

    The cache is the folder RTIL_CACHE, by default the user's cache folder.
    """
    path = cache_folder() / f"gaussian-fit-{weight_hash(generator)}-{FIT_DRAWS}.safetensors"
    if path.is_file() and (kept := _kept_fit(path)) is not None:
        return kept
    mean, std = fit_gaussian(generator)
    try:
        write_tensors(path, {"mean": mean, "std": std}, {})
    except RunError as error:
        warnings.warn(
            f"the Gaussian fit is not cached ({error}); set RTIL_CACHE to a writable folder", Notice, stacklevel=2
        )
    return mean, std


def _kept_fit(path: Path) -> tuple[Tensor, Tensor] | None:
    """Return a fit from its file, or None where that is damaged, which is told."""
    try:
        tensors = read_tensors(path, needs_checksum=True)
        mean, std = tensors["mean"], tensors["std"]
        if mean.ndim != 1 or mean.shape != std.shape or not bool((mean.isfinite() & (std >= 0) & std.isfinite()).all()):
            raise UserError("it holds no mean and standard deviation")
    except (UserError, KeyError) as error:
        warnings.warn(f"the Gaussian fit {path} is made again: {error}", Notice, stacklevel=2)
        return None
    return mean, std


def row_norms(t: Tensor) -> Tensor:
    """Return the norms that a sphere keeps: of v [N, L, D] per row, of noise maps [N, 1, H, W] per map."""
    return torch.linalg.vector_norm(t, dim=tuple(range(2, t.ndim)), keepdim=True)


def on_sphere(t: Tensor, norms: Tensor) -> Tensor:
    """Scale rows or maps to the given norms. What began at zero has no sphere and is returned as it is.

    Args:
        t: [N, L, D] or [N, 1, H, W].
        norms: :func:`row_norms` at the start of the round.
    """
    return t * torch.where(norms > 1e-4, norms / row_norms(t), 1)
