"""Tuning: never on test pictures, the same budget for all, repeatable after a kill, and it finds what is good."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rtil.cli.comparison import open_evaluation
from rtil.cli.study import main
from rtil.errors import UserError
from rtil.study.reading import read_study
from rtil.study.runs import candidates
from rtil.study.tuning import Trial, Tuning, check_disjoint, read_trials, write_trials
from tests.rtil.study.conftest import PAIR, SMALL

RANGE = {"ilo": {"lr": {"low": 0.01, "high": 1.0, "log": True}, "noise": {"choices": ["5+2k", "none"]}}}
TUNE = {"evaluations": ["cs"], "trials": 6, "images": 2, "settings": RANGE}


@pytest.fixture
def tuning(write_study: Callable[..., Path]) -> Callable[..., Tuning]:
    pytest.importorskip("optuna", reason="needs the extra 'study'")

    def make(out: str = "s", **changes: Any) -> Tuning:
        study = read_study(str(write_study(tune=TUNE | changes)))
        return Tuning(study, candidates(study)[0], Path(out), set(), {"device": "cpu"})

    return make


def test_pictures_of_the_test_are_refused_under_any_name(
    write_study: Callable[..., Path], make_pictures: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    test = make_pictures(Path("test"), 4, 16)
    shutil.copytree(test, "others")
    for number, path in enumerate(sorted(Path("others").iterdir())):
        with Image.open(path) as picture:
            picture.save(f"others/renamed-{number}.bmp")  # another name and file, the same pixels
        path.unlink()
    cs = {"task": ["cs"], "rates": [0.5], "data": "test", **SMALL}
    path = write_study(evaluations={"cs": cs}, tune=TUNE | {"data": "others", "split": "test"})
    assert main([str(path), "--out", "s", "--device", "cpu"]) == 2
    assert "pictures to tune on are test pictures (first: 'renamed-" in capsys.readouterr().err
    assert not Path("s").exists()
    with Image.open("others/renamed-1.bmp") as picture:
        changed = picture.convert("RGB")
    for path_ in Path("others").iterdir():
        changed.putpixel((0, 0), (int(path_.stem[-1]), 0, 0))
        changed.save(path_)
    assert main([str(path), "--out", "s", "--device", "cpu", "--dry_run"]) == 0


def test_the_same_split_is_refused(write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write_study(tune=TUNE | {"split": "test"})), "--out", "s", "--device", "cpu"]) == 2
    assert "2 of 2 pictures to tune on are test pictures" in capsys.readouterr().err


def test_content_is_compared_not_names(write_study: Callable[..., Path]) -> None:
    study = read_study(str(write_study()))
    test = open_evaluation(study.options("cs", checkpoints=PAIR, device="cpu"))
    validation = open_evaluation(study.options("cs", checkpoints=PAIR, device="cpu", split="validation"))
    check_disjoint(validation, set(test.content), "here")
    with pytest.raises(UserError, match="3 of 3 pictures"):
        check_disjoint(test, set(test.content), "here")


def test_trials_are_the_same_after_a_stop(tuning: Callable[..., Tuning]) -> None:
    whole = tuning("straight").run().trials
    for number in (2, 5, 6):
        kept = whole[:number]
        stopped = tuning(f"after-{number}")
        write_trials(stopped.folder, stopped._key(), kept)
        found = stopped.run().trials
        assert [(trial.by, trial.settings) for trial in found] == [(trial.by, trial.settings) for trial in whole]
        assert [trial.psnr for trial in found] == pytest.approx([trial.psnr for trial in whole], abs=1e-9)
    assert (whole[0].by, whole[0].settings, {trial.by for trial in whole[1:]}) == ("own", {}, {"tpe"})
    assert all(0.01 <= trial.settings["lr"] <= 1 for trial in whole[1:])
    assert len({json.dumps(trial.settings) for trial in whole}) == 6


def test_trials_of_other_ranges_weights_or_pictures_do_not_count(tuning: Callable[..., Tuning]) -> None:
    first = tuning()
    first.run()
    assert len(read_trials(first.folder, first._key())) == 6
    wider = {"ilo": RANGE["ilo"] | {"lr": {"low": 0.01, "high": 2.0}}}
    for changes in ({"settings": wider}, {"images": 3}):
        assert read_trials(first.folder, tuning(**changes)._key()) == []
    assert len(read_trials(first.folder, tuning(trials=9)._key())) == 6


def test_it_comes_near_the_best_of_a_known_function(
    tuning: Callable[..., Tuning], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Found:
        seconds = 1.0

        def __init__(self, psnr: float) -> None:
            self.psnr = psnr

    def rows(self: Tuning, settings: dict[str, Any]) -> list[Found]:
        lr, noise = settings.get("lr", 0.1), settings.get("noise", "5+2k")
        return [Found(30 - abs(lr - 0.5) * 10 - (noise == "5+2k"))]

    monkeypatch.setattr(Tuning, "_rows", rows)
    choice = tuning(trials=30).run()
    assert choice.best.psnr > 29
    assert choice.best.settings["noise"] == "none"
    assert choice.best.psnr == max(trial.psnr for trial in choice.trials)


def test_equal_trials_give_the_first() -> None:
    from rtil.study.runs import Candidate
    from rtil.study.tuning import Choice

    trials = [Trial(number, "tpe", {"lr": number}, psnr, 1, 0.0) for number, psnr in enumerate((1.0, 2.0, 2.0))]
    assert Choice(Candidate("e", "ilo", "rtil", None), trials).best.number == 1


def test_without_optuna_one_line_says_what_to_install(
    write_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rtil.study.tuning.importlib.util.find_spec", lambda name: None)
    assert main([str(write_study(tune=TUNE)), "--out", "s", "--device", "cpu"]) == 2
    assert capsys.readouterr().err == "error: tuning needs Optuna: pip install rtil[study]\n"
