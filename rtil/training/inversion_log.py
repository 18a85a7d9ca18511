"""How well the moving average inverts while it trains: a small fixed study by ILO, in ``study.csv`` and the loggers.

Always the same validation pictures, measured by the same operator, are reconstructed by the same few steps of ILO. The
error after its first round, which moves the latents alone, and after those behind each cut tells how good the range has
become, and what the intermediate layers add to it: in a vanilla training that is little, or less than nothing; in RTIL
it grows. A picture shows truth, the first round and the last one below each other.
"""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio

from rtil.data import open_dataset
from rtil.generators import LayeredGenerator
from rtil.pictures import image_grid
from rtil.ranges import to_unit, uint8_to_signed
from rtil.training.callbacks import EveryImages
from rtil.training.loggers import log_values, show_picture
from rtil.training.module import GANTraining
from rtil.training.progress import say
from rtil.training.quality import append_rows
from rtil.training.stop import StopRequest

FILE = "study.csv"
COLUMNS = ("kimg", "after", "psnr")
PICTURES, RATE = 8, 0.1
STEPS = (60, 40, 40, 60)


class InversionLog(EveryImages):
    """Inverts a few validation pictures every so many images, by compressed sensing at a tenth.

    Args:
        every_kimg: Thousands of images from one time to the next.
        stop: Ends an inversion, which is then left out.
    """

    def __init__(self, every_kimg: float, stop: StopRequest) -> None:
        super().__init__(every_kimg)
        self.stop = stop

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Read the pictures."""
        config = pl_module.config
        heldout = open_dataset(config.data, config.resolution, "validation")
        self.names = [heldout.key(i) for i in range(min(PICTURES, len(heldout)))]
        self.pictures = uint8_to_signed(heldout.load(range(len(self.names))))

    def act(self, trainer: pl.Trainer, module: GANTraining) -> None:
        """Invert, unless somebody asks to stop."""
        if not self.stop:
            with self.stop.leaving_out():
                self._invert(trainer, module)

    def _invert(self, trainer: pl.Trainer, module: GANTraining) -> None:
        truth = to_unit(module.shown(self.pictures.to(module.device)))
        with torch.enable_grad():
            rounds = rounds_of(module.G_ema, truth, self.names, module.config.seed)
        psnr = [
            float(peak_signal_noise_ratio(x, truth, data_range=1.0, dim=(1, 2, 3), reduction="elementwise_mean"))
            for x in rounds
        ]
        told = dict(zip(("latents", *(f"cut {k}" for k in range(1, len(psnr)))), psnr, strict=True))
        kimg = module.seen / 1000
        log_values(trainer, {f"study/psnr/{after}": value for after, value in told.items()}, module.seen)
        rows = [[f"{kimg:.3f}", after, f"{value:.4f}"] for after, value in told.items()]
        append_rows(Path(trainer.default_root_dir) / FILE, COLUMNS, kimg, rows)
        grid = image_grid(torch.cat([truth, rounds[0], rounds[-1]]).cpu(), len(truth))
        show_picture(trainer, "study: truth, latents, all cuts", grid, module.seen)
        say(trainer, f"ILO at {kimg:.1f} kimg: " + ", ".join(f"{after} {v:.2f} dB" for after, v in told.items()))


def rounds_of(generator: LayeredGenerator, truth: Tensor, names: list[str], seed: int) -> Tensor:
    """Return what ILO makes of pictures that were measured: [rounds, N, 3, R, R] in [0, 1].

    Args:
        generator: The prior.
        truth: [N, 3, R, R] in [0, 1], of the generator's present side.
        names: N names, by which draws are made.
        seed: Root seed.
    """
    from ilo import ILO  # which knows nothing of trainings
    from ilo.settings import ILOSettings
    from rtil.inverse.operators import PartialCirculant

    operator = PartialCirculant(tuple(truth.shape[1:]), RATE, seed).to(truth.device)
    solver = ILO(generator, ILOSettings(steps=STEPS[: generator.num_blocks]), seed=seed)
    return solver.invert(operator(truth), operator, names).rounds
