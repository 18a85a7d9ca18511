"""Options, config files and settings that are not what they should be: one line, exit code 2, nothing lost.

Numbers are those of the table in docs/faults/models.md.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from rtil.cli.eval import main as evaluate
from rtil.cli.train import main as train
from tests.faults.conftest import SMALL


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--lr", "1e38"], "lr 1e+38 is not valid: use a number above 0, at most 1"),
        (["--lr", "nan"], "--lr is 'nan': valid is a number"),
        (["--lr", ".nan"], "--lr is '.nan': use finite numbers"),
        (["--path_decay", "-1"], "path_decay -1.0 is not valid"),
        (["--ema_rampup", "-1"], "ema_rampup -1.0 is not valid"),
        (["--kimg", ".inf"], "--kimg is '.inf': use finite numbers"),
        (["--chunk", "0"], "chunk 0 is not valid"),
        (["--out", ""], "--out is empty: give a path, or leave it away"),
        (["--out="], "--out is empty"),
        (["--resume="], "resume is empty"),
        (["--data="], "data is not valid: use 'synthetic', or the path of pictures"),
    ],
)
def test_48_options_out_of_their_range(words: list[str], line: str, here: Path, refused: Callable[..., str]) -> None:
    assert line in refused(train, *words, "--dry_run")
    assert not (here / "runs").exists()


@pytest.mark.parametrize("name", ["lr", "ema_halflife_kimg", "ema_rampup", "sigma", "r1_gamma", "path_decay"])
@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "-1", "1e400"])
def test_48_every_number_is_finite_and_in_its_range(
    name: str, value: str, here: Path, refused: Callable[..., str]
) -> None:
    assert name in refused(train, f"--{name}={value}", "--dry_run")


@pytest.mark.parametrize("option", ["--ilo.lr", "--noise_sigma"])
def test_48_so_are_those_of_an_evaluation(option: str, here: Path, refused: Callable[..., str]) -> None:
    assert "use finite numbers" in refused(evaluate, "--task", "inversion", option, ".nan", "--dry_run")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr: 0.1\nlr: 0.2\n", "it has the key 'lr' twice"),
        ("a: " + "[" * 5000, "nested too deep"),
        ("a: &x [1]\nb: *x\n", "it points to a value elsewhere (*x): write that out"),
        ("kimg: 2020-13-45\n", "is not YAML"),
        ("kimg: !!python/object/apply:os.system [touch touched]\n", "is not YAML"),
        ("kimg: [1, 2]\n", "kimg is [1, 2]: valid is a number"),
        ("channels: 7\n", "channels is 7: valid is a table"),
        ("channels: {4: x, 8: 8}\n", "valid is a table"),
        ("rtil: maybe\n", "valid is true or false"),
        ("out: ''\n", "out is empty"),
        ("? [1]\n: 2\n", "is not YAML"),
        ("lr: 1e400\n", "lr is"),
        ("x" * 200_000, "has over 131072 bytes"),
        ("\x1b[31mred: 1\n", "is not YAML"),
    ],
)
def test_48_config_files(text: str, words: str, here: Path, refused: Callable[..., str]) -> None:
    Path("c.yaml").write_text(text)
    line = refused(train, "--config", "c.yaml", "--resolution", "8", "--dry_run")
    assert words in line
    assert len(line) < 500
    assert "\x1b" not in line
    assert not Path("touched").exists()


@pytest.mark.parametrize("text", ["[1]", "3", "null", '{"arch": 5}', '{"channels": 5}', '{"kimg": null}', "{", "\xff"])
def test_9_settings_of_other_types(text: str, run: Path, refused: Callable[..., str]) -> None:
    (run / "settings.json").write_text(text, encoding="latin-1")
    refused(train, "--out", "run", "--resume", "--seed", "0")
    assert (run / "settings.json").read_text(encoding="latin-1") == text


@pytest.mark.parametrize("count", range(2, 8))
def test_1_few_training_pictures(count: int, here: Path, make_pictures: Callable[..., Path]) -> None:
    make_pictures(here / "few", count, 8)
    assert train([*SMALL, "--data", "few", "--kimg", "0.004", "--out", "out"]) == 0
