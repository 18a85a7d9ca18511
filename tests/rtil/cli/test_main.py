"""``rtil``, the program with all commands."""

import runpy
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import rtil
import rtil.__main__
from rtil.__main__ import COMMANDS, main

CLI = Path(rtil.__file__).parent / "cli"


def test_it_starts_the_process_anew_with_malloc_settings(monkeypatch):
    launched = []
    monkeypatch.setattr("rtil.launch.launch", launched.append)
    runpy.run_path(rtil.__main__.__file__, run_name="__main__")
    assert launched == ["rtil.__main__"]


def test_help_has_one_line_for_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: rtil COMMAND")
    for name in COMMANDS:
        assert sum(line.startswith(f"  {name} ") for line in out.splitlines()) == 1
    assert max(map(len, out.splitlines())) <= 120
    assert main([]) == 2
    assert capsys.readouterr().out == out


def test_every_module_with_a_main_is_a_command():
    assert {path.stem for path in CLI.glob("*.py") if "\ndef main(" in path.read_text(encoding="utf-8")} == {*COMMANDS}


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rtil {rtil.__version__}, torch {version('torch')}\n"


def test_an_unknown_command_gets_the_nearest(capsys):
    assert main(["smaple"]) == 2
    assert "did you mean 'sample'?" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_says_how_it_is_called(name, capsys):
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: rtil {name} ")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["smaple"], *([name, "--help"] for name in COMMANDS)])
def test_nobody_waits_for_torch(words):
    code = f"import sys; from rtil.__main__ import main; main({words}); raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0
