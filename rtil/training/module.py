"""What the training steps of all architectures share, as a LightningModule.

Generator, discriminator and moving average; branches (:mod:`rtil.branches`); Adam steps that are skipped where a
gradient is not finite. Time is counted in images (``images_seen``), never in Lightning's ``global_step``, which counts
every optimiser's step. Every draw is keyed by (seed, purpose, images seen), so a resumed run continues with the same
numbers.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from rtil.devices import compute_dtype
from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.ops import Noise, draw_later, no_weight_gradients
from rtil.ranges import uint8_to_signed
from rtil.seeds import generator as seeded
from rtil.training.checkpoint import SETTINGS
from rtil.training.config import TrainingConfig
from rtil.training.ema import ema_decay, update_ema

MAX_BAD_STEPS = 20

Config = TypeVar("Config", bound=TrainingConfig)


class Fakes(NamedTuple):
    """The pictures of a part of a step, for the discriminator's turn.

    Attributes:
        images: [N, 3, R, R], detached from the generator.
        scores: [N] with the graph in which the discriminator made them.
        weight: lambda of the part.
        generator_loss: Scalar, detached, times the weight.
    """

    images: Tensor
    scores: Tensor
    weight: float
    generator_loss: Tensor


class TrainingDivergedError(UserError):
    """Gradients stayed non-finite for many steps in a row."""


class GANTraining(pl.LightningModule, ABC, Generic[Config]):
    """Trains a generator, a discriminator and the generator's moving average.

    Args:
        config: The settings; the device is Lightning's affair.

    Attributes:
        phases: Names of the kinds of Adam steps that there are.
        seen: Images seen so far.
        step_images: Images of the last step.
        stats: What the last steps tell, by name.
    """

    phases: ClassVar[tuple[str, ...]]
    images_seen: Tensor
    bad_steps: Tensor
    skipped: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config = config
        with torch.random.fork_rng(devices=[]):  # nn.init draws from the global generator
            torch.manual_seed(seeded(config.seed, "weights").initial_seed())
            self.G, self.D = self.networks()
        self.G_ema = copy.deepcopy(self.G).eval().requires_grad_(False)
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
    def step_on(self, reals: Tensor, opt_g: Any, opt_d: Any) -> None:
        """Move G and D by one step on reals [N, 3, R, R] in [-1, 1]."""

    def setup(self, stage: str) -> None:
        """Choose the type of the main phases once the device is known."""
        self.dtype_main = compute_dtype(self.config.precision, self.trainer.strategy.root_device)

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """Take one step on reals [N, 3, R, R], uint8."""
        c = self.config
        self.step_images = len(batch)
        opt_g, opt_d = cast(list[Any], self.optimizers())
        self.step_on(uint8_to_signed(batch), opt_g, opt_d)
        self.seen += self.step_images
        self.images_seen.fill_(self.seen)
        update_ema(self.G_ema, self.G, ema_decay(self.step_images, c.ema_halflife_kimg, self.seen, c.ema_rampup))

    def scalars(self) -> dict[str, float]:
        """Return what the log shows; waits for the device."""
        counts = zip(self.phases, self.skipped.tolist(), strict=True)
        skipped = {f"skipped_steps_since_start/{phase}": count for phase, count in counts}
        return {name: float(value) for name, value in self.stats.items()} | skipped

    def inputs(self, branch: Tensor, rng: torch.Generator) -> tuple[Tensor, list[Noise]]:
        """Draw ws [M, L, w_dim] of all codes and choose noise maps for samples of the given branches [N]."""
        generator = cast(LayeredGenerator, self.G)
        codes = int(self.branches.codes_of(branch).sum())
        return generator.mapping(generator.draw_z(codes, rng)), self.choose_noise(rng)

    def choose_noise(self, rng: torch.Generator) -> list[Noise]:
        """Choose a noise map [N, 1, H, W] per noise input; it is drawn on the device, where it is used."""
        return [draw_later(rng) for _ in self.G.noise_shapes()]

    def generate(self, branch: Tensor, rng: torch.Generator) -> Tensor:
        """Return pictures [N, 3, R, R] of the given branches, computed in the main phases' type."""
        ws, noise = self.inputs(branch, rng)
        with self.computing():
            return self.branches.generate(self.G, ws, noise, branch, rng)

    def pull_generator(self, images: Tensor, weight: float, loss_of: Callable[[Tensor], Tensor]) -> Fakes:
        """Score pictures and run the generator's backward pass of ``weight * loss_of(scores)``.

        The discriminator does not change until its own turn, so its scores serve there too: one forward pass for both.

        Args:
            images: [N, 3, R, R] with the generator's graph.
            weight: lambda of the part.
            loss_of: Maps scores [N] to the generator's loss.
        """
        pictures = images.detach().requires_grad_()
        with self.computing():
            scores = self.D(pictures)
        loss = weight * loss_of(scores)
        with no_weight_gradients():
            (gradient,) = torch.autograd.grad(loss, pictures, retain_graph=True)
        self.manual_backward(images, gradient)
        return Fakes(pictures.detach(), scores, weight, loss.detach())

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Run G and D in the main phases' type inside the ``with`` block."""
        with self.G.computing_in(self.dtype_main):
            self.D.compute_dtype = self.dtype_main
            try:
                yield
            finally:
                self.D.compute_dtype = None

    def adam(self, network: torch.nn.Module, share: float = 1.0) -> torch.optim.Optimizer:
        """Return Adam for a network of which ``share`` of the steps are main steps (Karras et al. 2020, appendix B)."""
        return torch.optim.Adam(network.parameters(), self.config.lr * share, (0.0, 0.99**share), fused=True)

    def take_step(self, opt: Any, network: torch.nn.Module, phase: str) -> None:
        """Step unless a gradient is not finite; the device decides, so nothing waits for it."""
        index = self.phases.index(phase)
        grads = [p.grad for p in network.parameters() if p.grad is not None]
        bad = torch.isfinite(torch.nn.utils.get_total_norm(grads)).logical_not()
        opt.optimizer.found_inf = bad.float()  # where it is 1, fused Adam leaves weights and its own state alone
        opt.step()
        self.bad_steps[index].add_(1).mul_(bad)
        self.skipped[index].add_(bad)
        opt.zero_grad(set_to_none=True)

    def check_progress(self) -> None:
        """Give up where many steps in a row were skipped; waits for the device.

        Raises:
            TrainingDivergedError: If so.
        """
        for phase, count in zip(self.phases, self.bad_steps.tolist(), strict=True):
            if count >= MAX_BAD_STEPS:
                raise TrainingDivergedError(f"the last {count} {phase} steps were not finite: lower lr")

    def log_scores(self, real: Tensor, fake: Sequence[Tensor]) -> None:
        """Keep the mean scores for the log."""
        self.stats["scores/real"] = real.detach().mean()
        self.stats["scores/fake"] = torch.stack([s.detach().mean() for s in fake]).mean()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say whose checkpoint it is."""
        checkpoint[SETTINGS] = self.config.to_json()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the image count of the checkpoint."""
        self.seen = int(checkpoint["state_dict"]["images_seen"])
