"""``rtil doctor``: its report, its exit codes, and a self-test that notices what is wrong."""

import json
import os
from pathlib import Path

import pytest
import torch

from rtil import checkup, machine, ops
from rtil.cli import doctor
from rtil.ops import build, extension, prebuilt, selftest
from rtil.ops.extension import Extension
from rtil.ops.tier import OPERATIONS, choice


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine without compiler and cache."""
    for name in ("RTIL_OPS", "CXX", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path))
    monkeypatch.setattr(prebuilt, "PREBUILT", tmp_path / "prebuilt")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(extension, "_outcome", None)


@pytest.fixture
def one_case(monkeypatch):
    """A self-test of one operation."""
    monkeypatch.setattr(selftest, "CASES", [case for case in selftest.CASES if case.op == "bias_act"])


def test_without_a_compiler_the_native_tier_is_right(bare, capsys):
    assert doctor.main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert report["versions"]["torch"]
    assert report["library"]["state"] == "none"
    assert report["compiler"].startswith("no C++ compiler (looked for c++, g++, clang++)")
    tiers = {row["op"]: row for row in report["tiers"]}
    assert tiers["upfirdn2d"]["tier"] == "native"
    assert "no C++ compiler" in tiers["upfirdn2d"]["reason"]
    tested = {row["op"] for row in report["selftest"]}
    assert tested == set(tiers)
    assert all(row["ok"] and row["tier"] == "native" for row in report["selftest"])


def test_the_text(bare, one_case, capsys):
    assert doctor.main([]) == 0
    text = capsys.readouterr().out
    assert "lpips vgg   no weights: rtil weights lpips\n" in text
    assert "bias_act             cpu   float32   native  ok, max error" in text
    assert "bias_act             cpu" in text.partition("what runs")[2].partition("self-test")[0]
    assert text.endswith("\nall self-tests ok\n")


def test_a_wrong_operation_fails(bare, one_case, monkeypatch, capsys):
    right = ops.bias_act
    monkeypatch.setattr(ops, "bias_act", lambda x, b: right(x, b) * (1 + 1e-4))
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    assert "float64   native  FAIL, max error 1e-04, may be 1e-10" in text
    assert "float32   native  FAIL, max error 1e-04, may be 1e-05" in text
    assert "bfloat16  native  ok" in text
    assert "float16   native  ok" in text
    assert text.endswith("\n2 of 4 self-tests failed\n")


def test_a_wrong_second_derivative_fails(bare, monkeypatch, capsys):
    class Halved(torch.autograd.Function):
        """Right value and gradient; half the gradient of the gradient."""

        @staticmethod
        def forward(ctx, g):
            return g.clone()

        @staticmethod
        def backward(ctx, g):
            return g / 2

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.square()

        @staticmethod
        def backward(ctx, g):
            return Halved.apply(g) * 2 * ctx.saved_tensors[0]

    case = selftest.Case("square", Wrong.apply, maps=((2, 3, 4, 4),), oracle=torch.square)
    monkeypatch.setattr(selftest, "CASES", [case])
    assert doctor.main(["--json"]) == 1
    rows = [row for row in json.loads(capsys.readouterr().out)["selftest"] if row["op"] == "square"]
    assert all(not row["ok"] and row["error"] == pytest.approx(0.5, abs=0.01) for row in rows)


def test_not_a_number_and_exceptions_fail(bare, monkeypatch, capsys):
    def broken(x):
        raise RuntimeError("no kernel\nfor this type")

    shapes = {"maps": ((1, 2, 2, 2),), "oracle": torch.square}
    cases = [selftest.Case("nan", lambda x: x * torch.nan, **shapes), selftest.Case("broken", broken, **shapes)]
    monkeypatch.setattr(selftest, "CASES", cases)
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    assert text.count("FAIL, not a number") == 4
    assert text.count("FAIL, no kernel for this type") == 4


def test_a_build_that_was_asked_for_and_fails(bare, one_case, capsys):
    assert doctor.main(["--build"]) == 1
    text = capsys.readouterr().out
    assert "fused ops   no C++ compiler" in text
    assert "all self-tests ok\nbut not all of this machine" in text


def test_nothing_is_built_unless_asked_for(bare, one_case, monkeypatch, capsys):
    monkeypatch.setattr(build, "found", lambda cuda: None)
    monkeypatch.setattr(build, "library", lambda cuda: pytest.fail("built"))
    assert doctor.main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["library"]["state"] == "later"
    assert "--build" in report["library"]["problem"]
    assert {row["op"]: row["tier"] for row in report["tiers"]}["upfirdn2d"] == "ext"


def test_a_library_that_is_there_is_tested(bare, one_case, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(build, "found", lambda cuda: tmp_path / "x.so")
    monkeypatch.setattr(extension, "load", lambda: Extension(tmp_path / "x.so", False, None))
    monkeypatch.setattr(checkup, "choice", lambda op, device: ("ext", "measured faster"))
    monkeypatch.setattr(
        selftest, "check", lambda case, tier, *where: selftest.Outcome(case.op, tier, "cpu", "float32", 0.0, 1.0)
    )
    assert doctor.main(["--json", "--build"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["library"]["state"] == "loaded"
    assert report["library"]["seconds"] is None
    assert {row["tier"] for row in report["selftest"]} == {"native", "ext"}


def test_a_library_that_does_not_load(bare, one_case, monkeypatch, capsys, tmp_path):
    damaged = tmp_path / "x.so"
    damaged.write_text("not a library")
    monkeypatch.setattr(build, "found", lambda *_: damaged)
    assert doctor.main([]) == 1
    assert f"fused ops   {damaged} cannot be loaded" in capsys.readouterr().out


def test_a_tier_that_does_not_exist(bare, monkeypatch, capsys):
    monkeypatch.setenv("RTIL_OPS", "fast")
    assert doctor.main([]) == 2
    assert capsys.readouterr().err == "error: unknown RTIL_OPS tier 'fast': valid are ref, native, ext, auto\n"


def test_the_demanded_tier_cannot_be_had(bare, one_case, monkeypatch, capsys):
    monkeypatch.setenv("RTIL_OPS", "ext")
    assert doctor.main(["--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert {row["op"]: row["tier"] for row in report["tiers"]}["upfirdn2d"] is None


def test_paths_do_not_say_who_somebody_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    assert machine.short(f"see {tmp_path}/x/y and /opt/z") == "see ~/x/y and /opt/z"
    monkeypatch.chdir(tmp_path)
    assert machine.short(tmp_path / "x") == "./x"


def test_all_operations_are_tested_in_all_their_tiers():
    assert {case.op for case in selftest.CASES} == set(OPERATIONS)
    assert selftest.tiers_of("upfirdn2d", compiled=True) == ("native", "ext")
    assert selftest.tiers_of("conv2d", compiled=True) == ("native",)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_an_operation_that_is_wrong_in_one_layout_fails(layout):
    def wrong_there(x):
        return x * (2 if x.is_contiguous(memory_format=layout) else 1)

    case = selftest.Case("once", wrong_there, maps=((2, 3, 4, 4),), oracle=torch.clone)
    outcome = selftest.check(case, "native", "cpu", torch.float32)
    assert outcome.error == pytest.approx(1)
    assert not outcome.ok


def test_what_is_drawn_is_held_against_the_reference(monkeypatch):
    """In float64 to the accuracy of the draws, which are float32."""
    (case,) = [case for case in selftest.CASES if case.draws and case.op == "styled_tail"]
    good = selftest.check(case, "native", "cpu", torch.float64)
    assert good.ok
    assert good.limit == 1e-5
    right = ops.styled_tail

    def other_numbers(x, b, noise, **rest):
        return right(x, b, noise=ops.Drawn(noise.key + (os.environ["RTIL_OPS"] == "native")), **rest)

    monkeypatch.setattr(ops, "styled_tail", other_numbers)
    assert not selftest.check(case, "native", "cpu", torch.float64).ok


def test_a_gpu_gets_no_word_of_measurements(monkeypatch):
    monkeypatch.setenv("RTIL_OPS", "auto")
    monkeypatch.setattr(extension, "_outcome", Extension(Path("x.so"), True, None))
    reasons = {name: choice("styled_tail", torch.device(name)).reason for name in ("cpu", "cuda")}
    assert reasons == {"cpu": "measured faster", "cuda": "fewer passes over the map; not measured"}


def test_its_options_are_those_of_every_command(capsys):
    assert doctor.main(["--jsn"]) == 2
    assert "did you mean '--json'?" in capsys.readouterr().err
    assert doctor.main(["--build", "--dry_run"]) == 0
    assert capsys.readouterr().out.endswith("# test every operation, after compiling the fused ones\n")
