"""PGGAN's training step (Karras et al. 2018), vanilla and RTIL: Wasserstein loss with gradient penalty, growing.

One step: the generator's loss; the discriminator's loss on the same pictures, with the gradient penalty between each
part's pictures and the reals, and the drift penalty; the moving average. A stage of the schedule
(:mod:`rtil.training.growing`) says how many blocks both networks show and how far the newest one is faded in. The
discriminator compares all pictures of a batch, so with estimator ``sampled`` a whole step belongs to one branch.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.branches import Part
from rtil.devices import send
from rtil.discriminators import PGGANDiscriminator
from rtil.generators import PGGANGenerator
from rtil.seeds import generator as seeded
from rtil.training.config import PGGANConfig
from rtil.training.growing import Moment
from rtil.training.module import Fakes, GANTraining
from rtil.training.wgan import drift_penalty, gradient_penalty, wasserstein_estimate


class PGGANTraining(GANTraining[PGGANConfig]):
    """Trains PGGAN; see :class:`rtil.training.module.GANTraining`."""

    phases: ClassVar[tuple[str, ...]] = ("generator", "discriminator")

    def __init__(self, config: PGGANConfig) -> None:
        super().__init__(config)
        self.schedule = config.schedule()
        self._show(self.schedule.at(0))

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

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for G and D."""
        return [self.adam(self.G), self.adam(self.D)]

    def step_on(self, reals: Tensor, opt_g: Any, opt_d: Any) -> None:
        """Move G and D by one step; see :meth:`GANTraining.step_on`."""
        c = self.config
        moment = self.schedule.at(self.seen)
        self._show(moment)
        if c.reset_adam and moment.stage.first_image == self.seen > 0:
            for opt in (opt_g, opt_d):
                opt.optimizer.state.clear()
        one_group = torch.zeros(len(reals), dtype=torch.int64)
        parts = self.branches.parts(one_group, seeded(c.seed, "train/branches", self.seen))
        fakes = self._generator(opt_g, parts)
        self._discriminator(opt_d, self._shrunk(reals, moment), fakes)
        self.stats["growing/side"] = torch.tensor(moment.stage.side)
        self.stats["growing/alpha"] = torch.tensor(moment.fade)

    def _show(self, moment: Moment) -> None:
        for network in (self.G, self.D, self.G_ema):
            network.grow(moment.stage.blocks, moment.fade)

    def _shrunk(self, reals: Tensor, moment: Moment) -> Tensor:
        """Return reals at the side of the stage, where asked for faded like the generator's pictures."""
        factor = self.config.resolution // moment.stage.side
        reals = F.avg_pool2d(reals, factor) if factor > 1 else reals
        if not self.config.fade_reals or moment.fade == 1:
            return reals
        coarse = F.avg_pool2d(reals, 2).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return torch.lerp(coarse, reals, moment.fade)

    def _generator(self, opt: Any, parts: list[Part]) -> list[Fakes]:
        """Step G on its loss; return the pictures of every part."""
        fakes = []
        for index, part in enumerate(parts):
            images = self.generate(part.branch, seeded(self.config.seed, "train/main", self.seen, index))
            fakes.append(self.pull_generator(images, part.weight, lambda scores: -scores.mean()))
        self.take_step(opt, self.G, "generator")
        self.stats["loss/generator"] = torch.stack([f.generator_loss for f in fakes]).sum()
        return fakes

    def _discriminator(self, opt: Any, reals: Tensor, fakes: list[Fakes]) -> None:
        c = self.config
        with self.computing():
            real_scores = self.D(reals)
        fake_scores = [f.scores for f in fakes]
        estimate = wasserstein_estimate(real_scores, fake_scores, [f.weight for f in fakes])
        loss = c.drift * drift_penalty(real_scores) - estimate
        self.manual_backward(loss)
        total = torch.zeros((), device=self.device)
        for index, part in enumerate(fakes if c.gp_weight else []):
            rng = seeded(c.seed, "train/penalty", self.seen, index)
            position = send(torch.rand(len(reals), generator=rng), self.device)
            with self.computing():
                penalty = part.weight * gradient_penalty(self.D, reals, part.images, position).mean()
            self.manual_backward(c.gp_weight * penalty)
            total = total + penalty.detach()
        self.take_step(opt, self.D, "discriminator")
        self.stats["loss/discriminator"] = loss.detach() + c.gp_weight * total
        self.stats["loss/wasserstein"] = estimate.detach()
        self.stats["regulariser/gradient_penalty"] = total
        self.log_scores(real_scores, fake_scores)
