"""Every physics of deepinv and how it runs in our solvers: ``python -m docs.physics`` writes the table of deepinv.md.

An entry builds a physics for colour pictures, wrapped in :class:`~rtil.inverse.operators.Adapted` where these are not
what it measures, or says why there is none. ``tests/docs/test_physics.py`` runs each of them through ILO and CSGM, and
fails when deepinv has a class that is not here.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rtil.inverse.operators import Adapted

PAGE = Path(__file__).parent / "deepinv.md"
START, END = "<!-- physics: start -->", "<!-- physics: end -->"


@dataclass(frozen=True)
class Entry:
    """How a class runs.

    Attributes:
        build: Called as build(deepinv.physics, side), for pictures of that side; None where it does not run.
        adapter: Arguments of :class:`~rtil.inverse.operators.Adapted`; None where colour pictures enter as they are.
        note: What to know; why not, where it does not run.
        needs: A package that deepinv does not bring.
        pictures: At a time, where its A takes no more.
    """

    build: Callable[[Any, int], Any] | None
    adapter: Mapping[str, Any] | None = None
    note: str = ""
    needs: str | None = None
    pictures: int = 2

    @property
    def how(self) -> str:
        """``runs``, the adapter, or ``no``."""
        if self.build is None or self.adapter is None:
            return "no" if self.build is None else "runs"
        return f"`Adapted({', '.join(['physics', *(f'{name}={value!r}' for name, value in self.adapter.items())])})`"

    def operator(self, physics: Any, side: int) -> Any:
        """Return what to give to a solver whose pictures have that side."""
        assert self.build is not None  # noqa: S101  the caller looked
        built = self.build(physics, side)
        return built if self.adapter is None else Adapted(built, **self.adapter)


GREY, GREY_COMPLEX, GREY_PAIR = (
    {"colour": "grey"} | more for more in ({}, {"values": "complex"}, {"values": "two-channel"})
)
COMPLEX = {"values": "complex"}


def _kernel() -> torch.Tensor:
    return torch.ones(1, 1, 3, 3) / 9


def _blur(p: Any) -> Any:
    return p.Blur(filter=_kernel(), padding="circular")


def _square(x: torch.Tensor, **_: Any) -> torch.Tensor:
    return x**2


def _inpainting(p: Any, side: int) -> Any:
    return p.Inpainting((3, side, side), mask=0.5)


def _coils(side: int) -> torch.Tensor:
    return torch.ones(1, 2, side, side, dtype=torch.complex64) / math.sqrt(2)


def _every_other_line(side: int) -> torch.Tensor:
    return (torch.arange(side) % 2 == 0).float().expand(side, side)


def _scattering(p: Any, side: int) -> Any:
    transmitters, receivers = p.scattering.circular_sensors(4, radius=1.0)
    return p.Scattering(img_width=side, transmitters=transmitters, receivers=receivers, verbose=False)


def _rotated(p: Any, side: int) -> Any:
    from deepinv.transform import Rotate

    transform = Rotate(n_trans=1, multiples=90, positive=True)
    parameters = {"theta": torch.tensor([90.0])}
    return p.VirtualLinearPhysics(physics=_inpainting(p, side), transform=transform, g_params=parameters)


def _planewave(p: Any, side: int) -> Any:
    elements = torch.stack([(torch.arange(8) - 3.5) * 3e-4, torch.zeros(8)], -1)
    angles, pixel = torch.deg2rad(torch.tensor([-10.0, 10.0])), 1540 / 5e6 / 2
    settings = {"sampling_frequency": 20e6, "n_samples": 128, "pixel_size": (pixel, pixel), "normalize": True}
    return p.UltrasoundPlaneWave(img_size=(side, side), angles=angles, element_positions=elements, **settings)


def _tiled(p: Any, side: int) -> Any:
    tiles = p.TiledSpaceVaryingBlur.num_filters(img_size=(side, side), patch_size=8, stride=4)
    return p.TiledSpaceVaryingBlur(
        filters=_kernel()[:, :, None].repeat(1, 3, math.prod(tiles), 1, 1), patch_size=8, stride=4
    )


def _radial(p: Any, side: int) -> Any:
    return p.NonCartesianMRI(
        (2, side, side), num_shots=8, num_samples_per_shot=32, coil_maps=_coils(side), backend="finufft"
    )


def _space_varying(p: Any, side: int) -> Any:
    multipliers = torch.full((1, 3, 2, side, side), 0.5)
    filters = _kernel()[:, :, None].repeat(1, 1, 2, 1, 1)
    return p.SpaceVaryingBlur(filters=filters, multipliers=multipliers, padding="circular")


def _hazy(p: Any, side: int) -> Any:
    from deepinv.utils import TensorList

    haze, depth, airlight = p.Haze(), torch.ones(1, 1, side, side), torch.tensor([0.8])
    return p.Physics(A=lambda x, **_: haze.A(TensorList([x, depth, airlight])))


CATALOGUE: Mapping[str, Entry] = {
    "Blur": Entry(lambda p, s: _blur(p)),
    "BlurFFT": Entry(lambda p, s: p.BlurFFT((3, s, s), filter=_kernel())),
    "BlurFFTMultiScaler": Entry(
        lambda p, s: p.BlurFFTMultiScaler(p.BlurFFT((3, s, s), filter=_kernel()), (3, s, s), factors=(2,))
    ),
    "BlurMultiScaler": Entry(lambda p, s: p.BlurMultiScaler(_blur(p), (3, s, s), factors=(2,))),
    "ComposedLinearPhysics": Entry(lambda p, s: p.Downsampling(filter="bicubic", factor=2) * _blur(p)),
    "ComposedPhysics": Entry(lambda p, s: p.compose(_blur(p), p.Physics(A=_square))),
    "CompressedSensing": Entry(lambda p, s: p.CompressedSensing(m=s * s, img_size=(3, s, s))),
    "CompressiveSpectralImaging": Entry(
        lambda p, s: p.CompressiveSpectralImaging((3, s, s), mask=0.5), note="the three colours are its bands"
    ),
    "Decolorize": Entry(lambda p, s: p.Decolorize()),
    "DecomposablePhysics": Entry(lambda p, s: p.DecomposablePhysics(mask=0.5)),
    "Demosaicing": Entry(lambda p, s: p.Demosaicing((3, s, s))),
    "Denoising": Entry(
        lambda p, s: p.Denoising(p.GaussianNoise(0.1)), note="its sigma is what `--sna_sigma known` stands for"
    ),
    "Downsampling": Entry(lambda p, s: p.Downsampling(filter="bicubic", factor=2)),
    "DownsamplingMatlab": Entry(lambda p, s: p.DownsamplingMatlab(factor=2)),
    "DynamicMRI": Entry(
        None, note="measures videos, and a generator makes pictures; one that stands still: SequentialMRI"
    ),
    "Haze": Entry(_hazy, note="depth and airlight are unknowns too: fix them in the A of a `Physics`"),
    "HyperSpectralUnmixing": Entry(
        lambda p, s: p.HyperSpectralUnmixing(E=3, C=8), note="the channels are abundances of three materials"
    ),
    "Inpainting": Entry(lambda p, s: _inpainting(p, s)),
    "InpaintingMultiScaler": Entry(lambda p, s: p.InpaintingMultiScaler(_inpainting(p, s), (3, s, s), factors=(2,))),
    "LinearPhysics": Entry(lambda p, s: p.LinearPhysics(A=lambda x, **_: x.sum(2), A_adjoint=lambda y, **_: y)),
    "LinearPhysicsMultiScaler": Entry(lambda p, s: p.LinearPhysicsMultiScaler(_blur(p), (3, s, s), factors=(2,))),
    "MRI": Entry(
        lambda p, s: p.MRI(mask=_every_other_line(s), img_size=(2, s, s)),
        GREY_PAIR,
        "or `colour='channelwise'`: one scan of each colour, as our own `mri`",
    ),
    "MultiCoilMRI": Entry(lambda p, s: p.MultiCoilMRI(coil_maps=_coils(s), img_size=(2, s, s)), GREY_PAIR),
    "NonCartesianMRI": Entry(_radial, GREY_PAIR, needs="mrinufft"),
    "PET": Entry(
        None, note="not tried: parallelproj is not on PyPI; single-channel, so `Adapted(physics, colour='grey')`"
    ),
    "Pansharpen": Entry(lambda p, s: p.Pansharpen((3, s, s), factor=2), note="y is a TensorList"),
    "PhaseRetrieval": Entry(lambda p, s: p.PhaseRetrieval(_blur(p)), note="if its linear B takes colour pictures"),
    "Physics": Entry(lambda p, s: p.Physics(A=_square)),
    "PhysicsCropper": Entry(
        lambda p, s: p.PhysicsCropper(_inpainting(p, s - 4), (4, 4)), {}, "its img_size is that of the cropped picture"
    ),
    "PhysicsMultiScaler": Entry(lambda p, s: p.PhysicsMultiScaler(p.Physics(A=_square), (3, s, s), factors=(2,))),
    "Ptychography": Entry(lambda p, s: p.Ptychography((1, s, s)), GREY_COMPLEX),
    "PtychographyLinearOperator": Entry(lambda p, s: p.PtychographyLinearOperator((1, s, s)), GREY_COMPLEX),
    "RadioInterferometry": Entry(
        lambda p, s: p.RadioInterferometry((s, s), samples_loc=torch.linspace(-3, 3, 80).view(2, 40)),
        GREY,
        needs="torchkbnufft",
    ),
    "RandomPhaseRetrieval": Entry(
        lambda p, s: p.RandomPhaseRetrieval(m=4 * s * s, img_size=(3, s, s)),
        COMPLEX,
        "with `colour='grey'` where its img_size has one channel",
    ),
    "Scattering": Entry(_scattering, GREY_COMPLEX, "the luma is the contrast of the medium"),
    "SequentialMRI": Entry(
        lambda p, s: p.SequentialMRI(mask=_every_other_line(s).repeat(1, 2, 3, 1, 1), img_size=(2, s, s)),
        GREY_PAIR,
        "the picture stands still; one at a time (`batch_size=1`), or as many masks as pictures",
        pictures=1,
    ),
    "SinglePhotonLidar": Entry(
        lambda p, s: p.SinglePhotonLidar(bins=10),
        note="the channels are depth, intensity and background, not colours; one at a time (`batch_size=1`)",
        pictures=1,
    ),
    "SinglePixelCamera": Entry(lambda p, s: p.SinglePixelCamera(m=s * s // 4, img_size=(3, s, s))),
    "SpaceVaryingBlur": Entry(_space_varying),
    "SpatialUnwrapping": Entry(
        lambda p, s: p.SpatialUnwrapping(threshold=2.0), note="its gradient knows nothing of the jumps"
    ),
    "StackedLinearPhysics": Entry(lambda p, s: p.Denoising().stack(_blur(p)), note="y is a TensorList"),
    "StackedPhysics": Entry(lambda p, s: p.Denoising().stack(p.Physics(A=_square)), note="y is a TensorList"),
    "StructuredRandom": Entry(lambda p, s: p.StructuredRandom((3, s, s), output_size=(3, s // 2, s // 2))),
    "StructuredRandomPhaseRetrieval": Entry(
        lambda p, s: p.StructuredRandomPhaseRetrieval((3, s, s), (3, s, s), n_layers=2), COMPLEX
    ),
    "TiledSpaceVaryingBlur": Entry(_tiled),
    "Tomography": Entry(
        lambda p, s: p.Tomography(angles=s, img_width=s),
        note="each colour on its own; of one X-ray energy: `colour='grey'`",
    ),
    "TomographyWithAstra": Entry(None, note="not tried: needs the package astra and CUDA; see Tomography"),
    "UltrasoundPlaneWave": Entry(_planewave, GREY, "the luma is the reflectivity"),
    "Upsampling": Entry(
        lambda p, s: p.Upsampling((3, 2 * s, 2 * s), filter="bilinear", factor=2), {}, "its img_size is that of y"
    ),
    "VirtualLinearPhysics": Entry(_rotated),
}
"""Every class of ``deepinv.physics`` that is a Physics."""


def physics_classes(physics: Any) -> list[str]:
    """Return the names of all classes of the installed ``deepinv.physics`` that measure."""
    found = inspect.getmembers(physics, inspect.isclass)
    return sorted(name for name, one in found if issubclass(one, physics.Physics))


def table() -> str:
    """Return the table in Markdown."""
    lines = ["| class | how | |", "| --- | --- | --- |"]
    for name, entry in CATALOGUE.items():
        needs = [f"needs the package {entry.needs}"] if entry.needs else []
        lines.append(f"| `{name}` | {entry.how} | {'; '.join([*needs, *filter(None, [entry.note])])} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """Return the text of deepinv.md with a new table."""
    head, _, rest = text.partition(START)
    return f"{head}{START}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
