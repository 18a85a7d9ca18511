"""How many pictures are inverted at a time."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

from rtil.errors import RunError, UserError
from rtil.memory import is_out_of_memory

log = logging.getLogger(__name__)

MOST = 64
BATCH_PIXELS = MOST * 64**2
"""By default at most 64 pictures, and no more pixels than 64 pictures of 64 px, are inverted at a time."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batches:
    """Parts of work that fit into memory: where it is full, they are halved from then on.

    Args:
        size: Pictures at a time; None chooses by their size.
        resolution: Their side in pixels.
        device: Where the work is done.

    Raises:
        UserError: The size is below 1.

    Example:
        >>> list(Batches(2, 64, torch.device("cpu")).over("abc", str.upper))
        [('ab', 'AB'), ('c', 'C')]
    """

    def __init__(self, size: int | None, resolution: int, device: torch.device) -> None:
        if size is not None and size < 1:
            raise UserError(f"batch is {size}: valid is a whole number of 1 or more")
        self.size = max(1, min(MOST, BATCH_PIXELS // resolution**2)) if size is None else size
        self.resolution, self.device = resolution, device

    def over(
        self, items: Sequence[Item], work: Callable[[Sequence[Item]], Result]
    ) -> Iterator[tuple[Sequence[Item], Result]]:
        """Yield one part of the items after the other, with what the work makes of it.

        Raises:
            UserError: There is not enough memory for one item.
        """
        while items:
            batch = items[: self.size]
            try:
                result = work(batch)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                # behind this block nothing of what was tried is held any more, so that the cache can be emptied
            else:
                yield batch, result
                items = items[len(batch) :]
                continue
            self._halve(len(batch))

    def _halve(self, tried: int) -> None:
        if tried == 1:
            elsewhere = "" if self.device.type == "cpu" else "use --device cpu, or "
            raise RunError(
                f"{self.device} has not enough memory for one picture of {self.resolution} px: {elsewhere}give "
                "mGANprior fewer codes"
            )
        self.size = tried // 2
        log.warning("memory is full with %d pictures at a time: going on with %d (see --batch)", tried, self.size)
        torch.cuda.empty_cache()
