"""StyleGAN2's training step, vanilla and RTIL.

One step of ``batch`` images: the generator's logistic loss; the discriminator's on the same pictures; every
``path_interval`` steps the generator's path length; every ``r1_interval`` steps the discriminator's R1; the moving
average. With RTIL the pictures come from several branches (:mod:`rtil.branches`), whose losses add up with weights
lambda.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from rtil.branches import Part
from rtil.devices import send
from rtil.discriminators import StyleGAN2Discriminator
from rtil.discriminators.stylegan2 import group_of_sample
from rtil.generators import StyleGAN2Generator
from rtil.ops import Noise, counter_normal, draw_later
from rtil.seeds import generator as seeded
from rtil.training.config import StyleGAN2Config
from rtil.training.losses import discriminator_loss, generator_loss, path_lengths, r1_penalty
from rtil.training.module import Fakes, GANTraining


class StyleGAN2Training(GANTraining[StyleGAN2Config]):
    """Trains StyleGAN2; see :class:`rtil.training.module.GANTraining`."""

    phases: ClassVar[tuple[str, ...]] = ("generator", "path_length", "discriminator", "r1")
    path_mean: Tensor

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__(config)
        self.register_buffer("path_mean", torch.zeros(self.branches.count))

    def networks(self) -> tuple[StyleGAN2Generator, StyleGAN2Discriminator]:
        """Return generator and discriminator."""
        c = self.config
        G = StyleGAN2Generator(c.resolution, c.channels, c.z_dim, c.w_dim, c.mapping_layers)
        return G, StyleGAN2Discriminator(c.resolution, c.channels)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for G and D, corrected for lazy regularisation."""
        c = self.config
        share_g = c.path_interval / (c.path_interval + 1) if c.path_weight else 1.0
        share_d = c.r1_interval / (c.r1_interval + 1) if c.r1_gamma else 1.0
        return [self.adam(self.G, share_g), self.adam(self.D, share_d)]

    def step_on(self, reals: Tensor, opt_g: Any, opt_d: Any) -> None:
        """Move G and D by one step; see :meth:`GANTraining.step_on`."""
        c = self.config
        step = self.seen // c.batch
        parts = self.branches.parts(group_of_sample(c.batch), seeded(c.seed, "train/branches", self.seen))
        fakes = self._generator_main(opt_g, parts)
        self._discriminator_main(opt_d, reals, fakes)
        if c.path_weight and step % c.path_interval == 0:
            self._generator_path(opt_g)
        if c.r1_gamma and step % c.r1_interval == 0:
            self._discriminator_r1(opt_d, reals)

    def scalars(self) -> dict[str, float]:
        """Return what the log shows, the mean path length of every branch too."""
        means = {f"path_mean/branch{j}": mean for j, mean in enumerate(self.path_mean.tolist())}
        return super().scalars() | means

    def inputs(self, branch: Tensor, rng: torch.Generator, track: bool = False) -> tuple[Tensor, list[Noise]]:
        """Draw ws with style mixing and noise maps; see :meth:`GANTraining.inputs`."""
        M, L = int(self.branches.codes_of(branch).sum()), self.G.num_ws
        w = self.G.map_to_w(self.G.draw_z(2 * M, rng))
        if track:
            self.G.w_mean.lerp_(w.detach().mean(dim=0), 0.005)
        ws, other = w[:M, None].expand(-1, L, -1), w[M:, None].expand(-1, L, -1)
        crossover = torch.randint(1, L, (M, 1), generator=rng)
        mixes = torch.rand(M, 1, generator=rng) < self.config.style_mixing
        from_other = send(mixes & (torch.arange(L) >= crossover), self.device)  # [M L]
        ws = torch.where(from_other[:, :, None], other, ws)
        return ws, self.choose_noise(rng)

    def _generator_main(self, opt: Any, parts: list[Part]) -> list[Fakes]:
        """Step G on its logistic loss; return the pictures of every part."""
        fakes = []
        for index, part in enumerate(parts):
            rng = seeded(self.config.seed, "train/main", self.seen, index)
            ws, noise = self.inputs(part.branch, rng, track=True)
            with self.computing():
                images = self.branches.generate(self.G, ws, noise, part.branch, rng)
            fakes.append(self.pull_generator(images, part.weight, generator_loss))
        self.take_step(opt, self.G, "generator")
        self.stats["loss/generator"] = torch.stack([f.generator_loss for f in fakes]).sum()
        return fakes

    def _discriminator_main(self, opt: Any, reals: Tensor, fakes: list[Fakes]) -> None:
        with self.computing():
            real_scores = self.D(reals)
        fake_scores = [f.scores for f in fakes]
        loss = discriminator_loss(real_scores, fake_scores, [f.weight for f in fakes])
        self.manual_backward(loss)
        self.take_step(opt, self.D, "discriminator")
        self.stats["loss/discriminator"] = loss.detach()
        self.log_scores(real_scores, fake_scores)

    def _discriminator_r1(self, opt: Any, reals: Tensor) -> None:
        with self.computing():
            penalty = r1_penalty(self.D, reals)
        self.manual_backward(penalty.mean() * (self.config.r1_gamma / 2 * self.config.r1_interval))
        self.take_step(opt, self.D, "r1")
        self.stats["regulariser/r1"] = penalty.detach().mean()

    def _generator_path(self, opt: Any) -> None:
        """Step G on its path length penalty, in float32, with one running mean per branch."""
        c = self.config
        n = max(1, c.batch // c.path_batch_shrink)
        parts = self.branches.parts(torch.arange(n), seeded(c.seed, "path/branches", self.seen))
        for index, part in enumerate(parts):
            rng = seeded(c.seed, "path/part", self.seen, index)
            ws, noise = self.inputs(part.branch, rng)
            y = counter_normal((n, 3, c.resolution, c.resolution), draw_later(rng).key, self.device) / c.resolution
            ws = ws if ws.requires_grad else ws.detach().requires_grad_(True)
            images = self.branches.generate(self.G, ws, noise, part.branch, rng)
            lengths = path_lengths(images, ws, y, self.branches.codes_of(part.branch))
            branch = send(part.branch, self.device)
            self._update_path_mean(lengths.detach(), branch)
            penalty = (lengths - self.path_mean[branch]).square().mean()
            self.manual_backward(penalty * (part.weight * c.path_weight * c.path_interval))
            self.stats[f"regulariser/path_length_part{index}"] = lengths.detach().mean()
        self.take_step(opt, self.G, "path_length")

    def _update_path_mean(self, lengths: Tensor, branch: Tensor) -> None:
        member = torch.nn.functional.one_hot(branch, self.branches.count).to(lengths.dtype)  # [N B]
        count = member.sum(dim=0)
        mean = (lengths[:, None] * member).sum(dim=0) / count.clamp(min=1)
        mean = torch.where((count > 0) & mean.isfinite(), mean, self.path_mean)
        self.path_mean.lerp_(mean, self.config.path_decay)
