"""What layers make of their weights before they use them, made once while the weights stand still.

A layer scales its weights, converts them to the type it computes in and sums their squares for the demodulation, every
time it runs. An inverter runs it thousands of times with the same weights. Inside :func:`constant_weights` the results
are remembered; outside, and for weights that are being learned, nothing is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch import nn

T = TypeVar("T")

Memory = dict[tuple[int, object], tuple[nn.Parameter, object]]

_memory: ContextVar[Memory | None] = ContextVar("of_weights", default=None)  # each thread has its own


@contextmanager
def constant_weights() -> Iterator[None]:
    """Promise that no weight without a gradient changes inside the ``with`` block."""
    outside = _memory.set({})
    try:
        yield
    finally:
        _memory.reset(outside)


def of_weights(parameter: nn.Parameter, use: object, make: Callable[[], T]) -> T:
    """Return ``make()``, or what it returned before where the weights are constant.

    Args:
        parameter: The weights that ``make`` depends on, and nothing else that changes.
        use: Tells the results of one parameter apart, such as a type.
        make: Computes the result.
    """
    if torch.compiler.is_compiling() or parameter.requires_grad or (memory := _memory.get()) is None:
        return make()
    key = (id(parameter), use)
    if key not in memory:
        memory[key] = (parameter, make())  # the parameter is held, so that its id stays its own
    return memory[key][1]  # type: ignore[return-value]
