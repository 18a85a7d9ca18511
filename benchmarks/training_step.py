"""StyleGAN2's training step as it is measured: whole, by phase, and by operation.

A cycle is as many steps as both lazy regularisers need to come round (16). Its steps are of few kinds: those with the
path length step, those with R1 too, and plain ones. A whole cycle is timed as it runs; a weighted one runs a step of
each kind and counts it as often as the cycle has its kind, for steps that take too long to run sixteen of them.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

from benchmarks import counts
from benchmarks.peer_style import PeerDiscriminator, PeerGenerator
from benchmarks.timing import seconds_of
from rtil.branches import Part
from rtil.data.batches import TrainingBatches
from rtil.devices import compute_dtype, peak_memory_mb, training_convolutions, wait_for
from rtil.ops import Noise, draw_later
from rtil.seeds import generator as seeded
from rtil.training.config import StyleGAN2Config
from rtil.training.module import Fakes
from rtil.training.stylegan2 import StyleGAN2Training
from rtil.training.without_trainer import WithoutTrainer

PICTURES = 256
"""Random pictures that are trained on; their number changes no time."""
OUTERMOST = "EMA and rest"


class Turn(NamedTuple):
    """A measured cycle.

    Attributes:
        seconds_per_image: Over the cycle.
        phases: Seconds per step of each phase, without the phases inside it; empty if they were not timed.
        peak_mb: Largest memory so far, of the GPU or of the process.
    """

    seconds_per_image: float
    phases: dict[str, float]
    peak_mb: float


class OpTime(NamedTuple):
    """An operation in a step.

    Attributes:
        name: As torch's profiler calls it.
        calls: Per step.
        seconds: Per step, without the operations that it calls; of the GPU's kernels if there is one.
    """

    name: str
    calls: float
    seconds: float


class PhaseClock:
    """Seconds by phase, each without the phases inside it.

    Attributes:
        device: Is waited for between two phases.
        running: Otherwise nothing is timed and nothing waited for.
        weight: Factor on the seconds that are noted.
        seconds: By phase.
    """

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.running, self.weight = False, 1.0
        self.seconds: dict[str, float] = {}
        self._inside: list[str] = []
        self._since = 0.0

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Time a ``with`` block as a phase."""
        if not self.running:
            yield
            return
        self._note()
        self._inside.append(phase)
        try:
            yield
        finally:
            self._note()
            self._inside.pop()

    def _note(self) -> None:
        wait_for(self.device)
        now = time.perf_counter()
        if self._inside:
            phase = self._inside[-1]
            self.seconds[phase] = self.seconds.get(phase, 0.0) + self.weight * (now - self._since)
        self._since = now


class TimedTraining(WithoutTrainer, StyleGAN2Training):
    """Our training step, its phases timed."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__(config)
        self.clock = PhaseClock()
        self.G.draw_z = partial(self._drawn, self.G.draw_z)

    def _drawn(self, draw: Callable[..., Any], *args: Any) -> Any:
        with self.clock("draws"):
            return draw(*args)

    def noise_maps(self, rng: torch.Generator, rows: Tensor | None = None) -> list[Noise]:
        """Choose noise maps."""
        return self._drawn(super().noise_maps, rng, rows)

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """Take one step."""
        with self.clock(OUTERMOST):
            super().training_step(batch, batch_idx)

    def take_step(self, network: torch.nn.Module, phase: str) -> None:
        """Look at the gradients and run Adam."""
        with self.clock("Adam"):
            super().take_step(network, phase)

    def generator_phase(self, parts: list[Part]) -> list[Fakes]:
        """Step G on its loss."""
        with self.clock("G main"):
            return super().generator_phase(parts)

    def path_length_phase(self) -> None:
        """Step G on its path length."""
        with self.clock("path length"):
            super().path_length_phase()

    def discriminator_phase(self, reals: Tensor, fakes: list[Fakes]) -> None:
        """Step D on its loss."""
        with self.clock("D main"):
            super().discriminator_phase(reals, fakes)

    def r1_phase(self, reals: Tensor) -> None:
        """Step D on R1."""
        with self.clock("R1"):
            super().r1_phase(reals)


class PeerTraining(TimedTraining):
    """The step of the published codes: their networks, and pictures that D's turn makes and scores anew."""

    def networks(self) -> tuple[PeerGenerator, PeerDiscriminator]:
        """Return generator and discriminator."""
        c = self.config
        G = PeerGenerator(c.resolution, c.channels, c.z_dim, c.w_dim, c.mapping_layers)
        return G, PeerDiscriminator(c.resolution, c.channels)

    def discriminator_phase(self, reals: Tensor, fakes: list[Fakes]) -> None:
        """Step D on pictures that are made anew, from the same latents."""
        with self.clock("D main"):
            fresh = [self._made_anew(index, of_part) for index, of_part in enumerate(fakes)]
        super().discriminator_phase(reals, fresh)

    def _made_anew(self, index: int, fakes: Fakes) -> Fakes:
        branch = fakes.part.branch
        rng = seeded(self.config.seed, "train/main", self.seen, index)
        with torch.no_grad():
            ws, noise = self.inputs(branch, rng)
            images = self.branches.generate(self.G, ws, noise, branch, rng)
        return fakes._replace(images=images, scores=self.D(images))

    def generator_backward(self, images: Tensor, part: Part) -> Fakes:
        """Run the generator's backward pass; D's graph of these scores is not kept for its turn."""
        fakes = super().generator_backward(images, part)
        return fakes._replace(scores=fakes.scores.detach())

    def inputs(
        self, branch: Tensor, rng: torch.Generator, rows: Tensor | None = None, track: bool = False
    ) -> tuple[Tensor, list[Noise]]:
        """Draw ws, and noise maps as tensors in the phase that uses them."""
        ws, _ = super().inputs(branch, rng, rows, track)
        device_rng = torch.Generator(self.device).manual_seed(draw_later(rng).key)
        shapes = self.G.noise_shapes()
        return ws, [torch.randn(len(branch), *shape, generator=device_rng, device=self.device) for shape in shapes]


class Bench:
    """A training that can be measured, with random pictures served as in training.

    Args:
        config: Its settings, the device resolved.
        peer: Compute as the published codes do, in float32.
        weighted: Measure a step of each kind in place of whole cycles.
    """

    def __init__(self, config: StyleGAN2Config, peer: bool, weighted: bool) -> None:
        self.config, self.device, self.weighted = config, torch.device(config.device), weighted
        self.module = (PeerTraining if peer else TimedTraining)(config)
        dtype = torch.float32 if peer else compute_dtype(config.precision, self.device)
        self.module.start(self.device, dtype)
        self.module.clock.device = self.device
        side, rng = config.resolution, seeded(0, "benchmark/pictures")
        pictures = torch.randint(0, 256, (PICTURES, 3, side, side), dtype=torch.uint8, generator=rng)
        batches = TrainingBatches(pictures, config.batch)
        self._batches = iter(DataLoader(batches, batch_size=None, pin_memory=self.device.type == "cuda"))
        self._cycles = 0

    def set_convolutions(self) -> None:
        """Have convolutions computed as in a training, as long as this object lives."""
        self._convolutions = training_convolutions(self.device, self.module.dtype_main)
        self._convolutions.__enter__()

    @property
    def cycle(self) -> int:
        """Steps of a cycle."""
        return math.lcm(self.config.path_interval, self.config.r1_interval)

    def kinds(self) -> dict[int, int]:
        """Return {first step of a kind: how many of its kind a cycle has}."""
        found: dict[tuple[bool, bool], list[int]] = {}
        for step in range(self.cycle):
            kind = (step % self.config.path_interval == 0, step % self.config.r1_interval == 0)
            found.setdefault(kind, []).append(step)
        return {steps[0]: len(steps) for steps in found.values()}

    def plain(self) -> int:
        """Return a step of the most frequent kind."""
        kinds = self.kinds()
        return max(kinds, key=lambda step: kinds[step])

    def step(self, number: int) -> None:
        """Take a step of the current cycle, from the serving of its pictures on."""
        module = self.module
        with module.clock("data"):
            batch = next(self._batches).to(self.device, non_blocking=True)
        module.seen = (self._cycles * self.cycle + number) * self.config.batch
        module.training_step(batch, number)

    def warm_up(self) -> dict[str, float]:
        """Run a step of each kind and return the floating point operations an image of the mean step, by type.

        A slow peer, for which a step's own start is nothing, runs its plain step only, and nothing is counted.
        """
        found: Counter[str] = Counter()
        if isinstance(self.module, PeerTraining):
            self.step(self.plain())
        else:
            for number, count in self.kinds().items():
                with counts.flops() as of_step:
                    self.step(number)
                found.update({dtype: count * flops for dtype, flops in of_step.items()})
        self._cycles += 1
        return {dtype: flops / self.cycle / self.config.batch for dtype, flops in found.items()}

    def turn(self) -> Turn:
        """Measure a cycle; on a CPU its phases, too, as looking at the clock costs nothing there."""
        return self._measured(phases=self.device.type == "cpu")

    def phases(self) -> dict[str, float]:
        """Measure seconds per step by phase in a cycle of their own, for a GPU that is waited for between phases."""
        return self._measured(phases=True).phases

    def _measured(self, phases: bool) -> Turn:
        clock = self.module.clock
        clock.running = phases
        clock.seconds.clear()
        if self.weighted:
            seconds = 0.0
            for number, count in self.kinds().items():
                clock.weight = count
                seconds += count * seconds_of(partial(self.step, number), self.device)
        else:
            clock.weight = 1
            seconds = seconds_of(self._whole_cycle, self.device)
        clock.running = False
        self._cycles += 1
        by_phase = {name: spent / self.cycle for name, spent in clock.seconds.items()}
        return Turn(seconds / self.cycle / self.config.batch, by_phase, peak_memory_mb(self.device))

    def _whole_cycle(self) -> None:
        for number in range(self.cycle):
            self.step(number)

    def profile(self) -> list[OpTime]:
        """Return the operations of the mean step, the longest first."""
        on_gpu = self.device.type == "cuda"
        activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]
        calls: dict[str, float] = {}
        seconds: dict[str, float] = {}
        for number, count in self.kinds().items():
            with profile(activities=activities) as profiler:
                self.step(number)
                wait_for(self.device)
            for event in profiler.key_averages():
                if event.device_type != torch.autograd.DeviceType.CPU:
                    continue  # a kernel: its time is also that of the operation that started it
                microseconds = event.self_device_time_total if on_gpu else event.self_cpu_time_total
                calls[event.key] = calls.get(event.key, 0.0) + event.count * count / self.cycle
                seconds[event.key] = seconds.get(event.key, 0.0) + microseconds * 1e-6 * count / self.cycle
        found = [OpTime(name, calls[name], spent) for name, spent in seconds.items() if spent > 0]
        return sorted(found, key=lambda op: -op.seconds)

    def host_waits(self) -> dict[str, int]:
        """Return where a plain step makes the host wait for the GPU, and how often: {file:line: times}."""
        with counts.host_waits(self.device) as found:
            self.step(self.plain())
        return dict(found.most_common())
