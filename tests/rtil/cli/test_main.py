"""``python -m rtil``."""

import runpy

import rtil.__main__
from rtil.cli import common


def test_it_starts_the_process_anew_with_malloc_settings(monkeypatch):
    launched = []
    monkeypatch.setattr(common, "launch", launched.append)
    runpy.run_path(rtil.__main__.__file__, run_name="__main__")
    assert launched == ["rtil.__main__"]


def test_the_first_argument_names_the_command(capsys):
    assert rtil.__main__.main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: python -m rtil {reconstruct,render,sample,quality,convert}")
    assert rtil.__main__.main(["smaple"]) == 2
    assert "did you mean 'sample'?" in capsys.readouterr().err
    assert rtil.__main__.main(["sample", "--help"]) == 0
    assert "usage: python -m rtil sample" in capsys.readouterr().out
