from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rtil.cli.eval import read_variant
from rtil.errors import UserError
from rtil.evaluation.candidates import (
    Budget,
    Candidate,
    candidates_of_methods,
    candidates_of_variants,
    overlaid,
    standard_settings,
)
from rtil.evaluation.conditions import Condition, conditions
from rtil.evaluation.held_out import heldout_pictures
from rtil.evaluation.jobs import Job, resolve
from rtil.evaluation.reconstruction import Reconstruction
from rtil.inverse.perceptual import Perceptual
from rtil.snapshot import load_snapshot

CPU = torch.device("cpu")


def _of(*methods: str, steps: int = 2, selection: Any = "measurement", **changes: Any) -> list[Candidate]:
    codes = changes.pop("codes", [20])
    settings = overlaid(standard_settings(), {name.replace("__", "."): value for name, value in changes.items()})
    return candidates_of_methods(methods or ["ilo", "csgm"], settings, Budget(steps=[steps], codes=codes), [selection])


def _jobs(
    run: Path,
    other: Path,
    candidates: Sequence[Candidate],
    measured: Sequence[Condition] | None = None,
    seed: int = 0,
    **changes: Any,
) -> list[Job]:
    measured = conditions(["cs", "inversion"], [0.1], [], []) if measured is None else measured
    pictures = heldout_pictures("synthetic", 16, "test", 2)
    experiment = Reconstruction(measured, pictures, CPU, seed=seed, **{"linear_data": "synthetic"} | changes)
    return resolve(experiment, candidates, {"a": load_snapshot(run), "b": load_snapshot(other)}, seed)


@pytest.fixture
def runs(make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path / "cache"))
    return make_run("0", rtil=False), make_run("1", rtil=True)


def test_the_list_is_complete_and_its_keys_are_unique(runs: tuple[Path, Path]) -> None:
    jobs = _jobs(*runs, _of())
    keys = [key for job in jobs for key in job.keys]
    assert len(keys) == len(set(keys)) == 2 * (2 * 2 + 1) * 2
    assert [job.method for job in jobs[:5]] == ["ilo", "ilo", "csgm", "csgm", "linear"]
    assert jobs[0].hash == jobs[1].hash, "checkpoints of one setting are compared with each other"


@pytest.mark.parametrize(
    ("candidates", "changes"),
    [
        ({"steps": 3}, {}),
        ({"ilo__geodesic_weight": 0.0}, {}),
        ({"ilo__precision": "bfloat16"}, {}),
        ({"selection": "last"}, {}),
        ({}, {"noise_sigma": 0.1}),
        ({}, {"seed": 1}),
    ],
)
def test_whatever_changes_a_result_changes_its_key(
    candidates: dict[str, Any],
    changes: dict[str, Any],
    runs: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rtil.devices.cpu_multiplies_bfloat16", lambda: False)
    before, after = _jobs(*runs, _of())[0].keys, _jobs(*runs, _of(**candidates), **changes)[0].keys
    assert not set(before) & set(after)


def test_precision_is_recorded_as_what_it_was(runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = []
    for fast in (False, True):
        monkeypatch.setattr("rtil.devices.cpu_multiplies_bfloat16", lambda fast=fast: fast)
        job = _jobs(*runs, _of())[0]
        assert job.record["precision"] == ("bfloat16" if fast else "float32")
        hashes.append(job.hash)
    assert len(set(hashes)) == 2


def test_codes_are_columns_and_marks_come_from_the_training(make_run: Callable[..., Path]) -> None:
    pair = (
        make_run("0", rtil=False, arch="pggan"),
        make_run("1", rtil=True, arch="pggan", branches="mixture", mixture_side=8),
    )
    jobs = _jobs(*pair, _of("ilo", "csgm", "mganprior", codes=[1, 3], mganprior__compose_side=4))
    assert len({key for job in jobs for key in job.keys}) == 2 * (2 * 4 + 1) * 2
    assert [(job.method, job.checkpoint, job.trained_otherwise) for job in jobs[:9]] == [
        ("ilo", "a", False),
        ("ilo", "b", True),
        ("csgm", "a", False),
        ("csgm", "b", False),
        ("mganprior-1", "a", False),
        ("mganprior-1", "b", True),
        ("mganprior-3", "a", False),
        ("mganprior-3", "b", True),
        ("linear", "-", False),
    ]
    for side in (8, None):  # where the RTIL checkpoint was trained to mix
        at_its_side = _jobs(*pair, _of("mganprior", codes=[3], mganprior__compose_side=side))
        assert [job.trained_otherwise for job in at_its_side[:2]] == [False, False]
        assert at_its_side[0].record["compose_side"] == 8


class _Term(Perceptual):
    """A perceptual term without weights, for pictures of 16 pixels or more."""

    def __init__(self, name: str, compute_dtype: torch.dtype = torch.float32) -> None:
        torch.nn.Module.__init__(self)
        self.name = "lpips"

    def distance(self, x: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        return (x - reference).abs().flatten(1).mean(1)


@pytest.fixture
def _weightless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtil.inverse.perceptual.Perceptual", _Term)


@pytest.mark.usefixtures("_weightless")
def test_a_perceptual_term_has_its_conditions(runs: tuple[Path, Path]) -> None:
    term = {"mganprior__perceptual": "lpips", "mganprior__perceptual_weight": 0.7}
    cs, inversion = (job for job in _jobs(*runs, _of("mganprior", **term)) if job.checkpoint == "a")
    assert "perceptual" not in cs.record
    assert (inversion.record["perceptual"], inversion.record["perceptual_weight"]) == ("lpips", 0.7)
    plain = _jobs(*runs, _of("mganprior"))[0]
    assert plain.hash == cs.hash
    with pytest.raises(UserError, match=r"'lpips' needs pictures of at least 16 pixels a side, .*are 8x8: use vgg or"):
        _jobs(*runs, _of("mganprior", **term), conditions(["sr"], [], [2], []))


@pytest.mark.usefixtures("_weightless")
def test_a_term_that_a_policy_leaves_out_is_not_recorded_and_needs_no_size(runs: tuple[Path, Path]) -> None:
    scarce = conditions(["sr", "inpaint"], [0.25], [16], [])  # at x16 a measurement has one pixel
    jobs = _jobs(*runs, _of("ilo", ilo__perceptual="lpips", ilo__policy="paper"), scarce)
    assert not any("perceptual" in job.record for job in jobs)
    plain = _jobs(*runs, _of("ilo"), scarce)
    assert [job.hash for job in jobs] == [job.hash for job in plain]
    half = conditions(["inpaint"], [0.25, 0.5], [], [])
    used = _jobs(*runs, _of("ilo", ilo__perceptual="lpips", ilo__policy="paper"), half)
    assert ["perceptual" in job.record for job in used if job.checkpoint == "a"] == [False, True]
    table = {"always": {"perceptual": "lpips"}}
    variants = candidates_of_variants(table, standard_settings(), Budget(steps=[2]), ["last"], read_variant)
    with pytest.raises(UserError, match=r"^variant 'always': perceptual term 'lpips' needs pictures of at least 16"):
        _jobs(*runs, variants, scarce)


def test_variants_have_their_own_settings(make_run: Callable[..., Path]) -> None:
    pair = make_run("0", rtil=False), make_run("1", rtil=True, branches="mixture", mixture_side=4)
    table = {
        "plain": {},
        "held": {"selection": "heldout"},
        "alone": {"method": "csgm", "geodesic_weight": 0.0},
        "deep": {"steps": [3, 2]},
    }
    variants = candidates_of_variants(table, standard_settings(), Budget(steps=[2]), ["measurement"], read_variant)
    jobs = _jobs(*pair, variants)
    keys = [key for job in jobs for key in job.keys]
    assert len(keys) == len(set(keys)) == 2 * (4 * 2 + 1) * 2
    assert [job.method for job in jobs[:9:2]] == [*table, "linear"]
    assert [job.selection for job in jobs[:4]] == ["measurement"] * 2 + ["heldout"] * 2
    marked = {job.method for job in jobs if job.trained_otherwise}
    assert marked == {"plain", "held", "deep"}, "by the method, not by the name"
    assert {job.method: job.record["steps"] for job in jobs if job.settings}["deep"] == [3, 2]
    without_names = _jobs(*pair, _of("ilo"))
    assert without_names[0].hash == jobs[0].hash


def test_baselines_are_where_an_operator_has_them(runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage")
    here = conditions(["sr", "cs", "phase"], [0.1], [2], [], exposures=[2])
    jobs = _jobs(*runs, _of("csgm"), here, baselines=["tv", "bicubic", "bm3d"])
    assert [(job.condition.task, job.method, job.checkpoint) for job in jobs if job.settings is None] == [
        *(("sr", name, "-") for name in ("tv", "bicubic", "linear")),
        *(("cs", name, "-") for name in ("tv", "linear")),
    ]

    def missing(*names: str) -> None:
        raise UserError("bm3d needs packages that are not installed")

    monkeypatch.setattr("rtil.baselines.block_matching.baseline_package", missing)
    _jobs(*runs, _of("csgm"), here, baselines=["bm3d"])  # opened only where it is used
    with pytest.raises(UserError, match="not installed"):
        _jobs(*runs, _of("csgm"), conditions(["denoise"], [], [], [25.0]), baselines=["bm3d"])
