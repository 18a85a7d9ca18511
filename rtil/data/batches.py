"""Training batches as a pure function of (seed, images seen).

Position p of the endless training order is image ``permutation(epoch)[p mod n]`` with ``epoch = p div n``, mirrored
if a coin keyed by p says so. A batch needs nothing but its first position: resuming restores no state, and neither
the number of workers nor prefetching can change what is trained on. Its size may depend on that position too
(progressive growing).
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, get_worker_info

from rtil.data.base import ImageDataset
from rtil.data.cache import preload
from rtil.data.compared import MOST_SAMPLES, REFERENCE_PICTURES, pictures_to_compare
from rtil.data.sets import open_dataset
from rtil.errors import RunError
from rtil.machine import cores
from rtil.seeds import generator

MEMORY_LIMIT_BYTES = 2_000_000_000
VALIDATED_AT_A_TIME = 64
MOST_WORKERS = 4
"""Where their number is not given."""
BatchSize = int | Callable[[int], int]  # constant, or of the batch that starts at images_seen
Rows = Callable[[int, int, int], Sequence[int]]
"""Returns which positions of a batch are those of a process: (images in all, process, number of processes)."""


def contiguous(n: int, rank: int, world_size: int) -> range:
    """Return a process's positions in a batch of n: the processes' are one after the other.

    Example:
        >>> contiguous(8, rank=1, world_size=2)
        range(4, 8)
    """
    share = n // world_size
    return range(rank * share, (rank + 1) * share)


class TrainingOrder:
    """The endless order in which n images are shown.

    Example:
        >>> order = TrainingOrder(5, seed=0)
        >>> sorted(order.index(position) for position in range(5, 10))
        [0, 1, 2, 3, 4]
    """

    def __init__(self, n: int, seed: int, mirror: bool = True) -> None:
        self.n, self.seed, self.mirror = n, seed, mirror
        self._epoch = -1
        self._permutation: list[int] = []

    def index(self, position: int) -> int:
        """Return which image is shown at a position."""
        epoch, place = divmod(position, self.n)
        if epoch != self._epoch:
            stream = generator(self.seed, "data/order", epoch)
            self._epoch, self._permutation = epoch, torch.randperm(self.n, generator=stream).tolist()
        return self._permutation[place]

    def is_mirrored(self, position: int) -> bool:
        """Return whether the image at a position is shown mirrored."""
        return self.mirror and torch.rand((), generator=generator(self.seed, "data/mirror", position)).item() < 0.5


class TrainingBatches(IterableDataset[Tensor]):
    """Endless batches uint8 [B, 3, R, R]; use with ``DataLoader(..., batch_size=None)`` and any number of workers.

    Iterating starts at ``images_seen``, every time. With several ranks, each takes its share of every batch.

    Args:
        source: The pictures: a set, read when needed, or a tensor [n, 3, R, R] uint8.
        batch: Images per step over all ranks: a number, or a function of the step's first position (for workers that
            are spawned, one that can be pickled), such as ``GrowthSchedule.batch_at``.
        seed: Root seed of order and mirroring.
        images_seen: Position at which to start.
        mirror: Show each image mirrored half of the time.
        rank: This process.
        world_size: Number of processes; divides every batch.
        rows: Says which positions of a batch are those of a process.

    Raises:
        UserError: A batch, the first one or one met later, is not a positive multiple of ``world_size``.
    """

    def __init__(
        self,
        source: ImageDataset | Tensor,
        batch: BatchSize,
        seed: int = 0,
        images_seen: int = 0,
        mirror: bool = True,
        rank: int = 0,
        world_size: int = 1,
        rows: Rows = contiguous,
    ) -> None:
        self.source, self.batch, self.images_seen = source, batch, images_seen
        self.order = TrainingOrder(len(source), seed, mirror)
        self.rank, self.world_size, self.rows = rank, world_size, rows
        self.size(images_seen)  # raises before training what it can

    def size(self, images_seen: int) -> int:
        """Return the number of images, over all ranks, of the batch that starts at a position."""
        size = self.batch(images_seen) if callable(self.batch) else self.batch
        if size < 1 or size % self.world_size:
            raise RunError(f"batch {size} is not valid: use a positive multiple of the {self.world_size} processes")
        return size

    def at(self, images_seen: int) -> Tensor:
        """Return this rank's share of the batch that starts at a position."""
        rows = self.rows(self.size(images_seen), self.rank, self.world_size)
        positions = [images_seen + row for row in rows]
        indices = [self.order.index(position) for position in positions]
        images = self.source[indices] if isinstance(self.source, Tensor) else self.source.load(indices)
        for row, position in enumerate(positions):
            if self.order.is_mirrored(position):
                images[row] = images[row].flip(2)
        return images

    def __iter__(self) -> Iterator[Tensor]:
        """Yield batches without end; of W workers each takes every W-th, which the loader puts in order."""
        worker = get_worker_info()
        mine, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        position = self.images_seen
        for step in count():
            if step % stride == mine:
                yield self.at(position)
            position += self.size(position)


class FacesDataModule(pl.LightningDataModule):
    """Serves training batches uint8 [B, 3, R, R], from memory where the set is small enough, else read by processes.

    On a GPU a process of its own puts them together ahead of the step, from memory, too (not on Windows, where it would
    hold the pictures a second time); on a CPU it would take the processor that the step needs.

    Set ``images_seen`` before ``fit`` to go on where a run stopped.

    Args:
        data: ``synthetic``, or the path of a folder or uncompressed zip of pictures.
        resolution: Side R in pixels.
        batch: Images per step over all ranks: a number, or a function of the step's first position.
        seed: Root seed of order and mirroring; the pictures of ``synthetic`` are the same for every seed.
        mirror: Show each image mirrored half of the time.
        workers: Processes that read pictures which are not served from memory; None is one for each core, at most 4.
        rows: Says which positions of a batch are those of a process.

    Attributes:
        dataset: The training split.
        images_seen: Position of the first batch.
    """

    def __init__(
        self,
        data: str,
        resolution: int,
        batch: BatchSize,
        seed: int = 0,
        mirror: bool = True,
        workers: int | None = None,
        rows: Rows = contiguous,
    ) -> None:
        super().__init__()
        self.batch, self.seed, self.mirror, self.rows = batch, seed, mirror, rows
        self.workers = min(MOST_WORKERS, cores()) if workers is None else workers
        self.dataset = open_dataset(data, resolution, "train")
        self.in_memory = len(self.dataset) * 3 * resolution**2 <= MEMORY_LIMIT_BYTES
        self.images_seen = 0

    def prepare_data(self) -> None:
        """Decode the set into the disk cache, in one process, before the ranks map it."""
        if self.in_memory:
            preload(self.dataset)

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Return the loader of this rank, from ``images_seen`` on."""
        rank, world_size, on_gpu = 0, 1, False
        if self.trainer:
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
            on_gpu = self.trainer.strategy.root_device.type == "cuda"
        source = preload(self.dataset) if self.in_memory else self.dataset
        order = (self.batch, self.seed, self.images_seen, self.mirror)
        batches = TrainingBatches(source, *order, rank, world_size, self.rows)
        context, workers = None, self.workers
        if self.in_memory:  # a fork shares the pictures; a process that is started anew would copy them
            can_share = on_gpu and "fork" in multiprocessing.get_all_start_methods()
            context, workers = ("fork", 1) if can_share else (None, 0)
        return DataLoader(
            batches,
            batch_size=None,
            num_workers=workers,
            pin_memory=on_gpu,
            multiprocessing_context=context,
            worker_init_fn=_leave_stopping_to_the_training,
        )

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Return a loader of the training pictures, uint8 [N, 3, R, R], that samples are compared with."""
        source = preload(self.dataset) if self.in_memory else self.dataset
        chosen = pictures_to_compare(len(self.dataset), self.seed)[: MOST_SAMPLES + REFERENCE_PICTURES]
        return DataLoader(Subset(cast(Any, source), chosen.tolist()), VALIDATED_AT_A_TIME)


def _leave_stopping_to_the_training(_: int) -> None:
    """Ignore what a batch system or a terminal sends to all processes of a job: to end well, it still needs batches."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
