"""The training step of all architectures, as a LightningModule whose phases are public hooks.

A step draws a branch for every picture (:mod:`rtil.branches`) and runs

    begin_step            what this step shows (a growing PGGAN)
    generator_phase       G's loss on the pictures of every part
    discriminator_phase   D's loss on the reals and on the same pictures, with its penalties
    lazy_phases           regularisers that are not part of every step (StyleGAN2)

and the moving average. An architecture says its networks and losses. Adam's steps are skipped where a gradient is not
finite. Time is counted in images (``images_seen``), never in Lightning's ``global_step``, which counts every
optimiser's step. Every draw is keyed by (seed, purpose, images seen), so a resumed run continues with the same numbers.
"""

import copy
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from rtil.branches import Part
from rtil.devices import compute_dtype
from rtil.generators.base import LayeredGenerator
from rtil.ops import Noise, draw_later, no_weight_gradients
from rtil.ranges import uint8_to_signed
from rtil.seeds import generator as seeded
from rtil.training.config import TrainingConfig
from rtil.training.divergence import raise_if_diverged
from rtil.training.ema import ema_decay, update_ema
from rtil.training.lightning import LightningHooks


class Fakes(NamedTuple):
    """The pictures of a part of a step, for the discriminator's turn.

    Attributes:
        part: Branch of every picture, and the part's weight lambda.
        images: [N, 3, R, R], detached from the generator.
        scores: [N] with the graph in which the discriminator made them.
        generator_loss: Scalar, detached, times the weight.
    """

    part: Part
    images: Tensor
    scores: Tensor
    generator_loss: Tensor


class GANTraining(LightningHooks):
    """Trains a generator, a discriminator and the generator's moving average.

    Args:
        config: The settings; the device is Lightning's affair.

    Attributes:
        phases: Names of the kinds of Adam steps that there are.
        total_images: Images until the end.
        seen: Images seen so far.
        step_images: Images of the last step.
        stats: What the last steps tell, by name.
    """

    phases: ClassVar[tuple[str, ...]]
    images_seen: Tensor
    bad_steps: Tensor
    skipped: Tensor

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.automatic_optimization = False
        self.total_images = config.total_images
        with torch.random.fork_rng(devices=[]):  # nn.init draws from the global generator
            torch.manual_seed(seeded(config.seed, "weights").initial_seed())
            self.G, self.D = self.networks()
        self.G_ema = copy.deepcopy(self.G).eval().requires_grad_(False)
        self.G.activation_checkpointing = self.D.activation_checkpointing = config.activation_checkpointing
        self.branches = config.make_branches()
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("bad_steps", torch.zeros(len(self.phases), dtype=torch.int64))  # in a row
        self.register_buffer("skipped", torch.zeros(len(self.phases), dtype=torch.int64), persistent=False)
        self.seen = 0  # images_seen as a Python number, so that no step waits for the device
        self.step_images = 0
        self.dtype_main = torch.float32
        self.stats: dict[str, Tensor] = {}

    @abstractmethod
    def networks(self) -> tuple[Any, Any]:
        """Return generator and discriminator with fresh weights from torch's global generator."""

    @abstractmethod
    def compared_groups(self, n: int) -> Tensor:
        """Return the group [n] of every sample of a batch within which D compares; a group gets one branch."""

    @abstractmethod
    def generator_loss(self, scores: Tensor) -> Tensor:
        """Return G's loss, a scalar, from scores [N] of its pictures."""

    @abstractmethod
    def discriminator_loss(self, real_scores: Tensor, fakes: list[Fakes]) -> Tensor:
        """Return D's loss without its penalties, a scalar, from scores [N]."""

    def setup(self, stage: str) -> None:
        """Choose the type of the main phases once the device is known."""
        self.refuse_other_precision()
        self.dtype_main = compute_dtype(self.config.precision, self.trainer.strategy.root_device)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam for G and for D."""
        return [self.adam(self.G), self.adam(self.D)]

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """Take one step on reals [N, 3, R, R], uint8."""
        c = self.config
        self.step_images = len(batch)
        self.step_on(uint8_to_signed(batch))
        self.seen += self.step_images
        self.images_seen.fill_(self.seen)
        update_ema(self.G_ema, self.G, ema_decay(self.step_images, c.ema_halflife_kimg, self.seen, c.ema_rampup))

    def step_on(self, reals: Tensor) -> None:
        """Move G and D by one step on reals [N, 3, R, R] in [-1, 1]."""
        reals = self.begin_step(reals)
        rng = seeded(self.config.seed, "train/branches", self.seen)
        fakes = self.generator_phase(self.branches.parts(self.compared_groups(len(reals)), rng))
        self.discriminator_phase(reals, fakes)
        self.lazy_phases(reals)

    def begin_step(self, reals: Tensor) -> Tensor:
        """Prepare the networks for a step; return the reals as D sees them in it."""
        return self.shown(reals)

    def shown(self, reals: Tensor) -> Tensor:
        """Return reals [N, 3, R, R] in [-1, 1] as D sees them in its present state."""
        return reals

    def generator_phase(self, parts: list[Part]) -> list[Fakes]:
        """Step G on its loss; return the pictures of every part."""
        fakes = []
        for index, part in enumerate(parts):
            images = self.generate(part.branch, seeded(self.config.seed, "train/main", self.seen, index))
            fakes.append(self.generator_backward(images, part))
        self.take_step(self.G, "generator")
        self.stats["loss/generator"] = torch.stack([f.generator_loss for f in fakes]).sum()
        return fakes

    def discriminator_phase(self, reals: Tensor, fakes: list[Fakes]) -> None:
        """Step D on its loss and penalties."""
        with self.computing():
            real_scores = self.D(reals)
        loss = self.discriminator_loss(real_scores, fakes)
        self.manual_backward(loss)
        self.stats["loss/discriminator"] = loss.detach() + self.penalties_backward(reals, fakes)
        self.take_step(self.D, "discriminator")
        self.stats["scores/real"] = real_scores.detach().mean()
        self.stats["scores/fake"] = torch.stack([f.scores.detach().mean() for f in fakes]).mean()

    def penalties_backward(self, reals: Tensor, fakes: list[Fakes]) -> Tensor | float:
        """Run the backward pass of D's penalties that are part of every step; return their weighted sum, detached."""
        return 0.0

    def lazy_phases(self, reals: Tensor) -> None:
        """Run the regularisers that are due."""

    def inputs(self, branch: Tensor, rng: torch.Generator, track: bool = False) -> tuple[Tensor, list[Noise]]:
        """Return ws [M, L, w_dim] of all codes, and noise maps, for samples of the given branches.

        Args:
            branch: [N].
            rng: Source of all draws.
            track: Let running means of the generator follow.
        """
        generator = cast(LayeredGenerator, self.G)
        codes = int(self.branches.codes_of(branch).sum())
        return generator.mapping(generator.draw_z(codes, rng)), self.noise_maps(rng)

    def noise_maps(self, rng: torch.Generator) -> list[Noise]:
        """Return a key per noise input, from which its map [N, 1, H, W] is drawn on the device, where it is used."""
        return [draw_later(rng) for _ in self.G.noise_shapes()]

    def generate(self, branch: Tensor, rng: torch.Generator) -> Tensor:
        """Return pictures [N, 3, R, R] of the given branches, computed in the main phases' type."""
        ws, noise = self.inputs(branch, rng, track=True)
        with self.computing():
            return self.branches.generate(self.G, ws, noise, branch, rng)

    def generator_backward(self, images: Tensor, part: Part) -> Fakes:
        """Score pictures [N, 3, R, R] with the generator's graph, and run the backward pass of G's weighted loss.

        The discriminator does not change until its own turn, so its scores serve there too: one forward pass for both.
        """
        pictures = images.detach().requires_grad_()
        with self.computing():
            scores = self.D(pictures)
        loss = part.weight * self.generator_loss(scores)
        with no_weight_gradients():
            (gradient,) = torch.autograd.grad(loss, pictures, retain_graph=True)
        self.manual_backward(images, gradient)
        return Fakes(part, pictures.detach(), scores, loss.detach())

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Run G and D in the main phases' type inside the ``with`` block."""
        with self.G.computing_in(self.dtype_main):
            self.D.compute_dtype = self.dtype_main
            try:
                yield
            finally:
                self.D.compute_dtype = None

    def adam(self, network: nn.Module, share: float = 1.0) -> torch.optim.Optimizer:
        """Return Adam for a network of which ``share`` of the steps are main steps (Karras et al. 2020, appendix B)."""
        return torch.optim.Adam(network.parameters(), self.config.lr * share, (0.0, 0.99**share), fused=True)

    def take_step(self, network: nn.Module, phase: str) -> None:
        """Step G or D unless a gradient is not finite; the device decides, so nothing waits for it."""
        index = self.phases.index(phase)
        opt = cast(list[Any], self.optimizers())[0 if network is self.G else 1]
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        bad = torch.isfinite(torch.nn.utils.get_total_norm(grads)).logical_not()
        opt.optimizer.found_inf = bad.float()  # where it is 1, fused Adam leaves weights and its own state alone
        opt.step()
        self.bad_steps[index].add_(1).mul_(bad)
        self.skipped[index].add_(bad)
        opt.zero_grad(set_to_none=True)

    def raise_if_diverged(self) -> None:
        """Give up where the training has diverged; waits for the device. See :mod:`rtil.training.divergence`."""
        weights = {name: weight for name, weight in self.state_dict().items() if weight.is_floating_point()}
        finite = torch.stack([weight.isfinite().all() for weight in weights.values()]).tolist()
        bad_weights = [name for name, is_finite in zip(weights, finite, strict=True) if not is_finite]
        bad_steps = dict(zip(self.phases, self.bad_steps.tolist(), strict=True))
        scores = {of: float(self.stats[f"scores/{of}"]) for of in ("real", "fake")}
        raise_if_diverged(self.config, self.seen / 1000, bad_steps, bad_weights, scores)

    def scalars(self) -> dict[str, Tensor]:
        """Return what the log shows, on the device."""
        skipped = zip(self.phases, self.skipped.float(), strict=True)
        return self.stats | {f"skipped_steps_since_start/{phase}": count for phase, count in skipped}
