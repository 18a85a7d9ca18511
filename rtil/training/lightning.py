"""What Lightning asks of a training besides its steps, so that any Trainer can log, validate, predict and restore it.

* ``self.log``: what the steps tell, for any logger and callback; the axis is images seen.
* ``trainer.validate``: distances of every branch's samples to the pictures that the loader gives (:mod:`rtil.quality`).
* ``trainer.predict``: pictures reconstructed from what the loader gives, by ILO with its defaults.
* ``load_from_checkpoint(path)`` needs nothing else: the settings are in the checkpoint, and nothing in it can run code.

Lightning itself refuses ``accumulate_grad_batches`` and ``gradient_clip_val`` for steps that are ours.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from rtil.branches import Branches
from rtil.data.batches import FacesDataModule
from rtil.data.compared import MOST_SAMPLES
from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.training.checkpoint import SETTINGS, resume_point
from rtil.training.config import TrainingConfig, config_of

if TYPE_CHECKING:
    from rtil.inverse.result import Inversion

ONLY_PRECISION = "32-true"


class LightningHooks(pl.LightningModule, ABC):
    """Base of the trainings.

    Args:
        config: The settings; what loggers show as hyperparameters, and what a checkpoint says of itself.
    """

    CHECKPOINT_HYPER_PARAMS_KEY = SETTINGS
    arch: ClassVar[str]
    G_ema: Any
    branches: Branches
    total_images: int
    seen: int

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__()
        self.config = config
        self.save_hyperparameters(config.to_json())
        self._reals: list[Tensor] = []
        self._predicted = 0

    @property
    def is_done(self) -> bool:
        """Whether all images have been seen."""
        return self.seen >= self.total_images

    @property
    def alike_until(self) -> int:
        """Images seen when steps begin to take longer than those of now, or all that there are."""
        return self.total_images

    @abstractmethod
    def scalars(self) -> Mapping[str, Tensor]:
        """Return what the log shows, on the device."""

    def refuse_other_precision(self) -> None:
        """Check the precision of a Trainer.

        Raises:
            UserError: It is not Lightning's default: the types of a step are ours.
        """
        if self.trainer.precision != ONLY_PRECISION:
            raise UserError(
                f"Trainer(precision='{self.trainer.precision}') is not valid here: leave it away, and set "
                "precision='bfloat16' in the training's settings, which keeps regularisers exact"
            )

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log where the Trainer logs at all; after the last image, stop."""
        if cast(Any, self.trainer).log_every_n_steps:
            self.log("step", torch.tensor(self.seen, dtype=torch.float64))  # float32 ends at 16 million images
            self.log_dict(self.scalars())
        if self.is_done:
            self.trainer.should_stop = True

    def on_validation_start(self) -> None:
        """Open the network that makes features, also before a training, so that what it lacks shows at once.

        Raises:
            UserError: Its weights are not on this machine; there are several processes, each with a part of the data.
        """
        from rtil.quality.features import PooledFeatures

        if self.trainer.world_size > 1:
            raise UserError("the quality of a prior is measured by one process: use Trainer(devices=1) to validate")
        self._features = [PooledFeatures("alex")]  # in a list: no part of the training's weights
        self._reals = []

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Take up real pictures, uint8 [N, 3, R, R]."""
        self._reals.append(batch.cpu())

    @torch.inference_mode(False)
    @torch.no_grad()
    def on_validation_epoch_end(self) -> None:
        """Log ``quality/DISTANCE/OF`` of every branch of the moving average, and of the first of the pictures."""
        from rtil.quality.measure import Comparison, values

        if self.trainer.sanity_checking:
            return
        reals = torch.cat(self._reals).clone()  # out of inference mode
        count = min(MOST_SAMPLES, len(reals) // 2)
        quality = Comparison(reals[:count], reals[count:], self._features[0], self.config.seed, self.device)
        self.log("step", torch.tensor(self.seen, dtype=torch.float64))
        self.log_dict(values([*quality.of_generator(self.G_ema, self.branches), quality.of_reals()]))
        self._reals = []

    def on_predict_start(self) -> None:
        """Count pictures, by which the draws of each are made."""
        self._predicted = 0

    @torch.inference_mode(False)
    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch, operators too, so that solvers can differentiate with it."""
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    @torch.inference_mode(False)
    def predict_step(self, batch: Tensor | Sequence[Any], batch_idx: int) -> "Inversion":
        """Reconstruct pictures with the moving average, by ILO with its defaults.

        Args:
            batch: Measurements and their operator, ``(y, operator)``, of a loader with ``batch_size=None``; or whole
                pictures, [N, 3, R, R], uint8 or in [0, 1], which are inverted.
            batch_idx: Place in the loader.

        Returns:
            The :class:`rtil.inverse.result.Inversion`; its ``x`` are the pictures, [N, 3, R, R] in [0, 1].
        """
        from ilo import ILO  # which knows nothing of trainings
        from rtil.inverse.operators import Identity

        generator: LayeredGenerator = self.G_ema
        side = generator.resolution
        y, operator = (batch, Identity((3, side, side))) if isinstance(batch, Tensor) else batch
        y = y.float() / 255 if y.dtype == torch.uint8 else y
        first, self._predicted = self._predicted, self._predicted + len(y)
        rank, ranks = self.trainer.global_rank, self.trainer.world_size  # which take the pictures in turn
        ids = [str(i * ranks + rank) for i in range(first, self._predicted)]
        return ILO(generator, seed=self.config.seed).invert(y, operator, ids)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: Any = "cpu", **changes: Any
    ) -> Self:
        """Return the training that wrote a checkpoint, as it was then, to go on with or to look at.

        Args:
            checkpoint_path: A run's ``checkpoint-*.ckpt``, or one of Lightning's own of this training.
            map_location: Where to put it.
            changes: Settings to change, such as ``kimg``.

        Raises:
            UserError: It cannot be read, or is not of a training of this class.
        """
        path = resume_point(Path(checkpoint_path).parent, str(checkpoint_path))
        checkpoint = torch.load(cast(Path, path), weights_only=True, map_location=map_location)
        if SETTINGS not in checkpoint:
            raise UserError(f"checkpoint {path} is not one of a training of this version: give another")
        config = config_of(checkpoint[SETTINGS] | changes)
        if config.arch != cls.arch:
            raise UserError(f"checkpoint {path} is of a {config.arch} training: {cls.__name__} trains {cls.arch}")
        module = cls(config)
        module.load_state_dict(checkpoint["state_dict"])
        module.take_up(checkpoint["state_dict"])
        return module.to(map_location)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on where the checkpoint is, with the data too."""
        self.take_up(checkpoint["state_dict"])
        data = self._trainer and cast(Any, self._trainer).datamodule
        if isinstance(data, FacesDataModule):
            data.images_seen = self.seen

    def take_up(self, weights: Mapping[str, Tensor]) -> None:
        """Follow a state that is being loaded."""
        self.seen = int(weights["images_seen"])
