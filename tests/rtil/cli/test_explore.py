import importlib.util

import pytest

from rtil.cli.explore import main


def pretend(monkeypatch, found):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: found if name == "gradio" else real(name, *a))


@pytest.fixture
def with_gradio(monkeypatch):
    pretend(monkeypatch, True)


def test_without_gradio_it_says_how_to_get_it(monkeypatch, capsys):
    pretend(monkeypatch, None)
    assert main([]) == 2
    assert capsys.readouterr().err == "error: the page needs gradio: pip install 'rtil[demo]'\n"


def test_it_listens_to_this_machine_unless_told_otherwise(with_gradio, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "host: 127.0.0.1" in said
    assert "# prior vanilla: " in said
    assert "# prior rtil: " in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "valid is 0 to 65535"),
        (["--most_seconds", "0"], "valid is a number above 0"),
        (["--checkpoints", "a=nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line(words, message, with_gradio, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
