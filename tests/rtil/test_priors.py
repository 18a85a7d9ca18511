import pytest

import rtil.cli.eval
import rtil.cli.sample
from rtil.priors import chosen_pair, chosen_prior


def test_what_was_given_is_taken_without_a_word(workplace, capsys):
    assert str(chosen_prior("mine.safetensors")) == "mine.safetensors"
    assert chosen_pair({"a": "b"}) == {"a": "b"}
    assert capsys.readouterr().err == ""


def test_the_newest_training_is_next(workplace, capsys):
    assert chosen_prior(None).parent.name == "00001-stylegan2-rtil-synthetic-16"
    assert list(chosen_pair(None)) == ["vanilla", "rtil"]
    assert "the newest training, runs" in capsys.readouterr().err


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_training_samples_are_those_of_the_shipped_prior(empty, capsys):
    assert rtil.cli.sample.main(["--count", "2", "--branches"]) == 0
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "shipped:rtil" in said.err
    assert (empty / "samples.png").exists()


def test_without_a_training_the_shipped_pair_is_compared(empty, capsys):
    assert rtil.cli.eval.main(["--dry_run", "--no_linear", "--lpips", "none"]) == 0
    said = capsys.readouterr()
    assert "shipped:vanilla and shipped:rtil" in said.err
    assert rtil.cli.eval.main(["--images", "2", "--steps", "2", "--rounds", "2", "--no_linear", "--lpips", "none"]) == 0
    table = capsys.readouterr().out
    assert "vs vanilla" in table
