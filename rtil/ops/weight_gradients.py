"""Whether a backward pass computes the gradients of weights and biases."""

from collections.abc import Iterator
from contextlib import contextmanager

_weight_gradients_skipped = 0


@contextmanager
def no_weight_gradients() -> Iterator[None]:
    """Leave out the gradients of weights and biases in backward passes inside the ``with`` block.

    Weights are the second argument of the convolutions, biases and noise strengths those of ``bias_act`` and
    ``styled_tail``: only for networks whose weights and biases do not depend on what is differentiated by.

    R1 and path length differentiate a gradient that is taken with respect to pictures or styles only. Autograd does
    not tell an operation which of its inputs' gradients are asked for; without this, the inner pass of a regulariser
    computes every weight gradient, a third of its work, and throws it away. (The tier ``ref`` takes no notice: torch
    tells its own convolutions.)
    """
    global _weight_gradients_skipped
    _weight_gradients_skipped += 1
    try:
        yield
    finally:
        _weight_gradients_skipped -= 1


def weight_gradients_wanted() -> bool:
    """Return False inside :func:`no_weight_gradients`."""
    return _weight_gradients_skipped == 0
