"""Processes that share a training without Lightning, called from here: for comparisons and timings, and for tests."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.workers import Worker
from rtil.data.batches import TrainingBatches
from rtil.training.config import config_of
from rtil.training.module import GANTraining
from rtil.training.pggan import PGGANTraining
from rtil.training.ranks import LostProcessError, Ranks, rows_of_rank
from rtil.training.stylegan2 import StyleGAN2Training
from rtil.training.without_trainer import WithoutTrainer

CPU = torch.device("cpu")
PICTURES = 96
"""Random pictures that are trained on, not a multiple of the batches."""


class InItsType(WithoutTrainer):
    """A step without Lightning's loop whose pictures have the type of the weights."""

    def shown(self, reals: Tensor) -> Tensor:
        """Return reals as D sees them."""
        return super().shown(reals.to(self.dtype_main))


class StyleGAN2WithoutTrainer(InItsType, StyleGAN2Training):
    """StyleGAN2's training step."""


class PGGANWithoutTrainer(InItsType, PGGANTraining):
    """PGGAN's training step."""


MODULES: Mapping[str, type[Any]] = {"stylegan2": StyleGAN2WithoutTrainer, "pggan": PGGANWithoutTrainer}


class Member:
    """One of the processes, with one thread.

    Args:
        rank: Its number.
        world_size: Number of processes.
        meeting: File through which they find each other.
    """

    def __init__(self, rank: int, world_size: int, meeting: str) -> None:
        torch.set_num_threads(1)
        self.rank, self.world_size = rank, world_size
        if world_size > 1:
            dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size)

    def train(
        self, settings: dict[str, Any], until: Sequence[int], folder: str, dtype: torch.dtype = torch.float32
    ) -> None:
        """Train afresh; after each number of steps of ``until``, the first process writes all tensors.

        Args:
            settings: Of the training.
            until: Numbers of steps.
            folder: For the files.
            dtype: Of weights and of everything that is computed from them.
        """
        module, batches = self._opened(settings, dtype)
        for step in range(max(until)):
            module.training_step(batches.at(module.seen), 0)
            if step + 1 in until and self.rank == 0:
                torch.save(tensors(module), Path(folder) / f"{step + 1}.pt")

    def wait_alone(self, seconds: float) -> str:
        """Wait in the first process for the others, which do not come; return what it is told."""
        ranks = Ranks(self.rank, self.world_size, control=dist.new_group(timeout=timedelta(seconds=seconds)))
        if self.rank:
            return ""
        try:
            ranks.largest(0)
        except LostProcessError as error:
            return str(error)
        return "nothing"

    def seconds(self, settings: dict[str, Any], steps: int) -> tuple[float, float, int]:
        """Return the seconds of so many steps after one, those of a processor, and the bytes given to be summed."""
        module, batches = self._opened(settings)
        module.training_step(batches.at(module.seen), 0)
        given, all_reduce = [0], dist.all_reduce

        def counted(x: Tensor, *args: Any) -> Any:
            given[0] += x.numel() * x.element_size()
            return all_reduce(x, *args)

        started, worked = time.perf_counter(), time.process_time()
        with patch.object(dist, "all_reduce", counted):
            for _ in range(steps):
                module.training_step(batches.at(module.seen), 0)
                module.ranks.largest(0)  # as a callback asks after each step whether to stop
        return time.perf_counter() - started, time.process_time() - worked, given[0]

    def _opened(
        self, settings: dict[str, Any], dtype: torch.dtype = torch.float32
    ) -> tuple[GANTraining, TrainingBatches]:
        config = config_of(settings)
        module = MODULES[config.arch](config).to(dtype)
        module.ranks = Ranks(self.rank, self.world_size, config.accumulate)
        module.start(CPU, dtype)
        module.G.draw_z = partial(_in_type, dtype, module.G.draw_z)
        shape, rng = (PICTURES, 3, config.resolution, config.resolution), torch.Generator().manual_seed(0)
        pictures = torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8)
        rows = partial(rows_of_rank, groups=module.inseparable, accumulate=config.accumulate)
        order = (config.batch_at, config.seed, 0, config.mirror)
        return module, TrainingBatches(pictures, *order, self.rank, self.world_size, rows)


def _in_type(dtype: torch.dtype, draw: Callable[..., Tensor], *args: Any) -> Tensor:
    return draw(*args).to(dtype)


class Members:
    """Several processes of one training; use in a ``with`` block.

    Args:
        world_size: Number of processes.
        folder: For the file through which they find each other.
    """

    def __init__(self, world_size: int, folder: Path) -> None:
        meeting = str(folder / f"meeting-{world_size}-{time.monotonic_ns()}")
        environment = {"OMP_NUM_THREADS": "1", "RTIL_OPS": "native"}
        self.workers = [Worker(Member, environment, rank, world_size, meeting) for rank in range(world_size)]

    def call(self, method: str, *args: Any) -> list[Any]:
        """Call a method in all processes at once; return what each returns."""
        with ThreadPoolExecutor(len(self.workers)) as pool:
            return list(pool.map(lambda worker: worker.call(method, *args), self.workers))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.close()


def tensors(module: GANTraining) -> dict[str, Tensor]:
    """Return every tensor of a training: weights, moving average, running means and Adam's moments."""
    found = {name: value.clone() for name, value in module.state_dict().items()}
    for i, opt in enumerate(cast(list[Any], module.optimizers())):
        for p, values in opt.optimizer.state_dict()["state"].items():
            found |= {f"adam{i}.{p}.{name}": torch.as_tensor(value).clone() for name, value in values.items()}
    return found


def tensors_of_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return every tensor of a checkpoint: weights, moving average, running means and Adam's moments."""
    state = torch.load(path, weights_only=True)
    found: dict[str, Tensor] = dict(state["state_dict"])
    for i, opt in enumerate(state["optimizer_states"]):
        for p, values in opt["state"].items():
            found |= {f"adam{i}.{p}.{name}": torch.as_tensor(value) for name, value in values.items()}
    return found


def worst_difference(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> tuple[float, str]:
    """Return the largest difference of a tensor, relative to its own largest value, and which tensor it is.

    Adam's first moment, whose step it divides by the root of the second, is relative to that root where it is larger:
    the gradient of R1 with respect to a bias is nothing but rounding.
    """
    assert a.keys() == b.keys()  # noqa: S101
    worst = (0.0, "")
    for name, value in a.items():
        scale = float(value.double().abs().max())
        if name.endswith(".exp_avg"):
            scale = max(scale, float(a[f"{name}_sq"].double().max()) ** 0.5)
        difference = float((value.double() - b[name].double()).abs().max())
        worst = max(worst, (difference / scale if scale else difference, name))
    return worst
