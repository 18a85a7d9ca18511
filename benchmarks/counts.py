"""What is counted rather than timed: floating point operations, and how often the host waits for the GPU."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class _FlopMode(TorchDispatchMode):
    """Adds up torch's formulas for what passes through it, by type, which torch's own counter does not tell."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            dtype = next(value.dtype for value in args if isinstance(value, Tensor))
            self.found[str(dtype).removeprefix("torch.")] += formula(*args, **kwargs, out_val=out)
        return out


@contextmanager
def flops() -> Iterator[Counter[str]]:
    """Count the floating point operations of convolutions and matrix products in a ``with`` block, by type.

    A multiplication and an addition are two. Weight gradients of grouped convolutions are counted as if they had one
    group, which is torch's formula.
    """
    with _FlopMode() as mode:
        yield mode.found


@contextmanager
def host_waits(device: torch.device) -> Iterator[Counter[str]]:
    """Count where a ``with`` block makes the host wait for the GPU: {file:line: times}, known at its end."""
    found: Counter[str] = Counter()
    if device.type != "cuda":
        yield found
        return
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield found
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found.update(f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message))


class SecondSteps:
    """Counts what the second step of every round of an inversion does, the first that is like most; a callback.

    Args:
        counting: Opens what counts, such as :func:`flops`.

    Attributes:
        rounds: What was counted, by round.
    """

    STEPS = 2
    """A round must have, at least."""

    def __init__(self, counting: Callable[[], AbstractContextManager[Counter[str]]]) -> None:
        self.counting = counting
        self.rounds: list[Counter[str]] = []
        self._inside = ExitStack()

    def __call__(self, round_number: int, step: int, x: Tensor | None = None) -> None:
        """Begin to count at the iterate that the step starts from, and end at the one it leads to."""
        if step == 1:
            self.rounds.append(self._inside.enter_context(self.counting()))
        elif step == self.STEPS:
            self._inside.close()
