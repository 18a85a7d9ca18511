"""Files of studies: what is read, and every mistake in one line with its place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from rtil.cli.eval import EvalOptions
from rtil.cli.study import main
from rtil.errors import UserError
from rtil.study.reading import merged, read_study
from rtil.study.specification import Given
from tests.rtil.study.conftest import PAIR, SMALL

CS = {"task": ["cs"], "rates": [0.5], **SMALL}
TUNE = {"evaluations": ["cs"], "images": 2, "settings": {"ilo": {"lr": {"low": 0.1, "high": 0.2}}}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"titel": "x"}, ["unknown key in", "mine.yaml 'titel'", "did you mean 'title'"]),
        ({"title": 3}, ["title in", "mine.yaml is 3: valid is text"]),
        ({"evaluations": {"cs": CS | {"rate": [0.5]}}}, ["unknown key 'rate' in evaluations: cs", "'rates'"]),
        ({"evaluations": {"cs": CS | {"steps": "few"}}}, ["evaluations: cs", "steps is 'few'"]),
        ({"evaluations": {"cs": CS | {"seed": 1}}}, ["evaluations: cs", "has seed, which is the study's own"]),
        ({"evaluations": {"cs": CS | {"lpips": "big"}}}, ["evaluations: cs", "lpips is 'big'"]),
        ({"evaluations": {"c s": CS}}, ["evaluation name 'c s' is not valid"]),
        ({"evaluations": {}}, ["needs checkpoints and evaluations"]),
        ({"checkpoints": {"rtil": 3}}, ["checkpoints: rtil", "is 3", "valid is a path"]),
        ({"checkpoints": {"rtil": {"train": {"archh": "pggan"}}}}, ["checkpoints: rtil", "unknown option '--archh'"]),
        ({"checkpoints": {"rtil": {"train": {"out": "x"}}}}, ["train has out, which is the study's own"]),
        ({"seeds": [1, 1]}, ["seeds is [1, 1]"]),
        ({"training_seeds": [0, 1]}, ["vanilla is the same for all training_seeds", "{seed}"]),
        ({"figures": {"a": {"kind": "pie"}}}, ["kind in figures: a", "'pie'", "levels_curve"]),
        (
            {"figures": {"a": {"kind": "rounds", "evaluations": ["sc"]}}},
            ["unknown evaluation of figure a", "valid are cs"],
        ),
        ({"figures": {"a": {"title": "x"}}}, ["figures: a", "has no kind"]),
        ({"figures": {"a": {"kind": "tuning_trace"}}}, ["a tuning_trace needs tune"]),
        ({"ratios": ["csgm"]}, ["ratio 'csgm' is not 'METHOD / METHOD'"]),
        ({"tune": TUNE | {"trials": 0}}, ["trials of tune", "is 0"]),
        ({"tune": TUNE | {"settings": {}}}, ["tune in", "has no settings"]),
        ({"tune": TUNE | {"settings": {"ilo": {"lr": {"low": 1, "high": 1}}}}}, ["settings: ilo: lr", "from 1 to 1"]),
        ({"tune": TUNE | {"settings": {"ilo": {"lr": {"lo": 1}}}}}, ["settings: ilo: lr", "'lo'"]),
        ({"tune": TUNE | {"settings": {"csgm": {"lr": {"choices": [1, 2]}}}}}, ["'csgm'", "valid are ilo"]),
        ({"tune": TUNE | {"settings": {"ilo": {"lrr": {"choices": [1, 2]}}}}}, ["variant 'ilo'", "'lrr'"]),
        ({"tune": TUNE | {"settings": {"ilo": {"lr": {"low": -1.0, "high": 0.2}}}}}, ["lr is -1"]),
        ({"evaluations": {"cs": CS | {"images": 99}}}, ["images is 99"]),
    ],
)
def test_a_mistake_is_one_line_that_names_its_place(
    changes: dict[str, Any], words: list[str], write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(write_study(**changes)), "--out", "s", "--device", "cpu"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert all(word in err for word in words), err
    assert not Path("s").exists()


def test_an_evaluation_has_the_options_of_its_command(write_study: Callable[..., Path]) -> None:
    table = {"method": ["ilo", "csgm"], "task": ["sr"], "factors": [2, 4], "ilo": {"lr": 0.3}, "z1_weight": 2}
    study = read_study(str(write_study(evaluations={"sr": table | SMALL})))
    options = study.options("sr", seed=3, checkpoints=PAIR)
    assert isinstance(options, EvalOptions)
    assert (options.method, options.factors, options.seed, options.checkpoints) == (["ilo", "csgm"], [2, 4], 3, PAIR)
    ilo = options.settings["ilo"]
    assert (getattr(ilo, "lr"), getattr(ilo, "z1_weight")) == (0.3, 2)  # noqa: B009


def test_sizes_go_over_what_stands_beside_them(write_study: Callable[..., Path]) -> None:
    small = {"evaluations": {"cs": {"images": 2}}, "note": "small"}
    path = write_study(quick=small, paper={"checkpoints": {"rtil": None}})
    quick, paper = (read_study(str(path), size) for size in ("quick", "paper"))
    assert (quick.options("cs").images, paper.options("cs").images, quick.note, paper.note) == (2, 3, "small", "")
    assert quick.options("cs").rates == [0.5]
    assert paper.checkpoints["rtil"].path is None
    assert read_study(str(path)) == quick
    assert merged({"a": {"b": [1]}}, {"a": {"b": [2]}, "c": 1}) == {"a": {"b": [2]}, "c": 1}
    with pytest.raises(UserError, match="has no size 'paper': it has none"):
        read_study(str(write_study()), "paper")


def test_options_and_checkpoints_of_the_command_line_come_first(write_study: Callable[..., Path]) -> None:
    table = {"task": ["cs"], "steps_preset": "icml-quick", "images": 9}
    path = str(write_study(evaluations={"cs": table}))
    study = read_study(path, None, Given({"rtil": "other"}, {"images": "2", "steps": "3,4", "ilo.lr": "0.5"}))
    options = study.options("cs")
    assert (options.images, options.steps, options.steps_preset) == (2, [3, 4], None)
    assert getattr(options.settings["ilo"], "lr") == 0.5  # noqa: B009
    assert study.checkpoints["rtil"].path == "other"
    with pytest.raises(UserError, match="unknown checkpoint of study mine 'rtill'"):
        read_study(path, None, Given({"rtill": "other"}))
    with pytest.raises(UserError, match="study mine tunes nothing"):
        read_study(path, None, Given(trials=3))


def test_a_checkpoint_that_is_the_users_is_asked_for(
    write_study: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(checkpoints=PAIR | {"rtil": None})
    assert main([str(path), "--dry_run"]) == 2
    assert "has no checkpoint 'rtil' of its own: add --checkpoints rtil=PATH" in capsys.readouterr().err
    assert main([str(path), "--dry_run", "--checkpoints", f"rtil={PAIR['rtil']}"]) == 0
    out = capsys.readouterr().out
    assert "evaluation cs, 1 run(s)" in out
    assert "6 inversions, 24 steps, about" in out
    assert yaml.safe_load(out)["studies"] == [str(path)]
