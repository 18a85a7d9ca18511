"""The compiled operations as torch sees them, and what happens where they cannot be had."""

import warnings

import pytest
import torch

from rtil.errors import UserError
from rtil.ops import Drawn, extension, fir_filter, styled_tail, tier
from rtil.ops.build import BuildError
from tests.rtil.ops.helpers import draw, lay

CPU = torch.device("cpu")
FIR = fir_filter()
ALL = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")


def maps(*shape, layout="NCHW"):
    return lay(draw(*shape).float(), layout).requires_grad_()


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_operations_are_registered_as_torch_asks(ext, layout):
    """Schema and fake kernels; in one layout also derivatives and their tracing with dynamic shapes, which is slow."""
    x, wide = maps(2, 5, 4, 6, layout=layout), maps(2, 5, 5, 7, layout=layout)
    b, d, noise = draw(5).float().requires_grad_(), draw(2, 5).float().requires_grad_(), draw(2, 1, 4, 6).float()
    strength = torch.tensor(0.5, requires_grad=True)
    ops = torch.ops.rtil
    cases = [
        (ops.upfirdn2d, (x, FIR, [2, 2], [1, 1], [2, 1, 2, 1], False, 4.0)),
        (ops.upfirdn2d, (x, FIR[:, None] * FIR, [1, 1], [2, 2], [1, 1, 1, -1], True, 1.0)),
        (ops.bias_act, (x, b, 0.2, 1.0)),
        (ops.bias_act, (x, None, 0.2, 1.4)),
        (ops.bias_act_grad, (x, x.detach(), 0.2, 1.0)),
        (ops.styled_tail, (wide, FIR, d, noise, strength, b, x, None, 0, 0, 0.2, 1.4)),
        (ops.styled_tail, (x, None, d, None, strength, b, None, torch.ones(2), 3, 4, 0.2, 1.4)),
        (ops.counter_normal, ([3, 5], 7, torch.empty(0))),
    ]
    quick = ("test_schema", "test_faketensor")
    for op, arguments in cases:
        torch.library.opcheck(op.default, arguments, test_utils=quick if layout == "NCHW" else ALL)
    detached = [t if t is None else t.detach() for t in (x, wide, FIR, d, noise, strength, b)]
    torch.library.opcheck(ops.styled_tail_grad.default, (*detached, 0, 0.2, 1.4, True, True), test_utils=quick)


def test_torch_compile_traces_it_in_one_graph(ext):
    x, b, d = maps(2, 5, 5, 7), draw(5).float().requires_grad_(), draw(2, 5).float().requires_grad_()

    def run(x, b, d):
        return styled_tail(x, b, fir=FIR, d=d, noise=Drawn(3), strength=torch.tensor(0.5))

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    results = [[y := f(x, b, d), *torch.autograd.grad(y.square().sum(), (x, b, d))] for f in (compiled, run)]
    torch.testing.assert_close(*results)


@pytest.fixture
def no_library(monkeypatch):
    """A fresh process that cannot build the library; returns the list of attempts."""
    attempts = []

    def library(cuda):
        attempts.append(cuda)
        raise BuildError("no C++ compiler: install g++")

    monkeypatch.setattr(extension.build, "library", library)
    monkeypatch.setattr(extension, "_outcome", None)
    return attempts


def test_auto_falls_back_with_one_warning(no_library, monkeypatch):
    monkeypatch.setenv("RTIL_OPS", "auto")
    x = torch.ones(1, 2, 4, 4)
    with pytest.warns(UserWarning, match="no C\\+\\+ compiler"):
        assert tier.tier_of("styled_tail", x) == "native"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tier.choice("upfirdn2d", CPU) == ("native", "no C++ compiler: install g++")
    assert len(set(no_library)) == len(no_library)


def test_ext_that_cannot_be_built_is_an_error(no_library, monkeypatch):
    monkeypatch.setenv("RTIL_OPS", "ext")
    for _ in range(2):
        with pytest.raises(UserError, match="install g"):
            tier.tier_of("styled_tail", torch.ones(1, 2, 4, 4))


def test_nothing_is_built_for_tiers_and_operations_that_need_nothing(no_library, monkeypatch):
    x = torch.ones(1, 2, 4, 4)
    for wanted in ("ref", "native"):
        monkeypatch.setenv("RTIL_OPS", wanted)
        assert tier.choice("styled_tail", CPU) == (wanted, f"RTIL_OPS={wanted}")
        assert tier.tier_of("styled_tail", x) == wanted
    monkeypatch.setenv("RTIL_OPS", "ext")
    assert tier.tier_of("conv2d", x) == "native"
    assert tier.choice("styled_tail", torch.device("meta")).tier == "native"
    assert no_library == []


def test_an_unknown_tier_is_refused(monkeypatch):
    monkeypatch.setenv("RTIL_OPS", "fast")
    with pytest.raises(UserError, match="'fast'"):
        tier.tier_of("conv2d", torch.ones(1))


def test_a_gpu_without_kernels_keeps_the_compiled_operations_of_the_cpu(monkeypatch, ext):
    path = extension.load().path  # the one library of this process: with another, every operation would be there twice

    def library(cuda):
        if cuda:
            raise BuildError("no nvcc: pip install")
        return path

    monkeypatch.setenv("RTIL_OPS", "auto")
    monkeypatch.setattr(extension.build, "library", library)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(extension.derivatives, "register", lambda: None)  # they are already
    monkeypatch.setattr(extension, "_outcome", None)
    with pytest.warns(UserWarning, match="no nvcc"):
        assert tier.choice("styled_tail", CPU).tier == "ext"
    assert tier.choice("styled_tail", torch.device("cuda")) == ("native", "no nvcc: pip install")
    monkeypatch.setenv("RTIL_OPS", "ext")
    with pytest.raises(UserError, match="no nvcc"):
        tier.choice("styled_tail", torch.device("cuda"))
