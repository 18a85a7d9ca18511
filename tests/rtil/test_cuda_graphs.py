"""CUDA graphs as far as they can be tested without a GPU: a recorder that runs the function again stands for one."""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ilo import ILO
from rtil import cuda_graphs
from rtil.cuda_graphs import WARM_UP_CALLS, replayed, wanted_on
from rtil.errors import RunError, UserError
from rtil.generators import StyleGAN2Generator
from rtil.inverse.operators import make_operator


class Recorder:
    """Stands for torch's graph: a replay writes new results over the recorded outputs."""

    def __init__(self) -> None:
        self.function: Callable[[], Any] | None = None
        self.outputs: Any = None

    def replay(self) -> None:
        assert self.function is not None
        with torch.enable_grad():
            new = self.function()
        for old, value in zip(tree_leaves(self.outputs), tree_leaves(new), strict=True):
            if isinstance(old, Tensor):
                with torch.no_grad():
                    old.copy_(value)


class Stream:
    def wait_stream(self, other: "Stream") -> None:
        pass


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """Let every function be recorded by a stand-in; the list of these."""
    made: list[Recorder] = []

    @contextmanager
    def nothing(*_: object) -> Any:
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: made.append(Recorder()) or made[-1])
    monkeypatch.setattr(torch.cuda, "graph", nothing)
    monkeypatch.setattr(torch.cuda, "stream", nothing)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)

    def recording(function: Callable[[], Any]) -> Callable[[], Any]:
        def noted() -> Any:
            out = function()
            made[-1].outputs = out if made[-1].function is None else made[-1].outputs
            return out

        replay = replayed(noted)
        recorder = made[-1]
        recorder.function = function
        recorder.outputs = torch.utils._pytree.tree_map_only(Tensor, Tensor.detach, recorder.outputs)
        return replay

    monkeypatch.setattr(cuda_graphs, "replayed", recording)
    return made


def test_outputs_are_copies_that_later_replays_leave_alone(recorders: list[Recorder]) -> None:
    x, calls = torch.ones(2), []

    def function() -> tuple[Tensor, dict[str, Tensor]]:
        calls.append(x.clone())
        return x * 2, {"three": x * 3}

    replay = cuda_graphs.replayed(function)
    assert len(calls) == WARM_UP_CALLS + 1
    first = replay()
    x.fill_(10)
    second = replay()
    assert (first[0].tolist(), first[1]["three"].tolist()) == ([2, 2], [3, 3])
    assert (second[0].tolist(), second[1]["three"].tolist()) == ([20, 20], [30, 30])


def test_what_cannot_be_recorded_is_one_line(recorders: list[Recorder]) -> None:
    calls = []

    def waits() -> Tensor:
        calls.append(1)
        if len(calls) > WARM_UP_CALLS:
            raise RuntimeError("operation not permitted when stream is capturing\nand so on")
        return torch.ones(1)

    with pytest.raises(RunError, match=r"\(operation not permitted when stream is capturing\): leave RTIL_CUDA_GRAPHS"):
        replayed(waits)


def test_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.delenv("RTIL_CUDA_GRAPHS", raising=False)
    assert not wanted_on(cpu)
    assert not wanted_on(gpu)
    monkeypatch.setenv("RTIL_CUDA_GRAPHS", "1")
    assert wanted_on(gpu)
    with pytest.raises(UserError, match="needs an NVIDIA GPU, and this is cpu: leave it away"):
        wanted_on(cpu)
    monkeypatch.setenv("RTIL_CUDA_GRAPHS", "yes")
    with pytest.raises(UserError, match="unknown value of RTIL_CUDA_GRAPHS 'yes': valid are 0, 1"):
        wanted_on(gpu)


def small_generator() -> StyleGAN2Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return StyleGAN2Generator(8, {4: 4, 8: 4}, z_dim=8, w_dim=8, mapping_layers=1)


def test_a_solver_on_a_cpu_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTIL_CUDA_GRAPHS", "1")
    with pytest.raises(UserError, match="needs an NVIDIA GPU"):
        ILO(small_generator())


@pytest.mark.parametrize(
    "settings",
    [{}, {"switch": "plateau", "switch_window": 1, "switch_threshold": 0.5}, {"selection": "heldout", "noise": "all"}],
    ids=str,
)
def test_an_inversion_with_graphs_is_the_same(
    settings: dict[str, Any], recorders: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a result has, to the last bit, and a graph for each round."""
    operator = make_operator("cs", (3, 8, 8), rate=0.5)
    y = operator(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    solver = ILO(small_generator(), steps=(5, 4), perceptual="none", **settings)
    plain = solver.invert(y, operator)
    assert not recorders
    monkeypatch.setattr(cuda_graphs, "wanted_on", lambda device: True)
    shown: list[Tensor] = []
    graphs = solver.invert(y, operator, callback=lambda number, step, x: shown.append(x))
    assert len(recorders) == 2
    assert torch.equal(graphs.x, plain.x)
    assert torch.equal(graphs.rounds, plain.rounds)
    assert graphs.history.keys() == plain.history.keys()
    for name, values in plain.history.items():
        assert torch.equal(graphs.history[name], values), name
    assert not torch.equal(shown[0], shown[1]), "kept iterates stay"


def test_noise_that_is_new_at_each_step_is_not_recorded(
    recorders: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = make_operator("cs", (3, 8, 8), rate=0.5)
    y = operator(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    monkeypatch.setattr(cuda_graphs, "wanted_on", lambda device: True)
    ILO(small_generator(), steps=(2, 2), perceptual="none", sna_sigma=0.1).invert(y, operator)
    assert not recorders
