"""The training step of all architectures, as a LightningModule whose phases are public hooks.

A step draws a branch for every picture (:mod:`rtil.branches`) and runs

    begin_step            what this step shows (a growing PGGAN)
    generator_phase       G's loss on the pictures of every part
    discriminator_phase   D's loss on the reals and on the same pictures, with its penalties
    lazy_phases           regularisers that are not part of every step (StyleGAN2)

and the moving average. An architecture says its networks and losses. Adam's steps are skipped where a gradient is not
finite. Time is counted in images (``images_seen``), never in Lightning's ``global_step``, which counts every
optimiser's step. Every draw is keyed by (seed, purpose, images seen), so a resumed run continues with the same numbers.

A phase computes the rows of the batch that belong to this process, in one turn or several (:mod:`rtil.training.ranks`).
Branches, codes and noise are those of the whole batch, of which the rows are taken.
"""

import copy
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rtil.branches import Part
from rtil.devices import compute_dtype
from rtil.errors import RunError, UserError
from rtil.generators.base import LayeredGenerator
from rtil.ops import Noise, draw_later, no_weight_gradients
from rtil.ranges import uint8_to_signed
from rtil.seeds import generator as seeded
from rtil.training.config import TrainingConfig
from rtil.training.divergence import raise_if_diverged
from rtil.training.ema import ema_decay, update_ema
from rtil.training.lightning import LightningHooks
from rtil.training.processes import RanksStrategy
from rtil.training.ranks import Ranks


class Fakes(NamedTuple):
    """The pictures of a part of a step, for the discriminator's turn.

    Attributes:
        part: Branch of every picture, and the part's weight lambda.
        images: [N, 3, R, R], detached from the generator.
        scores: [N] with the graph in which the discriminator made them; detached where it is to make them again.
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
        ranks: This process among those of the training.
        total_images: Images until the end.
        seen: Images seen so far.
        step_images: Images of the last step, over all processes.
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
        self.ranks = Ranks(accumulate=config.accumulate)
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

    @staticmethod
    @abstractmethod
    def inseparable(n: int) -> Tensor:
        """Return the group [n] of every sample of a batch that one process computes in one piece."""

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
        """Choose the type of the main phases and find the other processes, once the trainer is known.

        Raises:
            UserError: The trainer has several processes, but not our way to average gradients; or the batch cannot be
                split among them.
        """
        self.refuse_other_precision()
        strategy = self.trainer.strategy
        self.dtype_main = compute_dtype(self.config.precision, strategy.root_device)
        if isinstance(strategy, RanksStrategy):
            self.ranks = strategy.ranks(self.config.accumulate)
        elif self.trainer.world_size > 1:
            raise UserError(
                f"{type(strategy).__name__} with {self.trainer.world_size} processes would train on the same draws in "
                "each: give the trainer strategy=rtil.training.processes.RanksStrategy()"
            )
        self.config.check_processes(self.ranks.world_size)

    def on_fit_start(self) -> None:
        """Begin with the same state as the first process.

        Raises:
            RunError: It trains with other settings, or goes on from another checkpoint.
        """
        if self.ranks.world_size == 1:
            return
        own = {k: v for k, v in self.config.to_json().items() if k not in self.config.changeable} | {"seen": self.seen}
        first = self.trainer.strategy.broadcast(own)
        for name in sorted(own.keys() | first.keys()):
            if own.get(name) != first.get(name):
                raise RunError(
                    f"process {self.ranks.rank} has {name} {own.get(name)}, the first one {first.get(name)}: "
                    "start all with the same command, in sight of the same files"
                )
        self.ranks.take_those_of_first(list(self.state_dict().values()))

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam for G and for D."""
        return [self.adam(self.G), self.adam(self.D)]

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """Take one step on reals [N, 3, R, R], uint8."""
        c = self.config
        self.step_images = len(batch) * self.ranks.world_size
        self._check_processes()
        self.step_on(uint8_to_signed(batch))
        self.seen += self.step_images
        self.images_seen.fill_(self.seen)
        update_ema(self.G_ema, self.G, ema_decay(self.step_images, c.ema_halflife_kimg, self.seen, c.ema_rampup))

    def step_on(self, reals: Tensor) -> None:
        """Move G and D by one step on reals [N, 3, R, R] in [-1, 1]."""
        reals = self.begin_step(reals)
        rng = seeded(self.config.seed, "train/branches", self.seen)
        groups = self.compared_groups(len(reals) * self.ranks.world_size)
        fakes = self.generator_phase(self.branches.parts(groups, rng))
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
            turns = []
            for rows in self.own_rows(len(part.branch)):
                rng = seeded(self.config.seed, "train/main", self.seen, index)
                made = self.generator_backward(self.generate(part.branch, rng, rows), part)
                turns.append(made if self.ranks.accumulate == 1 else made._replace(scores=made.scores.detach()))
            fakes.append(_in_turns(turns))
        self.take_step(self.G, "generator")
        self.stats["loss/generator"] = torch.stack([f.generator_loss for f in fakes]).sum()
        return fakes

    def discriminator_phase(self, reals: Tensor, fakes: list[Fakes]) -> None:
        """Step D on its loss and penalties."""
        losses, real, fake = [], [], []
        for own_reals, own_fakes in self._turns(reals, fakes):
            with self.computing():
                real_scores = self.D(own_reals)
            loss = self.discriminator_loss(real_scores, own_fakes)
            self.manual_backward(loss / self.ranks.accumulate)
            losses.append(loss.detach() + self.penalties_backward(own_reals, own_fakes))
            real.append(real_scores.detach().mean())
            fake.append(torch.stack([f.scores.detach().mean() for f in own_fakes]).mean())
        self.take_step(self.D, "discriminator")
        self.stats["loss/discriminator"] = torch.stack(losses).mean()
        self.stats["scores/real"], self.stats["scores/fake"] = torch.stack(real).mean(), torch.stack(fake).mean()

    def _turns(self, reals: Tensor, fakes: list[Fakes]) -> Iterator[tuple[Tensor, list[Fakes]]]:
        """Yield reals [N, 3, R, R] and the fakes of every part, both with D's graph, for each turn of this process."""
        turns = self.ranks.accumulate
        if turns == 1:
            yield reals, fakes
            return
        for turn, own_reals in enumerate(reals.chunk(turns)):
            own = []
            for of_part in fakes:
                images = of_part.images.chunk(turns)[turn]
                with self.computing():
                    own.append(of_part._replace(images=images, scores=self.D(images)))
            yield own_reals, own

    def penalties_backward(self, reals: Tensor, fakes: list[Fakes]) -> Tensor | float:
        """Run the backward pass of D's penalties that are part of every step; return their weighted sum, detached."""
        return 0.0

    def lazy_phases(self, reals: Tensor) -> None:
        """Run the regularisers that are due."""

    def own_rows(self, n: int) -> list[Tensor | None]:
        """Return which rows of a batch of n this process computes in each of its turns; None is all."""
        return self.ranks.rows(self.inseparable(n))

    def inputs(
        self, branch: Tensor, rng: torch.Generator, rows: Tensor | None = None, track: bool = False
    ) -> tuple[Tensor, list[Noise]]:
        """Return ws [M, L, w_dim] of all codes, and noise maps, for samples of the given branches.

        Args:
            branch: [N] of the whole batch.
            rng: Source of all draws.
            rows: Of which samples; None is all.
            track: Let running means of the generator follow.
        """
        generator = cast(LayeredGenerator, self.G)
        codes = int(self.branches.codes_of(branch).sum())
        z = generator.draw_z(codes, rng)[self.branches.code_rows(branch, rows)]
        return generator.mapping(z), self.noise_maps(rng, rows)

    def noise_maps(self, rng: torch.Generator, rows: Tensor | None = None) -> list[Noise]:
        """Return a key per noise input, from which its map [N, 1, H, W] is drawn on the device, where it is used."""
        return [draw_later(rng, rows=rows) for _ in self.G.noise_shapes()]

    def generate(self, branch: Tensor, rng: torch.Generator, rows: Tensor | None = None) -> Tensor:
        """Return pictures [N, 3, R, R] of the given rows of a batch, computed in the main phases' type."""
        ws, noise = self.inputs(branch, rng, rows, track=True)
        with self.computing():
            return self.branches.generate(self.G, ws, noise, branch, rng, rows)

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
        self.manual_backward(images, gradient / self.ranks.accumulate)
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
        self.ranks.average(grads)
        bad = torch.isfinite(torch.nn.utils.get_total_norm(grads)).logical_not()
        opt.optimizer.found_inf = bad.float()  # where it is 1, fused Adam leaves weights and its own state alone
        opt.step()
        self.bad_steps[index].add_(1).mul_(bad)
        self.skipped[index].add_(bad)
        opt.zero_grad(set_to_none=True)

    def _check_processes(self) -> None:
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() != self.ranks.world_size:
            raise UserError(
                f"{dist.get_world_size()} processes train, of which this module knows {self.ranks.world_size}: give "
                "Lightning's Trainer strategy=rtil.training.processes.RanksStrategy()"
            )
        if self.ranks.shares > 1 and self.step_images != (expected := self.config.batch_at(self.seen)):
            raise UserError(
                f"got {self.step_images} pictures from {self.ranks.world_size} processes for a batch of {expected}: "
                "serve them with rtil.data.FacesDataModule"
            )

    def raise_if_diverged(self) -> None:
        """Give up where the training has diverged; waits for the device. See :mod:`rtil.training.divergence`."""
        weights = {name: weight for name, weight in self.state_dict().items() if weight.is_floating_point()}
        finite = torch.stack([weight.isfinite().all() for weight in weights.values()]).tolist()
        bad_weights = [name for name, is_finite in zip(weights, finite, strict=True) if not is_finite]
        bad_steps = dict(zip(self.phases, self.bad_steps.tolist(), strict=True))
        of_both = [self.stats[f"scores/{of}"].to(self.device, torch.float32) for of in ("real", "fake")]
        self.ranks.average(of_both)
        scores = dict(zip(("real", "fake"), map(float, of_both), strict=True))
        raise_if_diverged(self.config, self.seen / 1000, bad_steps, bad_weights, scores)

    def scalars(self) -> dict[str, Tensor]:
        """Return what the log shows, on the device: means over all processes, each of which calls this."""
        values = [value.to(self.device, torch.float32) for value in self.stats.values()]
        self.ranks.average(values)
        skipped = zip(self.phases, self.skipped.float(), strict=True)
        averaged = dict(zip(self.stats, values, strict=True))
        return averaged | {f"skipped_steps_since_start/{phase}": count for phase, count in skipped}


def _in_turns(turns: list[Fakes]) -> Fakes:
    """Return the fakes of several turns as one."""
    if len(turns) == 1:
        return turns[0]
    images, scores = torch.cat([f.images for f in turns]), torch.cat([f.scores for f in turns])
    return Fakes(turns[0].part, images, scores, torch.stack([f.generator_loss for f in turns]).mean())
