"""What PGGAN's training adds to the step of :mod:`rtil.training.module` (Karras et al. 2018), vanilla and RTIL.

The Wasserstein loss with a gradient penalty between each part's pictures and the reals and a drift penalty; growing: a
stage of the schedule (:mod:`rtil.training.growing`) says how many blocks both networks show and how far the newest one
is faded in. The discriminator compares all pictures of a batch, so with estimator ``sampled`` a whole step belongs to
one branch.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.devices import to_device
from rtil.discriminators import PGGANDiscriminator
from rtil.discriminators.pggan import batch_variance
from rtil.generators import PGGANGenerator
from rtil.seeds import generator as seeded
from rtil.training.config import PGGANConfig
from rtil.training.losses import gradient_penalty
from rtil.training.module import Fakes, GANTraining


class PGGANTraining(GANTraining):
    """Trains PGGAN; see :class:`rtil.training.module.GANTraining`."""

    arch: ClassVar[str] = "pggan"
    config: PGGANConfig
    phases: ClassVar[tuple[str, ...]] = ("generator", "discriminator")

    def __init__(self, config: PGGANConfig) -> None:
        super().__init__(config)
        self.schedule = config.schedule()
        self.grow(0)

    def networks(self) -> tuple[PGGANGenerator, PGGANDiscriminator]:
        """Return generator and discriminator."""
        c = self.config
        G = PGGANGenerator(
            c.resolution,
            c.channels,
            c.z_dim,
            normalize_latent=c.normalize_latent,
            upsampling=c.upsampling,
            norm_order=c.norm_order,
            torgb_gain=c.torgb_gain,
        )
        return G, PGGANDiscriminator(c.resolution, c.channels, c.d_pixel_norm)

    @staticmethod
    def inseparable(n: int) -> Tensor:
        """Return every picture by itself: the processes compare theirs with each other's."""
        return torch.arange(n)

    def compared_groups(self, n: int) -> Tensor:
        """Return one group."""
        return torch.zeros(n, dtype=torch.int64)

    def step_on(self, reals: Tensor) -> None:
        """Move G and D by one step; in it, and only there, D compares the pictures of all processes."""
        if self.ranks.world_size > 1:
            self.D.batch_variance = self.ranks.variance
        try:
            super().step_on(reals)
        finally:
            self.D.batch_variance = batch_variance

    def begin_step(self, reals: Tensor) -> Tensor:
        """Grow the networks; return the reals as the stage shows them."""
        stage, alpha = self.schedule.at(self.seen)
        self.grow(self.seen)
        if self.config.reset_adam and stage.first_image == self.seen > 0:
            for opt in cast(list[Any], self.optimizers()):
                opt.optimizer.state.clear()
        self.stats |= {"growing/side": torch.tensor(stage.side), "growing/alpha": torch.tensor(alpha)}
        return self.shown(reals)

    def shown(self, reals: Tensor) -> Tensor:
        """Return reals at the side that D shows, if asked for faded like G's pictures."""
        factor, alpha = self.config.resolution // self.D.resolution, self.D.fade
        reals = F.avg_pool2d(reals, factor) if factor > 1 else reals
        if not self.config.fade_reals or alpha == 1:
            return reals
        coarse = F.avg_pool2d(reals, 2).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return torch.lerp(coarse, reals, alpha)

    @property
    def alike_until(self) -> int:
        """Images seen at the end of the stage."""
        stage, _ = self.schedule.at(self.seen)
        return stage.first_image + stage.images

    def take_up(self, weights: Mapping[str, Tensor]) -> None:
        """Show the blocks that the last step has shown; see :meth:`GANTraining.take_up`."""
        super().take_up(weights)
        if self.seen:
            stage, _ = self.schedule.at(self.seen - 1)
            self.grow(self.seen - stage.batch)

    def grow(self, images_seen: int) -> None:
        """Show the blocks of a position of the schedule in all networks."""
        stage, alpha = self.schedule.at(images_seen)
        for network in (self.G, self.D, self.G_ema):
            network.grow(stage.blocks, alpha)

    def generator_loss(self, scores: Tensor) -> Tensor:
        """Return G's part of the Wasserstein estimate."""
        return -scores.mean()

    def discriminator_loss(self, real_scores: Tensor, fakes: list[Fakes]) -> Tensor:
        """Return the penalty that keeps the scores of reals near 0, minus the Wasserstein estimate."""
        estimate = real_scores.mean() - torch.stack([f.part.weight * f.scores.mean() for f in fakes]).sum()
        self.stats["loss/wasserstein"] = estimate.detach()
        return self.config.drift * real_scores.square().mean() - estimate

    def penalties_backward(self, reals: Tensor, fakes: list[Fakes]) -> Tensor:
        """Run the gradient penalty's backward pass, part by part."""
        c = self.config
        total = torch.zeros((), device=self.device)
        for index, fake in enumerate(fakes if c.gp_weight else []):
            rng = seeded(c.seed, "train/penalty", self.seen, index)
            (rows,) = self.own_rows(len(fake.part.branch))
            positions = torch.rand(len(fake.part.branch), generator=rng)
            position = to_device(positions if rows is None else positions[rows], self.device).to(reals.dtype)
            with self.computing():
                penalty = fake.part.weight * gradient_penalty(self.D, reals, fake.images, position).mean()
            self.manual_backward(c.gp_weight * penalty)
            total = total + penalty.detach()
        self.stats["regulariser/gradient_penalty"] = total
        return c.gp_weight * total
