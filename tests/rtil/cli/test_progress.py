import io
import re
import types

import pytest
import torch

from rtil.cli import progress
from rtil.cli.progress import Progress
from rtil.inverse.operators import make_operator

OPERATOR = make_operator("inversion", (3, 4, 4))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stderr = Terminal()
    monkeypatch.setattr(progress, "sys", types.SimpleNamespace(stderr=stderr))
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LOOKS", -1.0)
    return stderr


def test_where_nobody_looks_nothing_is_computed_or_shown(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress(10, 2)
    assert bar.watching(OPERATOR, torch.zeros(2, 3, 4, 4)) == []
    bar.finish(2)
    bar.say(["a line"])
    bar.close()
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("a line\n", "")


def test_a_terminal_shows_share_error_and_time(terminal: Terminal) -> None:
    bar = Progress(iterates=2 * 4, pictures=2)
    (look,) = bar.watching(OPERATOR, torch.zeros(2, 3, 4, 4))
    for step in range(2):
        look(1, step, torch.full((2, 3, 4, 4), 0.5))
    last = terminal.getvalue().split("\r")[-1]
    assert re.search(r" 50%\|.*\| 00:0\d gone, .* left, error 1, round 1", last), last


def test_pictures_that_end_early_count_in_full(terminal: Terminal) -> None:
    bar = Progress(iterates=100, pictures=4)
    bar.watching(OPERATOR, torch.zeros(1, 3, 4, 4))
    bar.finish(1)
    assert " 25%|" in terminal.getvalue().split("\r")[-1]
    bar.close()
    assert not terminal.getvalue().split("\r")[-1].strip(), "the line is left empty"


def test_an_unknown_number_of_iterates_is_no_hindrance(terminal: Terminal) -> None:
    bar = Progress(iterates=None, pictures=1)
    (look,) = bar.watching(OPERATOR, torch.zeros(1, 3, 4, 4))
    look(0, 0, torch.full((1, 3, 4, 4), 0.5))
    bar.finish(1)
    assert "error 1, round 0" in terminal.getvalue()
