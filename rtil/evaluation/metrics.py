"""PSNR, SSIM and LPIPS of each image on its own, so that every later statistic can be paired.

Reconstructions are clamped to [0, 1] first: what is judged is the picture that would be saved.

* PSNR: 10 log10(1 / MSE) with the mean over C, H, W of one image; identical pictures give +inf. (Pooling the error over
  a whole test set, a common default, gives another and lower number.)
* SSIM: Wang et al. 2004, Gaussian window of 11 pixels, sigma 1.5, data range 1, mean over channels and over the window
  positions that lie inside the picture (as in scikit-image). A side below 11 pixels leaves no such position: NaN.
* LPIPS: Zhang et al. 2018, v0.1. AlexNet's last layers need about 31 pixels and mean little there, so pictures whose
  shorter side is below 64 pixels are first enlarged to 64 (bilinear), both alike. Without weights: NaN.
"""

import logging

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from rtil.errors import UserError
from rtil.layout import LpipsNet
from rtil.ranges import to_signed
from rtil.weights import load_lpips

SSIM_WINDOW_PIXELS = 11
LPIPS_LEAST_PIXELS = 64

log = logging.getLogger(__name__)


class Metrics:
    """Judge reconstructions against the truth.

    Args:
        lpips: Backbone of LPIPS, or None to leave LPIPS out (NaN).
        device: Where the metrics are computed.

    Attributes:
        lpips_network: None when LPIPS is left out or its weights are not on this machine (one warning says so).

    Example:
        >>> metrics = Metrics(lpips=None)
        >>> grey = torch.full((1, 3, 16, 16), 0.5)
        >>> round(metrics(grey + 0.1, grey)["psnr"].item(), 3)
        20.0
    """

    def __init__(self, lpips: LpipsNet | None = "alex", device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        network = None if lpips is None else load_lpips(lpips)
        if lpips is not None and network is None:
            log.warning("LPIPS is n/a: its weights are not on this machine; get them by: rtil weights lpips")
        self.lpips_network = None if network is None else network.to(self.device)

    @torch.no_grad()
    def __call__(self, x: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Return {"psnr": dB, "ssim": -1..1, "lpips": >= 0}, each a float32 tensor [N] on the CPU.

        Args:
            x: Reconstructions [N, 3, H, W] in [0, 1]; clamped.
            truth: Pictures of the same shape in [0, 1].

        Raises:
            UserError: The shapes differ.
        """
        if x.shape != truth.shape or x.ndim != 4:
            raise UserError(
                f"metrics compare pictures of one shape [N, 3, H, W]: got {list(x.shape)} and {list(truth.shape)}"
            )
        x = x.to(self.device, torch.float32).clamp(0, 1)
        truth = truth.to(self.device, torch.float32)
        values = {"psnr": psnr(x, truth), "ssim": ssim(x, truth), "lpips": self._lpips(x, truth)}
        return {name: value.float().cpu() for name, value in values.items()}

    def _lpips(self, x: Tensor, truth: Tensor) -> Tensor:
        if self.lpips_network is None:
            return torch.full((len(x),), torch.nan)
        distance: Tensor = self.lpips_network(to_signed(_at_least_64(x)), to_signed(_at_least_64(truth)))
        return distance.flatten()


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio [N] in dB of pictures [N, C, H, W] in [0, 1]; +inf for identical ones."""
    return peak_signal_noise_ratio(x, truth, data_range=1.0, dim=(1, 2, 3), reduction="none")


def ssim(x: Tensor, truth: Tensor) -> Tensor:
    """Return the structural similarity [N] of pictures [N, C, H, W] in [0, 1]; NaN below 11 pixels."""
    if min(x.shape[-2:]) < SSIM_WINDOW_PIXELS or len(x) == 0:
        return torch.full((len(x),), torch.nan)
    # torchmetrics' own mean includes windows that hang over the border, filled by reflection; Wang's does not.
    _, per_window = structural_similarity_index_measure(
        x, truth, sigma=1.5, data_range=1.0, reduction="none", return_full_image=True
    )
    margin = SSIM_WINDOW_PIXELS // 2
    return per_window[..., margin:-margin, margin:-margin].mean((1, 2, 3))


def _at_least_64(x: Tensor) -> Tensor:
    """Enlarge pictures so that the shorter side has 64 pixels; larger ones stay as they are."""
    shorter = min(x.shape[-2:])
    if shorter >= LPIPS_LEAST_PIXELS:
        return x
    size = [round(side * LPIPS_LEAST_PIXELS / shorter) for side in x.shape[-2:]]
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
