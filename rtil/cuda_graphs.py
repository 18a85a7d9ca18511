"""CUDA graphs (off by default): the kernels of a function recorded once, then started together.

A small step is a few hundred kernels of a few microseconds, which Python starts one by one: the GPU waits for the host.
A graph replays them with one call. It repeats addresses and numbers as they were when it was recorded, so

* what changes between two calls has to lie in the same tensors, changed in place;
* the function may not wait for the GPU, nor depend on anything that changes in Python, such as a key of noise;
* outputs are copied at each call, as the next one writes over them.

``RTIL_CUDA_GRAPHS=1`` records the forward and backward pass of an inversion's step (:mod:`rtil.inverse.loop`). No graph
of ours has been run on a GPU yet: ``benchmarks/gpu.sh`` measures it where there is one, and until then it stays off.
Training takes none: each of its steps has new keys of noise and branches, which are numbers of the host.
"""

import os
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from rtil.errors import RunError, UserError, unknown

VARIABLE = "RTIL_CUDA_GRAPHS"
WARM_UP_CALLS = 3  # in which libraries choose their algorithms and take their work space, as torch's manual has it

T = TypeVar("T")


def wanted_on(device: torch.device) -> bool:
    """Return whether ``RTIL_CUDA_GRAPHS`` asks for graphs.

    Raises:
        UserError: It is neither 0 nor 1, or it does and the device is no NVIDIA GPU.
    """
    value = os.environ.get(VARIABLE, "0")
    if value not in ("0", "1"):
        raise unknown(f"value of {VARIABLE}", value, ["0", "1"])
    if value == "1" and device.type != "cuda":
        raise UserError(f"{VARIABLE}=1 needs an NVIDIA GPU, and this is {device}: leave it away, or use --device cuda")
    return value == "1"


def replayed(function: Callable[[], T]) -> Callable[[], T]:
    """Record a function on the current GPU; return what replays it.

    Args:
        function: See the module; returns tensors, in tuples and dictionaries. It is called a few times before.

    Returns:
        A function that returns copies of the outputs, without the graph that leads to them.

    Raises:
        RunError: It does what cannot be recorded.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_CALLS):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    try:
        with torch.cuda.graph(graph):
            outputs = tree_map_only(Tensor, Tensor.detach, function())
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).strip().partition("\n")[0]
        raise RunError(f"this step cannot be recorded as a CUDA graph ({reason}): leave {VARIABLE} away") from error

    def replay() -> T:
        graph.replay()
        copies: T = tree_map_only(Tensor, Tensor.clone, outputs)
        return copies

    return replay
