"""Options of groups, as a method's settings are: their names, short names, help and config files."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rtil.cli import options
from rtil.cli.common import given_names, read_table, run_command
from rtil.errors import UserError
from tests.rtil.cli.test_common import doing


@dataclass(frozen=True)
class Weights:
    """What is minimised.

    Args:
        weight: Of the term.
    """

    weight: float = 0.5


@dataclass(frozen=True)
class Fast(Weights):
    """The settings of fast.

    Args:
        lr: Rate, one or several.
        sphere: Whether.
    """

    lr: float | tuple[float, ...] = 0.1
    sphere: bool = True
    inner: Any = field(default=None, metadata={"hidden": True})

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise UserError(f"weight is {self.weight:g}: valid is >= 0")


@dataclass
class Grouped:
    """With groups.

    Args:
        steps: Number of steps.
    """

    steps: int = 3
    settings: dict[str, Any] = field(default_factory=dict)


GROUPS: dict[str, Any] = {
    "nested": {"fast": Fast, "slow": Fast},
    "short": {"lr": ("fast.lr", "slow.lr"), "fast_weight": ("fast.weight",)},
}


def grouped(*argv: str) -> Grouped:
    got: list[Grouped] = []
    assert run_command(doing(got.append), Grouped, argv, "x", **GROUPS) == 0
    return got[0]


def test_settings_of_a_group_have_its_name_before_them(tmp_path: Path) -> None:
    got = grouped("--fast.weight", "2", "--slow.lr", "0.1,0.2", "--no_fast.sphere", "--steps=4")
    assert got.steps == 4
    assert got.settings == {"fast": Fast(2, sphere=False), "slow": Fast(lr=(0.1, 0.2))}
    assert given_names(got) == {"fast.weight", "slow.lr", "fast.sphere", "steps"}
    (tmp_path / "c.yaml").write_text("fast: {weight: 2, sphere: false}\nslow.lr: [0.1, 0.2]\nsteps: 4\n")
    assert grouped("--config", str(tmp_path / "c.yaml")).settings == got.settings


def test_a_short_name_sets_what_it_stands_for(tmp_path: Path) -> None:
    got = grouped("--lr", "0.3", "--fast_weight", "2", "--slow.lr", "0.4")
    assert got.settings == {"fast": Fast(2, 0.3), "slow": Fast(lr=0.4)}
    assert given_names(got) == {"lr", "fast_weight", "fast.lr", "slow.lr", "fast.weight"}
    (tmp_path / "c.yaml").write_text("fast: {lr: 0.5}\nlr: 0.3\n")
    got = grouped("--config", str(tmp_path / "c.yaml"))
    assert got.settings == {"fast": Fast(lr=0.5), "slow": Fast(lr=0.3)}, "what is named in full wins"


def test_the_printed_config_has_groups_and_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--fast.weight", "2", "--slow.lr", "0.1,0.2"]
    assert run_command(doing(print), Grouped, [*argv, "--print_config"], "x", **GROUPS) == 0
    text = capsys.readouterr().out
    assert "fast:\n  # Of the term.\n  weight: 2.0\n" in text
    assert "inner" not in text
    (tmp_path / "c.yaml").write_text(text)
    assert grouped("--config", str(tmp_path / "c.yaml")).settings == grouped(*argv).settings


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--fast.wieght", "2"], ["--fast.wieght", "did you mean '--fast.weight'"]),
        (["--fast.weight", "much"], ["--fast.weight is 'much'", "a number"]),
        (["--fast_weight", "much"], ["--fast_weight is 'much'", "a number"]),
        (["--fast.weight", "-1"], ["weight is -1"]),
        (["--fast.inner", "1"], ["unknown option '--fast.inner'"]),
        (["--config", "c.yaml"], ["unknown key 'fast.wieght' in c.yaml", "'fast.weight'"]),
        (["--config", "d.yaml"], ["d.yaml: fast is 3: give a table"]),
        (["--config", "e.yaml"], ["e.yaml", "'steps' twice"]),
    ],
)
def test_a_mistake_in_a_group_is_one_line(
    argv: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("fast: {wieght: 2}")
    Path("d.yaml").write_text("fast: 3")
    Path("e.yaml").write_text("steps: 1\nfast: {weight: 1}\nsteps: 2\n")
    assert run_command(doing(print), Grouped, argv, "x", **GROUPS) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert all(word in err for word in words), err


def test_a_table_is_read_without_building_a_parser_again(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"steps": "7", "lr": "0.1,0.2", "slow": {"weight": 3}}
    expected = {"steps": 7, "fast.lr": (0.1, 0.2), "slow.lr": (0.1, 0.2), "slow.weight": 3}
    assert read_table(Grouped, table, "here", **GROUPS) == expected
    monkeypatch.setattr(options, "Reader", None)
    assert read_table(Grouped, table, "there", **GROUPS) == expected


def test_help_has_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(doing(print), Grouped, ["--help"], "x", **GROUPS) == 0
    out = capsys.readouterr().out
    for text in ("The settings of fast", "--fast.weight", "Of the term.", "As --fast.lr --slow.lr."):
        assert text in out, text
    assert "inner" not in out


def test_options_of_a_group_without_a_name_stand_among_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    groups: dict[str, Any] = {"nested": {"": Fast}, "short": {"rate": ["lr"]}}
    got: list[Grouped] = []
    assert run_command(doing(got.append), Grouped, ["--steps", "4", "--weight=2", "--rate", "0.3"], "x", **groups) == 0
    assert (got[0].steps, got[0].settings) == (4, {"": Fast(2, 0.3)})
    assert given_names(got[0]) == {"steps", "weight", "lr", "rate"}
    assert run_command(doing(print), Grouped, ["--weight=2", "--print_config"], "x", **groups) == 0
    text = capsys.readouterr().out
    assert "# Of the term.\nweight: 2.0\n" in text
    (tmp_path / "c.yaml").write_text(text)
    assert run_command(doing(got.append), Grouped, ["--config", str(tmp_path / "c.yaml")], "x", **groups) == 0
    assert got[1].settings == {"": Fast(2)}


def test_on_the_command_line_too_what_is_named_in_full_wins() -> None:
    assert grouped("--slow.lr", "0.4", "--lr", "0.3").settings == {"fast": Fast(lr=0.3), "slow": Fast(lr=0.4)}
