"""How much memory a training needs, before it begins.

One step with every phase that there is (path length and R1, all stages of a PGGAN) runs on tensors that have shapes but
no content (torch's device ``meta``), while a mode that sees every operation adds up what is alive: activations kept for
the backward passes, gradients, the graph of a gradient. Added to that are the networks with their moving average and
Adam's two moments. What it does not see: the process with its libraries, the work space inside of single operations
(convolutions that convert their maps to a layout of their own), and what an allocator keeps for later.

Operations are those of the tier that the training's device would take, so a step that fuses keeps less here, too.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rtil.branches import Branches
from rtil.budget import in_gb
from rtil.devices import compute_dtype, peak_memory_mb
from rtil.errors import RunError, UserError
from rtil.memory import free_on, is_out_of_memory
from rtil.ops.tier import meta_stands_for
from rtil.training.checkpoint import checkpoints
from rtil.training.config import PGGANConfig, StyleGAN2Config, TrainingConfig
from rtil.training.pggan import PGGANTraining
from rtil.training.processes import devices_of
from rtil.training.stylegan2 import StyleGAN2Training
from rtil.training.without_trainer import WithoutTrainer

META = torch.device("meta")


@dataclass(frozen=True)
class Estimate:
    """Bytes that a training needs at least.

    Attributes:
        networks: Of G, D and the moving average.
        adam: Of both Adams' moments.
        step: Of what lives at the worst moment of a step, beside these.
    """

    networks: int
    adam: int
    step: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.networks + self.adam + self.step


class LiveBytes(TorchDispatchMode):
    """Adds up the storages that operations in a ``with`` block make, as long as they live.

    Args:
        device: Whose storages count.

    Attributes:
        live: Bytes now.
        peak: The most so far.
    """

    def __init__(self, device: torch.device = META) -> None:
        super().__init__()
        self.device = device
        self.live = self.peak = 0
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for found in tree_leaves(out):
            if isinstance(found, Tensor) and found.device == self.device:
                self._note(found.untyped_storage())
        return out

    def know(self, tensors: Sequence[Tensor]) -> None:
        """Leave out what was there before."""
        for tensor in tensors:
            self._note(tensor.untyped_storage(), counts=False)

    def _note(self, storage: torch.UntypedStorage, counts: bool = True) -> None:
        key, size = id(storage), storage.nbytes() if counts else 0  # a storage has one Python object while it lives
        if key in self._alive:
            return

        def forget(_: object) -> None:
            del self._alive[key]
            self.live -= size

        self._alive[key] = weakref.ref(storage, forget)
        self.live += size
        self.peak = max(self.peak, self.live)


class _Step(WithoutTrainer):
    """A step on tensors without content; goes before a training among the base classes.

    Attributes:
        phase_ended: Called with the name of each phase behind it.
    """

    phase_ended: Callable[[str], object] = staticmethod(len)

    def take_step(self, network: nn.Module, phase: str) -> None:
        """Drop the gradients: what Adam makes in its first step is counted without it."""
        self.phase_ended(phase)
        for parameter in network.parameters():
            parameter.grad = None

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        """Return none."""
        return []


class _StyleGAN2Step(_Step, StyleGAN2Training):
    pass


class _PGGANStep(_Step, PGGANTraining):
    pass


STEPS: Mapping[str, type[Any]] = {"stylegan2": _StyleGAN2Step, "pggan": _PGGANStep}
MOST_COUNTED = 32
"""Pictures of a step that is run; what more of them need is linear in their number."""


class Planner:
    """Tells what a training needs on a device.

    Args:
        config: The settings.
        device: Where it would run; it need not be there.
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.shares = _processes(config, device) * config.accumulate
        self._alone = replace(config, devices=1, num_nodes=1, accumulate=1)
        with torch.device(META):
            self._module = STEPS[config.arch](self._alone)
        self._module.to(META)
        self._module.dtype_main = compute_dtype(config.precision, device)
        self._branches = self._module.branches
        self._counted: dict[tuple[int, int], int] = {}

    def estimate(self) -> Estimate:
        """Return what the training needs."""
        G, D, average = (_bytes_of(n) for n in (self._module.G, self._module.D, self._module.G_ema))
        step = max(self.step_bytes(first, batch) for first, batch in self.steps().items())
        return Estimate(networks=G + D + average, adam=2 * (G + D), step=step)

    def steps(self) -> dict[int, int]:
        """Return {images seen at its start: share of its batch} of every kind of step: a PGGAN has one a stage."""
        stages = self.config.schedule().stages if isinstance(self.config, PGGANConfig) else ()
        batches = {stage.first_image: stage.batch for stage in stages} or {0: self.config.batch_at(0)}
        return {first: max(1, batch // self.shares) for first, batch in batches.items()}

    def step_bytes(self, seen: int, batch: int) -> int:
        """Return the bytes of a step beside networks and Adam, were this its share of the batch."""
        if batch > MOST_COUNTED:
            half, full = (self.step_bytes(seen, n) for n in (MOST_COUNTED // 2, MOST_COUNTED))
            return full + (full - half) * (batch - MOST_COUNTED) // (MOST_COUNTED // 2)
        if (seen, batch) not in self._counted:
            self._counted[seen, batch] = self._count(seen, batch)
        return self._counted[seen, batch]

    def largest_batch(self, seen: int, limit: int) -> int:
        """Return the most pictures that a step can have within a limit in bytes: 0 if not one, else 1, 2 or 4 n."""
        rest = self.estimate()
        room = limit - rest.networks - rest.adam
        low, high = 0, self.steps()[seen] // 4 + 1  # in fours, which the discriminator compares
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.step_bytes(seen, 4 * middle) <= room else (low, middle)
        return 4 * low or next((n for n in (2, 1) if self.step_bytes(seen, n) <= room), 0)

    def fitting(self, limit: int, halved: bool = False) -> str | None:
        """Return the options with which a step fits into a limit in bytes; None where not one picture does.

        The largest batch and, where a batch can be taken in turns, the fewest turns.

        Args:
            limit: Bytes, networks and Adam included.
            halved: At most half of what was asked for.
        """
        most = {seen: batch // 2 if halved else batch for seen, batch in self.steps().items()}
        fits = {seen: min(self.largest_batch(seen, limit), most[seen]) for seen in most}
        if not all(fits.values()):
            return None
        turns = f", or as large with --accumulate {n}" if (n := self._turns(fits)) else ""
        if not isinstance(self.config, PGGANConfig):
            return f"--batch {fits[0] * self.shares}{turns}"
        schedule = self.config.schedule()
        smaller = {schedule.at(seen)[0].side: n for seen, n in fits.items() if n < self.steps()[seen]}
        whole = {side: n * self.shares for side, n in smaller.items()}
        return f"--batches '{(self.config.batches or {}) | whole}'{turns}"

    def _turns(self, fits: Mapping[int, int]) -> int | None:
        """Return the least ``accumulate`` with which no share is larger than what fits, if that can be."""
        processes = _processes(self.config, self.device)
        batches = {seen: share * self.shares for seen, share in self.steps().items()}
        for turns in range(2, min(batches.values()) + 1):
            if all(batch <= fits[seen] * processes * turns for seen, batch in batches.items()):
                with suppress(UserError):
                    replace(self.config, accumulate=turns).check_processes(processes)
                    return turns
        return None

    def branches(self) -> list[tuple[float, Branches]]:
        """Return the kinds of a step with their share of all steps: with one of the branches, or with every one."""
        given: Any = self._branches
        if given.estimator == "all":
            return [(1.0, given)]
        ways = [tuple(float(i == j) for i in range(given.count)) for j in range(given.count)]
        return [(w, replace(given, weights=way)) for w, way in zip(given.weights, ways, strict=True) if w > 0]

    def run(
        self, seen: int, batch: int, branches: Branches, mode: TorchDispatchMode, phase_ended: Callable[[str], object]
    ) -> None:
        """Run a step that begins after so many images, with all its lazy phases if that is 0."""
        module, side = self._module, self.config.resolution
        if isinstance(self._alone, StyleGAN2Config):
            module.config = replace(self._alone, batch=batch)
        module.seen, module.branches, module.phase_ended = seen, branches, phase_ended
        with meta_stands_for(self.device), mode:
            module.training_step(torch.empty(batch, 3, side, side, dtype=torch.uint8, device=META), 0)

    def _count(self, seen: int, batch: int) -> int:
        """Return the bytes with the branch that needs most: the deepest, or that of most codes."""
        kinds = [kind for _, kind in self.branches()]
        worst = max(kinds, key=lambda kind: int(kind.codes_of(torch.tensor([_drawn(kind)]))) * 100 + _drawn(kind))
        counter = LiveBytes()
        counter.know([*self._module.parameters(), *self._module.buffers()])
        self.run(seen, batch, worst, counter, len)
        return counter.peak


def check_memory(config: TrainingConfig, device: torch.device) -> None:
    """Refuse a training that cannot fit into what a device has.

    What is far below that is not counted, as counting takes seconds.

    Raises:
        UserError: It needs more; the message names the largest batch that fits.
    """
    limit = _free(config, device)
    if limit is None or _crude_bound(config) < limit:
        return
    planner = Planner(config, device)
    needed = planner.estimate().total
    if needed <= limit:
        return
    fitting = planner.fitting(limit)
    way = f"the largest that fits is {fitting}" if fitting else f"not even one picture of {config.resolution} px fits"
    more = "" if config.activation_checkpointing else ", or try --activation_checkpointing"
    free = f"{in_gb(limit)} are free for it on {_named(device)}"
    raise UserError(f"this training needs at least {in_gb(needed)} of memory and {free}: {way}{more}")


def memory_line(config: TrainingConfig, device: torch.device) -> str:
    """Return a line that says what a training needs and what there is."""
    need = Planner(config, device).estimate()
    parts = f"networks {in_gb(need.networks)}, Adam {in_gb(need.adam)}, a step {in_gb(need.step)}"
    limit = _free(config, device)
    free = "" if limit is None else f", and {in_gb(limit)} are free for it on {_named(device)}"
    return f"memory: at least {in_gb(need.total)} ({parts}){free}"


@contextmanager
def running_out_in_one_line(config: TrainingConfig, device: torch.device, run: Path) -> Iterator[None]:
    """Tell in one line what would fit where memory runs out inside the ``with`` block.

    Raises:
        RunError: It did; the message says what to change, and what is kept.
    """
    try:
        yield
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    # behind that block nothing of the step is held any more
    kept = checkpoints(run)
    fitting = Planner(config, device).fitting(int(peak_memory_mb(device) * 1e6), halved=True)
    ways = [f"a new run with {fitting}"] if fitting else []
    if not config.activation_checkpointing:
        on = f"go on with --out {run} --resume --activation_checkpointing" if kept else "--activation_checkpointing"
        ways.insert(0, on)
    way = ", or ".join(ways) or "fewer channels"
    held = f"checkpoint kept: {kept[-1].name}" if kept else "no checkpoint was written yet"
    raise RunError(f"{_named(device)} has no memory left for a step of this training: {way}; {held}")


def _named(device: torch.device) -> str:
    return str(device) if device.type == "cuda" else "this machine"


def _processes(config: TrainingConfig, device: torch.device) -> int:
    """Return how many processes share a batch."""
    return devices_of(config, device) * config.num_nodes


def _free(config: TrainingConfig, device: torch.device) -> int | None:
    """Return the bytes to plan with for each process: those on one machine have a GPU each, or share its memory."""
    free = free_on(device)
    return free if free is None or device.type == "cuda" else free // devices_of(config, device)


def _drawn(kind: Branches) -> int:
    """Return the branch of a kind of step that has one."""
    return max(range(kind.count), key=lambda j: kind.weights[j])


def _crude_bound(config: TrainingConfig) -> int:
    """Return bytes that a training certainly stays below: a hundred maps of every layer for each picture or code."""
    channels = config.channels or {}
    maps = sum(width * side**2 for side, width in channels.items())
    weights = sum(width * max(channels.values()) for width in channels.values())
    rows = max(config.codes) if config.branches == "mixture" else 1
    parts = config.make_branches().count if config.estimator == "all" else 1
    largest = max(planned.batch for planned in config.schedule().stages) if isinstance(config, PGGANConfig) else 0
    return 4 * 100 * (maps * rows * parts * max(largest, config.batch_at(0)) + weights)


def _bytes_of(network: nn.Module) -> int:
    return sum(t.untyped_storage().nbytes() for t in [*network.parameters(), *network.buffers()])
