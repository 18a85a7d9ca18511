from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ilo import ILO
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
from rtil.evaluation.held_out import HeldOutPictures, heldout_pictures
from rtil.evaluation.jobs import Job, resolve
from rtil.evaluation.linear_prior import LinearPrior
from rtil.evaluation.metrics import psnr
from rtil.evaluation.reconstruction import Oracle, Reconstruction
from rtil.evaluation.rows import Row, RowFile
from rtil.evaluation.runner import Runner
from rtil.inverse.operators import make_operator
from rtil.inverse.registry import solver_class
from rtil.inverse.result import Inversion
from rtil.snapshot import Snapshot, load_snapshot


def _of(budget: Budget, *methods: str, **changes: Any) -> list[Candidate]:
    settings = overlaid(standard_settings(), {name.replace("__", "."): value for name, value in changes.items()})
    return candidates_of_methods(methods, settings, budget, ["measurement"])


def _prior() -> LinearPrior:
    return LinearPrior.fit(heldout_pictures("synthetic", 16, "validation", 40).images)


@dataclass(frozen=True)
class Study:
    """What an evaluation is of."""

    conditions: list[Condition]
    candidates: list[Candidate]
    checkpoints: dict[str, Snapshot]
    pictures: HeldOutPictures
    options: dict[str, Any] = field(default_factory=lambda: {"linear_data": "synthetic"})

    def experiment(self, prior: Callable[[], LinearPrior] = _prior) -> Reconstruction:
        own = {"lpips": None, "fit_linear_prior": prior} | self.options
        return Reconstruction(self.conditions, self.pictures, torch.device("cpu"), **own)

    def jobs(self) -> list[Job]:
        return resolve(self.experiment(), self.candidates, self.checkpoints, seed=0)

    def runner(self, folder: Path, prior: Callable[[], LinearPrior] = _prior, batch: int | None = None) -> Runner:
        return Runner(self.experiment(prior), self.jobs(), self.checkpoints, folder, batch=batch)


@pytest.fixture
def study(make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path / "cache"))
    return Study(
        conditions=conditions(["cs", "sr"], [0.1], [2], []),
        candidates=_of(Budget(steps=[3, 2]), "ilo"),
        checkpoints={
            "vanilla": load_snapshot(make_run("0", rtil=False, weights=1)),
            "rtil": load_snapshot(make_run("1", rtil=True, weights=2)),
        },
        pictures=heldout_pictures("synthetic", 16, "test", 3),
    )


def _results(rows: list[Row]) -> dict[object, str]:
    """All but the seconds; as text, in which NaN equals NaN."""
    return {row.key: repr(replace(row, seconds=0)) for row in rows}


@pytest.fixture
def straight(study: Study, tmp_path: Path) -> list[Row]:
    (tmp_path / "straight").mkdir()
    return study.runner(tmp_path / "straight", _prior, batch=2).run()


def test_rows_say_what_the_pictures_are_worth(study: Study, straight: list[Row], tmp_path: Path) -> None:
    assert {row.key for row in straight} == {key for item in study.jobs() for key in item.keys}
    truth = study.pictures.images.float() / 255
    for row in straight:
        if row.method == "linear":
            assert row.psnr_oracle != row.psnr_oracle
            assert row.psnr_round == ()
            continue
        assert len(row.psnr_round) == 2
        assert row.psnr == pytest.approx(row.psnr_round[-1], abs=1e-4)
        assert row.psnr_oracle >= max(row.psnr_round) - 1e-4
        assert row.seconds > 0
    item = study.jobs()[0]
    operator = item.condition.operator(16, 0)
    x = (
        solver_class("ilo")(study.checkpoints["vanilla"].generator, item.settings)
        .invert(operator(truth, study.pictures.keys), operator, study.pictures.keys)
        .x
    )
    got = [row.psnr for row in straight if row.key in item.keys]
    assert got == pytest.approx(psnr(x, truth).tolist(), abs=1e-3)


def test_colorization_keeps_the_luma(study: Study, tmp_path: Path) -> None:
    options = Budget(steps=[3, 2])
    coloured = replace(study, conditions=conditions(["colorize"], [], [], []), candidates=_of(options, "ilo", "csgm"))
    rows = coloured.runner(tmp_path, _prior).run()
    assert {row.method for row in rows} == {"ilo", "csgm", "linear"}
    for row in rows:
        assert row.measurement_error < 1e-10
        if row.method != "linear":
            assert row.psnr == pytest.approx(row.psnr_round[-1], abs=1e-4)
            assert row.psnr_oracle >= max(row.psnr_round) - 1e-4


def test_the_linear_prior_is_for_linear_tasks_only(study: Study, tmp_path: Path) -> None:
    tasks = ["blur", "motion", "gaussian", "mri", "fourier", "phase"]
    found = conditions(tasks, [0.25], [], [], None, widths=[1.0], lengths=[5.0], exposures=[2])
    csgm = _of(Budget(steps=[3, 2]), "csgm")
    rows = (
        replace(study, conditions=found, candidates=csgm, options={"linear_data": "synthetic", "noise_sigma": 0.01})
        .runner(tmp_path, _prior)
        .run()
    )
    for task in tasks:
        methods = {row.method for row in rows if row.task == task}
        assert methods == ({"csgm"} if task == "phase" else {"csgm", "linear"})
        assert all(row.psnr == row.psnr for row in rows if row.task == task)
    linear = {task: sum(r.psnr for r in rows if r.task == task and r.method == "linear") / 3 for task in tasks[:-1]}
    assert min(linear.values()) > 15, "of pictures whose own variance is at about 11 dB"
    replace(study, conditions=found, candidates=csgm, options={"linear_data": "synthetic", "noise_sigma": 0.01}).runner(
        tmp_path, _prior
    ).write_grids()
    assert len(list(tmp_path.glob("grid-*.png"))) == 6


def test_architectures_and_all_methods_in_one_evaluation(
    study: Study, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    mixed = replace(
        study,
        candidates=_of(Budget(steps=[2], rounds=2, codes=[3]), "csgm", "ilo", "mganprior"),
        checkpoints={
            **study.checkpoints,
            "pg": load_snapshot(make_run("2", rtil=False, arch="pggan")),
            "pg-rtil": load_snapshot(make_run("3", rtil=True, arch="pggan", branches="mixture", mixture_side=4)),
        },
        options={},
    )
    rows = mixed.runner(tmp_path, _prior).run()
    assert len(rows) == 2 * 3 * 4 * 3
    assert all(row.psnr == row.psnr and row.status == "ok" for row in rows)
    assert {(row.checkpoint, row.arch, row.rtil) for row in rows} == {
        ("vanilla", "stylegan2", False),
        ("rtil", "stylegan2", True),
        ("pg", "pggan", False),
        ("pg-rtil", "pggan", True),
    }
    marked = {(row.method, row.checkpoint) for row in rows if row.trained_otherwise}
    assert marked == {("mganprior-3", "rtil"), ("ilo", "pg-rtil")}
    assert len(mixed.runner(tmp_path, _prior).write_grids()) == 2 * 3


@pytest.mark.parametrize(("eps", "expected"), [(1e-9, False), (9.0, True)])
def test_rows_of_pulse_say_whether_they_converged(eps: float, expected: bool, study: Study, tmp_path: Path) -> None:
    chosen = replace(study, candidates=_of(Budget(steps=[2]), "pulse", "csgm", pulse__eps=eps))
    chosen.runner(tmp_path, _prior).run()
    rows = RowFile(tmp_path / "rows.jsonl").rows()
    assert {row.method: row.converged for row in rows} == {"pulse": expected, "csgm": None, "linear": None}


def test_the_oracle_keeps_the_best_iterate_and_its_time() -> None:
    truth = torch.full((2, 3, 16, 16), 0.5)
    operator = make_operator("inversion", (3, 16, 16))
    oracle = Oracle(truth, operator, truth)
    for step, offset in enumerate((0.3, 0.1, 0.2)):
        oracle(0, step, truth + torch.tensor([offset, 0.4 - offset]).view(2, 1, 1, 1))
    assert oracle.best.tolist() == pytest.approx([20.0, 20.0], abs=1e-3)
    assert 0 < oracle.stopwatch.seconds < 1


def test_variants_and_baselines_stand_side_by_side(study: Study, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    variants: dict[str, dict[str, Any]] = {
        "short": {},
        "noisy": {"sna_sigma": "known"},
        "sparse": {"alternations": 1, "sparse_latent_steps": 2, "selection": "last"},
    }

    def of_variants(table: dict[str, dict[str, Any]]) -> list[Candidate]:
        return candidates_of_variants(table, standard_settings(), Budget(steps=[2]), ["measurement"], read_variant)

    chosen = replace(
        study,
        conditions=conditions(["denoise"], [], [], [25.0]),
        candidates=of_variants(variants),
        options={"linear_data": "synthetic", "baselines": ["adjoint", "tv"]},
    )
    rows = chosen.runner(tmp_path, _prior).run()
    assert len(rows) == (3 * 2 + 3) * 3
    assert {(row.method, row.checkpoint, row.selection) for row in rows if row.checkpoint == "-"} == {
        (name, "-", "-") for name in ("adjoint", "tv", "linear")
    }
    truth, keys = study.pictures.images.float() / 255, study.pictures.keys
    operator = chosen.conditions[0].operator(16, 0)
    expected = psnr(operator(truth, keys).clamp(0, 1), truth)  # the adjoint of denoising
    assert [row.psnr for row in rows if row.method == "adjoint"] == pytest.approx(expected.tolist(), abs=1e-4)
    values = {name: [row.psnr for row in rows if row.method == name] for name in variants}
    assert values["short"] != values["noisy"]
    with_more = replace(chosen, candidates=of_variants(variants | {"long": {"selection": "last"}}))
    assert len(with_more.runner(tmp_path, _prior).run()) == len(rows) + 2 * 3
    paths = with_more.runner(tmp_path, _prior).write_grids()
    assert [path.name for path in paths] == ["grid-denoise-25-vanilla.png", "grid-denoise-25-rtil.png"]
    with Image.open(paths[0]) as grid:
        assert grid.width == (2 + 4 + 3) * (96 + 4) + 4


def test_an_interrupted_run_goes_on_to_the_same_rows(
    study: Study, straight: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "interrupted"
    folder.mkdir()
    runner = study.runner(folder, _prior, batch=2)
    save, batches = runner._save, []

    def save_until_interrupted(*arguments: object) -> None:
        batches.append(arguments)
        if len(batches) == 4:
            raise KeyboardInterrupt
        save(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "_save", save_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.run()
    kept = (folder / "rows.jsonl").read_text()
    assert kept.count("\n") == 5
    rows = study.runner(folder, _prior, batch=2).run()
    assert (folder / "rows.jsonl").read_text().startswith(kept)
    assert _results(rows) == _results(straight)


def test_finished_rows_are_not_computed_again(study: Study, straight: list[Row], tmp_path: Path) -> None:
    def no_prior() -> LinearPrior:
        pytest.fail("everything is finished")

    assert _results(study.runner(tmp_path / "straight", no_prior).run()) == _results(straight)
    more = replace(study, pictures=heldout_pictures("synthetic", 16, "test", 4))
    assert len(more.runner(tmp_path / "straight", _prior).run()) == len(straight) * 4 // 3


def test_kept_pictures_are_the_very_bytes(study: Study, tmp_path: Path) -> None:
    pictures = heldout_pictures("synthetic", 16, "test", 12)
    options = {"baselines": ["adjoint"], "kept": 2}
    alone = replace(study, conditions=conditions(["inversion"], [], [], []), pictures=pictures, options=options)
    alone.runner(tmp_path, _prior).run()
    assert {len(list(folder.iterdir())) for folder in (tmp_path / "pictures").iterdir()} == {8}, "those of the grids"
    (tmp_path / "all").mkdir()
    replace(alone, options=alone.options | {"kept": 12}).runner(tmp_path / "all", _prior).run()
    for name in ("truth", "inversion_adjoint"):
        (folder,) = (tmp_path / "all/pictures").glob(f"{name}*")
        found = [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
        assert np.array_equal(np.stack(found), alone.pictures.images.permute(0, 2, 3, 1).numpy()), "nothing is rescaled"


def test_the_grid_shows_what_was_reconstructed(study: Study, straight: list[Row], tmp_path: Path) -> None:
    paths = study.runner(tmp_path / "straight", _prior).write_grids()
    assert [path.name for path in paths] == ["grid-cs-0.1-ilo.png", "grid-sr-2-ilo.png"]
    with Image.open(paths[0]) as grid:
        columns, rows = 5, 3
        assert grid.width == columns * (96 + 4) + 4
        assert grid.height == 22 + rows * (96 + 4)
        corner = torch.tensor(grid.convert("RGB").getpixel((4, 22)))
    assert torch.equal(corner, study.pictures.images[0, :, 0, 0])


def test_a_full_memory_halves_the_batch(
    study: Study, straight: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    invert = ILO.invert

    def only_two_fit(self: ILO, y: torch.Tensor, *args: object, **options: object) -> Inversion:
        if len(y) > 2:
            raise torch.OutOfMemoryError
        return invert(self, y, *args, **options)

    monkeypatch.setattr(ILO, "invert", only_two_fit)
    five = replace(study, pictures=heldout_pictures("synthetic", 16, "test", 5))
    rows = five.runner(tmp_path, _prior, batch=5).run()
    assert len(rows) == 5 * len(straight) // 3
    assert "5 pictures at a time: going on with 2" in caplog.text
    assert len(caplog.records) == 1


def test_a_memory_too_small_for_one_picture_is_said(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_fits(self: ILO, *args: object, **options: object) -> Inversion:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(ILO, "invert", nothing_fits)
    with pytest.raises(UserError, match="not enough memory for one picture of 16 px"):
        study.runner(tmp_path, _prior).run()
