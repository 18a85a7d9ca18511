"""StyleGAN2's training step as a LightningModule, vanilla and RTIL.

One step of ``batch`` images: the generator's logistic loss; every ``path_interval`` steps its path length; the
discriminator's logistic loss on the same pictures; every ``r1_interval`` steps its R1; the moving average. With RTIL
the pictures come from several branches (:mod:`rtil.branches`), whose losses add up with weights lambda.

Time is counted in images (``images_seen``), never in Lightning's ``global_step``, which counts every optimiser's
step. Every draw is keyed by (seed, purpose, images seen), so a resumed run continues with the same numbers.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from rtil.branches import Part
from rtil.devices import compute_dtype
from rtil.discriminators import DISCRIMINATORS
from rtil.discriminators.stylegan2 import group_of_sample
from rtil.errors import UserError
from rtil.generators import StyleGAN2Generator
from rtil.ranges import uint8_to_signed
from rtil.seeds import generator as seeded
from rtil.training.config import TrainingConfig
from rtil.training.ema import ema_decay, update_ema
from rtil.training.losses import discriminator_loss, generator_loss, path_lengths, r1_penalty

MAX_BAD_STEPS = 20
PHASES = ("generator", "path_length", "discriminator", "r1")


class TrainingDivergedError(UserError):
    """Gradients stayed non-finite for many steps in a row."""


class StyleGAN2Training(pl.LightningModule):
    """Trains a generator, a discriminator and the generator's moving average.

    Args:
        config: The settings; the device is Lightning's affair.
    """

    images_seen: Tensor
    path_mean: Tensor
    bad_steps: Tensor

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config = config
        with torch.random.fork_rng(devices=[]):  # nn.init draws from the global generator
            torch.manual_seed(seeded(config.seed, "weights").initial_seed())
            self.G = StyleGAN2Generator(
                config.resolution, config.channels, config.z_dim, config.w_dim, config.mapping_layers
            )
            self.D = DISCRIMINATORS[config.arch](config.resolution, config.channels)
        self.G_ema = copy.deepcopy(self.G).eval().requires_grad_(False)
        self.branches = config.branches_for(self.G.num_blocks)
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("path_mean", torch.zeros(self.branches.count))
        self.register_buffer("bad_steps", torch.zeros(len(PHASES), dtype=torch.int64))
        self.seen = 0  # images_seen as a Python number, so that no step waits for the device
        self.dtype_main = torch.float32
        self.stats: dict[str, Tensor] = {}

    def setup(self, stage: str) -> None:
        """Choose the type of the main phases once the device is known."""
        self.dtype_main = compute_dtype(self.config.precision, self.trainer.strategy.root_device)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for G and D, corrected for lazy regularisation (Karras et al. 2020, appendix B)."""
        c = self.config
        interval = c.path_interval if c.path_weight else None
        return [self._adam(self.G, interval), self._adam(self.D, c.r1_interval if c.r1_gamma else None)]

    def _adam(self, network: torch.nn.Module, interval: int | None) -> torch.optim.Optimizer:
        share = 1.0 if interval is None else interval / (interval + 1)
        return torch.optim.Adam(network.parameters(), self.config.lr * share, (0.0, 0.99**share), fused=True)

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """Take one step on reals [N, 3, R, R], uint8."""
        c = self.config
        step = self.seen // c.batch
        opt_g, opt_d = cast(list[Any], self.optimizers())
        reals = uint8_to_signed(batch)
        parts = self.branches.parts(group_of_sample(c.batch), seeded(c.seed, "train/branches", self.seen))
        fakes = self._generator_main(opt_g, parts)
        if c.path_weight and step % c.path_interval == 0:
            self._generator_path(opt_g)
        self._discriminator_main(opt_d, reals, fakes)
        if c.r1_gamma and step % c.r1_interval == 0:
            self._discriminator_r1(opt_d, reals)
        self.seen += c.batch
        self.images_seen.fill_(self.seen)
        update_ema(self.G_ema, self.G, ema_decay(c.batch, c.ema_halflife_kimg, self.seen, c.ema_rampup))

    def _generator_main(self, opt: Any, parts: list[Part]) -> list[tuple[Tensor, float]]:
        """Step G on its logistic loss; return the detached pictures of every part with its weight."""
        self.D.requires_grad_(False)
        fakes, loss = [], torch.zeros((), device=self.device)
        for index, part in enumerate(parts):
            images = self._generate(part.branch, "train/main", index)
            with self._computing():
                part_loss = part.weight * generator_loss(self.D(images))
            self.manual_backward(part_loss)
            loss = loss + part_loss.detach()
            fakes.append((images.detach(), part.weight))
        self._step(opt, self.G, "generator")
        self.D.requires_grad_(True)
        self.stats["loss/generator"] = loss
        return fakes

    def _discriminator_main(self, opt: Any, reals: Tensor, fakes: list[tuple[Tensor, float]]) -> None:
        with self._computing():
            real_scores = self.D(reals)
            fake_scores = [self.D(images) for images, _ in fakes]
        loss = discriminator_loss(real_scores, fake_scores, [weight for _, weight in fakes])
        self.manual_backward(loss)
        self._step(opt, self.D, "discriminator")
        self.stats["loss/discriminator"] = loss.detach()
        self.stats["scores/real"] = real_scores.detach().mean()
        self.stats["scores/fake"] = torch.stack([s.detach().mean() for s in fake_scores]).mean()

    def _discriminator_r1(self, opt: Any, reals: Tensor) -> None:
        with self._computing():
            penalty = r1_penalty(self.D, reals)
        self.manual_backward(penalty.mean() * (self.config.r1_gamma / 2 * self.config.r1_interval))
        self._step(opt, self.D, "r1")
        self.stats["regulariser/r1"] = penalty.detach().mean()

    def _generator_path(self, opt: Any) -> None:
        """Step G on its path length penalty, in float32, with one running mean per branch."""
        c = self.config
        n = max(1, c.batch // c.path_batch_shrink)
        parts = self.branches.parts(torch.arange(n), seeded(c.seed, "path/branches", self.seen))
        for index, part in enumerate(parts):
            rng = seeded(c.seed, "path/part", self.seen, index)
            ws, noise, z1 = self._inputs(part.branch, rng)
            y = torch.randn(n, 3, c.resolution, c.resolution, generator=rng).to(self.device) / c.resolution
            lengths = path_lengths(self.G, ws, noise, y, z1)
            branch = part.branch.to(self.device)
            self._update_path_mean(lengths.detach(), branch)
            penalty = (lengths - self.path_mean[branch]).square().mean()
            self.manual_backward(penalty * (part.weight * c.path_weight * c.path_interval))
            self.stats[f"regulariser/path_length_part{index}"] = lengths.detach().mean()
        self._step(opt, self.G, "path_length")

    def _update_path_mean(self, lengths: Tensor, branch: Tensor) -> None:
        member = torch.nn.functional.one_hot(branch, self.branches.count).to(lengths.dtype)  # [N B]
        count = member.sum(dim=0)
        mean = (lengths[:, None] * member).sum(dim=0) / count.clamp(min=1)
        mean = torch.where((count > 0) & mean.isfinite(), mean, self.path_mean)
        self.path_mean.lerp_(mean, self.config.path_decay)

    def _generate(self, branch: Tensor, purpose: str, index: int) -> Tensor:
        ws, noise, z1 = self._inputs(branch, seeded(self.config.seed, purpose, self.seen, index), track=True)
        with self._computing():
            return self.G(ws, noise, z1)

    def _inputs(
        self, branch: Tensor, rng: torch.Generator, track: bool = False
    ) -> tuple[Tensor, list[Tensor], dict[int, Tensor]]:
        """Draw ws [N, L, w_dim] with style mixing, noise maps and z1 for samples of the given branches."""
        n, L = len(branch), self.G.num_ws
        w = self.G.map_to_w(self.G.draw_z(2 * n, rng))
        if track:
            self.G.w_mean.lerp_(w.detach().mean(dim=0), 0.005)
        ws, other = w[:n, None].expand(-1, L, -1), w[n:, None].expand(-1, L, -1)
        crossover = torch.randint(1, L, (n, 1), generator=rng)
        mixes = torch.rand(n, 1, generator=rng) < self.config.style_mixing
        from_other = (mixes & (torch.arange(L) >= crossover)).to(self.device)  # [N L]
        ws = torch.where(from_other[:, :, None], other, ws)
        return ws, self.G.draw_noise(n, rng), self.branches.draw_z1(self.G, branch, rng)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Run G and D in the main phases' type inside the ``with`` block."""
        with self.G.computing_in(self.dtype_main):
            self.D.compute_dtype = self.dtype_main
            try:
                yield
            finally:
                self.D.compute_dtype = None

    def _step(self, opt: Any, network: torch.nn.Module, phase: str) -> None:
        """Step unless a gradient is not finite; give up after many such steps in a row."""
        index = PHASES.index(phase)
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        if bool(torch.isfinite(torch.nn.utils.get_total_norm(grads))):
            opt.step()
            self.bad_steps[index] = 0
        else:
            self.bad_steps[index] += 1
            self.stats[f"skipped_steps/{phase}"] = self.bad_steps[index].clone()
            if int(self.bad_steps[index]) >= MAX_BAD_STEPS:
                raise TrainingDivergedError(f"{MAX_BAD_STEPS} {phase} steps in a row were not finite: lower lr")
        opt.zero_grad(set_to_none=True)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the image count of the checkpoint."""
        self.seen = int(checkpoint["state_dict"]["images_seen"])
