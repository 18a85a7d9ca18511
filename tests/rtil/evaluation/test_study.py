from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rtil.data import open_dataset
from rtil.errors import UserError
from rtil.evaluation.candidates import Candidate, Variant, candidates_of_methods, candidates_of_variants
from rtil.evaluation.methods import SolverOptions
from rtil.evaluation.study import Study, fit_linear_prior, heldout_pictures, heldout_source, places
from rtil.inverse.perceptual import Perceptual
from rtil.inverse.solver import Selection
from rtil.snapshot import load_snapshot

SYNTHETIC = {"data": "synthetic"}


def test_places_are_tasks_at_their_own_levels() -> None:
    found = places(["cs", "sr", "denoise", "inversion"], [0.05, 0.1], [2, 4], [25.0])
    assert [(place.task, place.level) for place in found] == [
        ("cs", 0.05),
        ("cs", 0.1),
        ("sr", 2),
        ("sr", 4),
        ("denoise", 25.0),
        ("inversion", None),
    ]
    assert [place.slug for place in found] == ["cs-0.05", "cs-0.1", "sr-2", "sr-4", "denoise-25", "inversion"]


def test_every_task_has_its_option() -> None:
    tasks = ["blur", "motion", "gaussian", "mri", "fourier", "phase"]
    found = places(tasks, [0.1], [], [], None, widths=[1.5], lengths=[9.0], exposures=[2, 4])
    labels = ["blur 1.5 px", "motion 9 px", "gaussian 10 %", "mri 10 %", "fourier 10 %", "phase 2 masks"]
    assert [place.label for place in found] == [*labels, "phase 4 masks"]
    assert [place.operator(16, 0).label for place in found] == [place.label for place in found]
    for task, option in (("blur", "--widths"), ("motion", "--lengths"), ("phase", "--exposures")):
        with pytest.raises(UserError, match=f"task '{task}' has no level: give {option}$"):
            places([task], [0.1], [4], [25.0])


def test_a_mask_takes_the_place_of_rates(tmp_path: Path) -> None:
    Image.new("1", (16, 16), 1).save(tmp_path / "half face.png")
    (place,) = places(["inpaint"], [0.1, 0.2], [], [], str(tmp_path / "half face.png"))
    assert (place.level, place.slug) == ("half face", "inpaint-half_face")
    before = place.settings()
    Image.new("1", (16, 16), 0).save(tmp_path / "half face.png")
    assert place.settings() != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["css"], [0.1], [4], [25]), "did you mean 'cs'"),
        ((["cs"], [], [4], [25]), "give --rates"),
        ((["cs"], [0.1, 0.1], [4], [25]), "each once"),
        (([], [0.1], [4], [25]), "at least one"),
        ((["cs"], [0.1], [4], [25], "m.png"), "not used by task cs"),
    ],
)
def test_places_that_are_not_valid(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        places(*arguments)


def test_operators_differ_by_seed_and_level_and_repeat_exactly() -> None:
    x = torch.rand(1, 3, 16, 16)
    five, ten = places(["cs"], [0.05, 0.1], [], [])
    y = ten.operator(16, seed=3).A(x)
    assert torch.equal(ten.operator(16, seed=3).A(x), y)
    assert not torch.equal(ten.operator(16, seed=4).A(x), y)
    assert not set(five.operator(16, 3).A(x).flatten().tolist()) & set(y.flatten().tolist())


def test_pictures_are_a_fixed_choice_of_the_heldout_set() -> None:
    few, many = (heldout_pictures("synthetic", 16, "test", n) for n in (3, 5))
    assert few.keys == many.keys[:3]
    assert torch.equal(few.images, many.images[:3])
    ds = open_dataset("synthetic", 16, "test")
    index = int(few.keys[0].rpartition("-")[2])
    assert torch.equal(few.images[0], ds[index])
    with pytest.raises(UserError, match="valid is 1 to 1000"):
        heldout_pictures("synthetic", 16, "test", 1001)


def test_heldout_pictures_were_never_trained_on(tmp_path: Path) -> None:
    train = {"data": str(tmp_path / "train")}
    assert heldout_source([SYNTHETIC, SYNTHETIC], None, None) == ("synthetic", "test")
    assert heldout_source([SYNTHETIC], None, "validation") == ("synthetic", "validation")
    assert heldout_source([train], None, None) == (train["data"], "validation")
    assert heldout_source([train], "other.zip", None) == ("other.zip", "test")
    assert heldout_source([train, SYNTHETIC], "other.zip", "validation") == ("other.zip", "validation")
    detour = f"{tmp_path}/x/../train"
    assert heldout_source([train], detour, None) == (detour, "validation")
    with pytest.raises(UserError, match="holds the training pictures"):
        heldout_source([train], detour, "test")
    with pytest.raises(UserError, match=r"different data .*give --data"):
        heldout_source([train, SYNTHETIC], None, None)


def _of(
    options: SolverOptions, methods: Sequence[str] = ("ilo", "csgm"), selection: Selection = "measurement"
) -> list[Candidate]:
    return candidates_of_methods(options, methods, [selection])


def _study(run: Path, other: Path, **changes: Any) -> Study:
    study = Study(
        places=places(["cs", "inversion"], [0.1], [], []),
        candidates=_of(SolverOptions(steps=[2])),
        checkpoints={"a": load_snapshot(run), "b": load_snapshot(other)},
        pictures=heldout_pictures("synthetic", 16, "test", 2),
    )
    return replace(study, **changes)


def test_the_work_list_is_complete_and_its_keys_are_unique(make_run: Callable[..., Path]) -> None:
    study = _study(make_run("0", rtil=False), make_run("1", rtil=True))
    work = study.work()
    keys = [key for item in work for key in item.keys]
    assert len(keys) == len(set(keys)) == 2 * (2 * 2 + 1) * 2
    assert [item.method for item in work[:5]] == ["ilo", "ilo", "csgm", "csgm", "linear"]
    assert work[0].settings == work[1].settings, "checkpoints of one setting are compared with each other"


@pytest.mark.parametrize(
    "changes",
    [
        {"candidates": _of(SolverOptions(steps=[3]))},
        {"candidates": _of(SolverOptions(steps=[2], geodesic_weight=0))},
        {"candidates": _of(SolverOptions(steps=[2]), selection="last")},
        {"noise_sigma": 0.1},
        {"seed": 1},
    ],
)
def test_whatever_changes_a_result_changes_its_key(changes: dict[str, Any], make_run: Callable[..., Path]) -> None:
    runs = make_run("0", rtil=False), make_run("1", rtil=True)
    before, after = _study(*runs).work()[0].keys, _study(*runs, **changes).work()[0].keys
    assert not set(before) & set(after)


def test_checkpoints_of_different_resolutions_are_refused(make_run: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"a 16 px, b 32 px"):
        _study(make_run("0", rtil=False), make_run("1", rtil=True, resolution=32))


def test_codes_are_series_and_marks_come_from_the_training(make_run: Callable[..., Path]) -> None:
    study = _study(
        make_run("0", rtil=False, arch="pggan"),
        make_run("1", rtil=True, arch="pggan", branches="mixture", mixture_side=8),
        candidates=_of(SolverOptions(steps=[2], codes=[1, 3], compose_side=4), ["ilo", "csgm", "mganprior"]),
    )
    work = study.work()
    assert len({key for item in work for key in item.keys}) == 2 * (2 * 4 + 1) * 2
    here = [(item.method, item.checkpoint, item.mixes_differently) for item in work[:9]]
    assert here == [
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
    options = SolverOptions(steps=[2], codes=[3], compose_side=8)
    at_its_side = replace(study, candidates=_of(options, ["ilo", "csgm", "mganprior"])).work()
    assert [item.mixes_differently for item in at_its_side[4:6]] == [False, False]


class _Term(Perceptual):
    """A perceptual term without weights, for pictures of 16 pixels or more."""

    def __init__(self, name: str, compute_dtype: torch.dtype) -> None:
        torch.nn.Module.__init__(self)
        self.name = "lpips"

    def distance(self, x: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        return (x - reference).abs().flatten(1).mean(1)


def test_a_perceptual_term_has_its_places(make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtil.evaluation.methods.Perceptual", _Term)
    runs = make_run("0", rtil=False), make_run("1", rtil=True)
    options = SolverOptions(steps=[2], perceptual="lpips", perceptual_weight=0.7)
    study = _study(*runs, candidates=_of(options, ["mganprior"]))
    cs, inversion = (item for item in study.work() if item.checkpoint == "a")
    assert (cs.arguments["perceptual"], inversion.arguments["perceptual"]) == ("none", "lpips")
    assert study.solver(cs).perceptual is None  # type: ignore[attr-defined]
    assert isinstance(study.solver(inversion).perceptual, _Term)  # type: ignore[attr-defined]
    assert study.solver(inversion).perceptual is study.solver(inversion).perceptual  # type: ignore[attr-defined]
    plain = _study(*runs, candidates=_of(SolverOptions(steps=[2]), ["mganprior"]))
    assert plain.solver(plain.work()[0]).perceptual is None  # type: ignore[attr-defined]
    assert plain.work()[0].settings == cs.settings
    with pytest.raises(UserError, match=r"'lpips' needs pictures of at least 16 pixels a side, .*are 8x8: use vgg or"):
        replace(study, places=places(["sr"], [], [2], []))


def test_a_term_that_a_policy_leaves_out_needs_no_size(
    make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtil.evaluation.methods.Perceptual", _Term)
    runs = make_run("0", rtil=False), make_run("1", rtil=True)
    scarce = places(["sr", "inpaint"], [0.25], [16], [])  # at x16 a measurement has one pixel
    options = SolverOptions(steps=[2], ilo_perceptual="lpips", policy="paper")
    study = _study(*runs, candidates=_of(options, ["ilo"]), places=scarce)
    items = [item for item in study.work() if item.candidate]
    assert not any(study.has_perceptual_term(item) for item in items)
    assert all(study.solver(item).perceptual is None for item in items)  # type: ignore[attr-defined]
    used = replace(study, places=places(["inpaint"], [0.25, 0.5], [], []))
    assert [used.has_perceptual_term(item) for item in used.work() if item.checkpoint == "a"] == [False, True]
    always = _of(replace(options, policy="always"), ["ilo"])
    with pytest.raises(UserError, match="pixels a side, but the measurements are 1x1"):
        replace(study, candidates=always)
    with pytest.raises(UserError, match=r"^variant 'always': perceptual term 'lpips' needs"):
        replace(study, candidates=[c._replace(series=c.series._replace(name="always")) for c in always])


def test_variants_have_their_own_settings_and_networks(
    make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(
        "rtil.evaluation.methods.Perceptual", lambda name, dtype: opened.append(name) or _Term(name, dtype)
    )
    runs = make_run("0", rtil=False), make_run("1", rtil=True, branches="mixture", mixture_side=4)
    options = SolverOptions(steps=[2])
    chosen = {
        "plain": Variant("ilo", options, ["measurement"]),
        "held": Variant("ilo", options, ["heldout"]),
        "alone": Variant("csgm", replace(options, ilo_perceptual="lpips", measurement_weight=0.0), ["measurement"]),
        "both": Variant("csgm", replace(options, ilo_perceptual="lpips"), ["measurement"]),
        "features": Variant("ilo", replace(options, steps=[3, 2], ilo_perceptual="vgg"), ["measurement"]),
    }
    study = _study(*runs, candidates=candidates_of_variants(chosen))
    work = study.work()
    keys = [key for item in work for key in item.keys]
    assert len(keys) == len(set(keys)) == 2 * (5 * 2 + 1) * 2
    assert [item.method for item in work[:11:2]] == [*chosen, "linear"]
    assert [item.selection for item in work[:4]] == ["measurement"] * 2 + ["heldout"] * 2
    marked = {item.method for item in work if item.mixes_differently}
    assert marked == {"plain", "held", "features"}, "by the method, not by the name"
    solvers: dict[str, Any] = {i.method: study.solver(i) for i in work if i.place.task == "inversion" and i.candidate}
    assert solvers["features"].steps == (3, 2)
    assert solvers["plain"].perceptual is None
    assert solvers["alone"].perceptual is solvers["both"].perceptual is not solvers["features"].perceptual
    assert sorted(opened) == ["lpips", "vgg"]
    without_names = _study(*runs, candidates=_of(options, ["ilo"])).work()
    assert without_names[0].settings == work[0].settings


def test_baselines_are_where_an_operator_has_them(
    make_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("skimage")
    runs = make_run("0", rtil=False), make_run("1", rtil=True)
    here = places(["sr", "cs", "phase"], [0.1], [2], [], exposures=[2])
    study = _study(*runs, places=here, baselines=["tv", "bicubic", "bm3d"])
    assert [study.baselines_at(place) for place in here] == [["tv", "bicubic"], ["tv"], []]
    assert set(study.reconstructions) == {"tv", "bicubic"}, "bm3d is opened only where it is used"
    found = [(i.place.task, i.method, i.checkpoint) for i in study.work() if i.candidate is None]
    assert found == [
        *(("sr", name, "-") for name in ("tv", "bicubic", "linear")),
        *(("cs", name, "-") for name in ("tv", "linear")),
    ]
    with pytest.raises(UserError, match=r"unknown baseline 'bicubi'.*did you mean 'bicubic'"):
        replace(study, baselines=["bicubi"])

    def missing(*names: str) -> None:
        raise UserError("bm3d needs packages that are not installed")

    monkeypatch.setattr("rtil.baselines.block_matching.baseline_package", missing)
    with pytest.raises(UserError, match="not installed"):
        replace(study, places=places(["denoise"], [], [], [25.0]))


def test_the_linear_prior_is_that_of_the_training_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "faces"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(20):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{n}.png")
    prior = fit_linear_prior({"data": str(folder), "resolution": 16, "seed": 0}, resolution=8)
    train = open_dataset(str(folder), 8, "train")
    expected = torch.stack([train[n] for n in range(len(train))]).double().mean(0) / 255
    assert len(train) == 19
    torch.testing.assert_close(prior.mean.view(3, 8, 8), expected)
