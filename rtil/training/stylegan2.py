"""What StyleGAN2's training adds to the step of :mod:`rtil.training.module`, vanilla and RTIL.

Style mixing, the logistic loss, and two lazy regularisers: every ``path_interval`` steps the generator's path length,
every ``r1_interval`` steps the discriminator's R1. With RTIL the path length of every branch has a mean of its own.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from rtil.branches import Part
from rtil.devices import to_device
from rtil.discriminators import StyleGAN2Discriminator
from rtil.discriminators.stylegan2 import group_of_sample
from rtil.generators import StyleGAN2Generator
from rtil.ops import Noise, counter_normal, draw_later
from rtil.seeds import generator as seeded
from rtil.training.config import StyleGAN2Config
from rtil.training.losses import path_lengths, r1_penalty
from rtil.training.module import Fakes, GANTraining


class StyleGAN2Training(GANTraining):
    """Trains StyleGAN2; see :class:`rtil.training.module.GANTraining`."""

    arch: ClassVar[str] = "stylegan2"
    config: StyleGAN2Config
    phases: ClassVar[tuple[str, ...]] = ("generator", "path_length", "discriminator", "r1")
    path_mean: Tensor

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__(config)
        self.turn_means: list[Tensor] = []
        self.register_buffer("path_mean", torch.zeros(self.branches.count))

    def networks(self) -> tuple[StyleGAN2Generator, StyleGAN2Discriminator]:
        """Return generator and discriminator."""
        c = self.config
        G = StyleGAN2Generator(c.resolution, c.channels, c.z_dim, c.w_dim, c.mapping_layers)
        return G, StyleGAN2Discriminator(c.resolution, c.channels)

    @staticmethod
    def inseparable(n: int) -> Tensor:
        """Return the groups of the minibatch standard deviation."""
        return group_of_sample(n)

    def compared_groups(self, n: int) -> Tensor:
        """Return the groups of the minibatch standard deviation."""
        return group_of_sample(n)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for G and D, corrected for lazy regularisation."""
        c = self.config
        share_g = c.path_interval / (c.path_interval + 1) if c.path_weight else 1.0
        share_d = c.r1_interval / (c.r1_interval + 1) if c.r1_gamma else 1.0
        return [self.adam(self.G, share_g), self.adam(self.D, share_d)]

    def generator_loss(self, scores: Tensor) -> Tensor:
        """Return the non-saturating logistic loss."""
        return F.softplus(-scores).mean()

    def discriminator_loss(self, real_scores: Tensor, fakes: list[Fakes]) -> Tensor:
        """Return the logistic loss."""
        fake = sum((f.part.weight * F.softplus(f.scores).mean() for f in fakes), real_scores.new_zeros(()))
        return F.softplus(-real_scores).mean() + fake

    def lazy_phases(self, reals: Tensor) -> None:
        """Run path length and R1, where they are due."""
        c = self.config
        step = self.seen // c.batch
        if c.path_weight and step % c.path_interval == 0:
            self.path_length_phase()
        if c.r1_gamma and step % c.r1_interval == 0:
            self.r1_phase(reals)

    def scalars(self) -> dict[str, Tensor]:
        """Return what the log shows, the mean path length of every branch too."""
        means = self.path_mean if self.config.path_weight else ()
        return super().scalars() | {f"path_mean/branch{j}": mean for j, mean in enumerate(means)}

    def inputs(
        self, branch: Tensor, rng: torch.Generator, rows: Tensor | None = None, track: bool = False
    ) -> tuple[Tensor, list[Noise]]:
        """Draw ws with style mixing; see :meth:`GANTraining.inputs`."""
        M, L = int(self.branches.codes_of(branch).sum()), self.G.num_ws
        own = self.branches.code_rows(branch, rows)
        z = self.G.draw_z(2 * M, rng).unflatten(0, (2, M))[:, own]
        both = self.G.map_to_w(z.flatten(0, 1))
        if track:
            self._follow_w_mean(both.detach(), 2 * M)
        w, other_w = both.chunk(2)
        crossover = torch.randint(1, L, (M, 1), generator=rng)[own]
        mixes = torch.rand(M, 1, generator=rng)[own] < self.config.style_mixing
        from_other = to_device(mixes & (torch.arange(L) >= crossover), self.device)  # [M L]
        ws = torch.where(from_other[:, :, None], other_w[:, None].expand(-1, L, -1), w[:, None].expand(-1, L, -1))
        return ws, self.noise_maps(rng, rows)

    def _follow_w_mean(self, w: Tensor, of_batch: int) -> None:
        """Let the mean style follow that of a whole batch, of which w [m, w_dim] are the codes of one turn."""
        self.turn_means.append(w.mean(dim=0) * (len(w) / of_batch))
        if len(self.turn_means) == self.ranks.accumulate:
            self.G.w_mean.lerp_(self.ranks.sum(torch.stack(self.turn_means).sum(dim=0)), 0.005)
            self.turn_means.clear()

    def r1_phase(self, reals: Tensor) -> None:
        """Step D on R1."""
        turns = self.ranks.accumulate
        penalties = []
        for own in reals.chunk(turns):
            with self.computing():
                penalty = r1_penalty(self.D, own).mean()
            self.manual_backward(penalty * (self.config.r1_gamma / 2 * self.config.r1_interval / turns))
            penalties.append(penalty.detach())
        self.take_step(self.D, "r1")
        self.stats["regulariser/r1"] = torch.stack(penalties).mean()

    def path_length_phase(self) -> None:
        """Step G on its path length penalty, in float32, with one running mean per branch."""
        c, turns = self.config, self.ranks.accumulate
        n = max(1, c.batch // c.path_batch_shrink)
        parts = self.branches.parts(torch.arange(n), seeded(c.seed, "path/branches", self.seen))
        for index, part in enumerate(parts):
            rows_of_turns = self.ranks.rows(torch.arange(n))
            # the mean comes before the penalty: where there are several turns, they run once more for it
            known = [self._path_lengths(index, part, rows) for rows in rows_of_turns] if turns == 1 else []
            measured = known or [self._path_lengths(index, part, rows).detach() for rows in rows_of_turns]
            own = [part.branch if rows is None else part.branch[rows] for rows in rows_of_turns]
            self._update_path_mean(torch.cat(measured).detach(), to_device(torch.cat(own), self.device))
            for turn, branch in enumerate(own):
                lengths = known[turn] if known else self._path_lengths(index, part, rows_of_turns[turn])
                penalty = (lengths - self.path_mean[to_device(branch, self.device)]).square().mean()
                self.manual_backward(penalty * (part.weight * c.path_weight * c.path_interval / turns))
            self.stats[f"regulariser/path_length_part{index}"] = torch.cat(measured).detach().mean()
        self.take_step(self.G, "path_length")

    def _path_lengths(self, index: int, part: Part, rows: Tensor | None) -> Tensor:
        """Return the path lengths [N] of some rows of a part, differentiable in G's weights."""
        c, branch = self.config, part.branch if rows is None else part.branch[rows]
        rng = seeded(c.seed, "path/part", self.seen, index)
        ws, noise = self.inputs(part.branch, rng, rows)
        shape = (len(branch), 3, c.resolution, c.resolution)
        y = counter_normal(shape, draw_later(rng).key, self.device, rows) / c.resolution
        ws = ws if ws.requires_grad else ws.detach().requires_grad_(True)
        images = self.branches.generate(self.G, ws, noise, part.branch, rng, rows)
        return path_lengths(images, ws, y, self.branches.codes_of(branch))

    def _update_path_mean(self, lengths: Tensor, branch: Tensor) -> None:
        member = F.one_hot(branch, self.branches.count).to(lengths.dtype)  # [N B]
        sums, count = self.ranks.sum(torch.stack([(lengths[:, None] * member).sum(dim=0), member.sum(dim=0)]))
        mean = sums / count.clamp(min=1)
        mean = torch.where((count > 0) & mean.isfinite(), mean, self.path_mean)
        self.path_mean.lerp_(mean, self.config.path_decay)
