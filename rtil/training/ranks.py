"""What a process is among those that share a training, and how they make N devices equal one up to rounding.

Every process draws what one process would draw for the whole batch, keys or small tensors, and computes its rows of it.
What D compares stays together: the groups of StyleGAN2's minibatch standard deviation are whole on one process, and
PGGAN's, which spans the batch, is that of all processes. The gradients of a phase are averaged over the processes, in
one piece, before it is decided whether they are finite, so that all skip the same steps. Weights, moving average and
both Adams are then the same everywhere, and the first process alone writes them.

A process may take its rows in several turns (``accumulate``): they are further shares of the batch.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from rtil.errors import RunError, UserError

Groups = Callable[[int], Tensor]
"""Returns the group [n] of every picture of a batch of n; a group is computed in one piece."""


class LostProcessError(RunError):
    """A process of a training has ended or does not answer, so that the others cannot go on."""


@contextmanager
def losses_told() -> Iterator[None]:
    """Turn what torch says where another process is missing into one line.

    Raises:
        LostProcessError: If so.
    """
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0].removeprefix("[").rpartition(".cc:")[2].partition("] ")
        why = (reason[2] or reason[0]).partition(". ")[0]
        raise LostProcessError(
            f"a process of this training ended or does not answer ({why}): go on from the last checkpoint"
        ) from error


@dataclass(frozen=True)
class Ranks:
    """The place of a process among those of a training.

    Args:
        rank: Number of this process, from 0.
        world_size: Number of processes.
        accumulate: Turns in which a process takes its share of a batch.
        control: Group in which processes agree on plain numbers, without a word to a GPU; None is the only one.
    """

    rank: int = 0
    world_size: int = 1
    accumulate: int = 1
    control: Any = None

    @property
    def shares(self) -> int:
        """Number of pieces of a batch."""
        return self.world_size * self.accumulate

    def rows(self, groups: Tensor) -> list[Tensor | None]:
        """Return the rows of a batch that this process computes, ascending, turn by turn; None is all rows.

        Args:
            groups: [n] group of every row, 0 .. M - 1; M is a multiple of the number of shares.
        """
        if self.shares == 1:
            return [None]
        share = groups // ((int(groups.max()) + 1) // self.shares)
        turns = range(self.rank * self.accumulate, (self.rank + 1) * self.accumulate)
        return [(share == turn).nonzero().squeeze(1) for turn in turns]

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over all processes, sent in one piece."""
        if self.world_size == 1:
            return
        flat = self.sum(torch.cat([t.detach().flatten() for t in tensors])).div_(self.world_size)
        with torch.no_grad():
            torch._foreach_copy_(list(tensors), _in_shapes_of(tensors, flat))

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes; x may hold it afterwards."""
        if self.world_size > 1:
            with losses_told():
                dist.all_reduce(x)
        return x

    def variance(self, x: Tensor) -> Tensor:
        """Return the variance [...] over a batch of which each process holds as many rows [n, ...].

        Differentiable any number of times. A derivative with respect to this process's rows is that of the sum, over
        all processes, of what was differentiated.
        """
        own = torch.stack([x.mean(dim=0), x.var(dim=0, unbiased=False)])
        places = torch.arange(self.world_size, device=x.device).eq(self.rank).to(x.dtype)
        means, variances = cast(Tensor, _Sum.apply(torch.einsum("w,...->w...", places, own))).unbind(1)
        return (variances + (means - means.mean(dim=0)).square()).mean(dim=0)

    def largest(self, number: int) -> int:
        """Return the largest of a number of every process."""
        if self.world_size == 1:
            return number
        numbers = torch.tensor(number)
        with losses_told():
            dist.all_reduce(numbers, dist.ReduceOp.MAX, self.control)
        return int(numbers)

    def take_those_of_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of the first process."""
        for dtype in dict.fromkeys(t.dtype for t in tensors) if self.world_size > 1 else ():
            of_type = [t for t in tensors if t.dtype == dtype]
            flat = torch.cat([t.detach().flatten() for t in of_type])
            with losses_told():
                dist.broadcast(flat, 0)
            with torch.no_grad():
                torch._foreach_copy_(of_type, _in_shapes_of(of_type, flat))


def _in_shapes_of(tensors: Sequence[Tensor], flat: Tensor) -> list[Tensor]:
    pieces = flat.split([t.numel() for t in tensors])
    return [piece.view(t.shape) for piece, t in zip(pieces, tensors, strict=True)]


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes, on each of them; its derivative is the same sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous().clone()
        with losses_told():
            dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return cast(Tensor, _Sum.apply(gradients[0]))


def rows_of_rank(n: int, rank: int, world_size: int, *, groups: Groups, accumulate: int) -> list[int]:
    """Return the rows of a batch of n that a process reads, turn by turn."""
    turns = Ranks(rank, world_size, accumulate).rows(groups(n))
    return torch.cat([torch.arange(n) if rows is None else rows for rows in turns]).tolist()


def check_shares(what: str, pictures: int, group_size: int, shares: int, mend: str) -> None:
    """Check that a batch can be split evenly.

    Args:
        what: How messages call the batch.
        pictures: How many it has.
        group_size: How many of them D compares with each other, on one process.
        shares: Number of pieces.
        mend: What to do where it cannot.

    Raises:
        UserError: If groups would have to be cut, or be shared unevenly.
    """
    count = pictures // group_size
    if count % shares:
        held = f"{count} groups of {group_size} that D compares" if group_size > 1 else f"{count} pictures"
        raise UserError(f"{what} has {held}, which {shares} devices or turns cannot share evenly: {mend}")
