import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from torch._utils import ExceptionWrapper

from rtil import presets
from rtil.cli import common
from rtil.cli.common import Prepared, run_command
from rtil.errors import RunError, UserError
from rtil.launch import LAUNCHED, MALLOC


@dataclass
class Basis:
    """Inherited.

    Args:
        lr: Learning rates, up to 100 %.
    """

    lr: list[float] = field(default_factory=lambda: [0.1])


@dataclass
class Options(Basis):
    """Do something.

    Args:
        steps: Number of steps.
        rtil: Whether.
        task: Names.
        precision: Type.
        channels: Widths.
        checkpoints: Named paths.
        weights: Numbers or a word.
        resume: From where.
        out: Folder.
    """

    steps: int = 3
    rtil: bool = False
    task: list[str] = field(default_factory=lambda: ["cs"])
    precision: Literal["auto", "bfloat16"] = "auto"
    channels: dict[int, int] | None = None
    checkpoints: dict[str, str] | None = None
    weights: list[float] | Literal["uniform"] = "uniform"
    resume: str | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise UserError(f"steps is {self.steps}:\nvalid is >= 0")


def doing(function: Callable[[Any], object]) -> Callable[[Any], Prepared]:
    """Return what opens the call of a function."""
    return lambda options: Prepared(["would run"], lambda: function(options))


def parse(*argv: str) -> Options:
    got: list[Options] = []
    assert run_command(doing(got.append), Options, argv, "x", bare={"resume": "latest"}) == 0
    return got[0]


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--steps", "5"], "steps", 5),
        (["--steps=5"], "steps", 5),
        (["--rtil"], "rtil", True),
        (["--rtil", "false"], "rtil", False),
        (["--rtil", "--no_rtil"], "rtil", False),
        (["--rtil", "--steps", "1"], "rtil", True),
        (["--lr", "1e-3"], "lr", [1e-3]),
        (["--lr", "0.1,0.2"], "lr", [0.1, 0.2]),
        (["--lr", "[0.1, 0.2]"], "lr", [0.1, 0.2]),
        (["--task", "cs,inpaint"], "task", ["cs", "inpaint"]),
        (["--task", "5"], "task", ["5"]),
        (["--channels", "{4:64, 8: 32}"], "channels", {4: 64, 8: 32}),
        (["--checkpoints", "a=b/c", "d=e=f", "--steps", "1"], "checkpoints", {"a": "b/c", "d": "e=f"}),
        (["--weights", "0.5,0.5"], "weights", [0.5, 0.5]),
        (["--weights", "uniform"], "weights", "uniform"),
        (["--resume"], "resume", "latest"),
        (["--resume", "some.ckpt"], "resume", "some.ckpt"),
        (["--out", "a/b"], "out", Path("a/b")),
    ],
)
def test_options_are_typed(argv: list[str], name: str, value: Any) -> None:
    got = getattr(parse(*argv), name)
    assert got == value
    assert type(got) is type(value) or isinstance(value, Path)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--step", "5"], ["'--step'", "'--steps'"]),
        (["--steps", "a"], ["--steps", "'a'", "a whole number"]),
        (["--steps", "1.5"], ["'1.5'", "a whole number"]),
        (["--steps", "-1"], ["steps is -1", "valid is >= 0"]),
        (["--steps"], ["--steps needs a value"]),
        (["--precision", "bfloat"], ["one of auto, bfloat16", "'bfloat16'"]),
        (["--lr", "a,b"], ["'a,b'", "each a number"]),
        (["--checkpoints", "runs/x"], ["'runs/x'", "name=value"]),
        (["--checkpoints", "a=b", "a=c"], ["'a' twice"]),
        (["--checkpoints"], ["name=value"]),
        (["--rtil", "maybe"], ["'maybe'"]),
        (["train"], ["unexpected argument 'train'"]),
        (["--config", "absent.yaml"], ["absent.yaml", "No such file"]),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    argv: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(doing(lambda options: pytest.fail("must not run")), Options, argv, "x") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("step: 5", ["unknown key 'step'", "'steps'"]),
        ("steps: a", ["steps is 'a'", "a whole number"]),
        ("steps: 1.5", ["steps is 1.5"]),
        ("steps: null", ["steps is None"]),
        ("precision: bfloat", ["'bfloat16'"]),
        ("lr: [a]", ["each a number"]),
        ("[1, 2]", ["holds no options"]),
        ("steps: [", ["is not YAML"]),
    ],
)
def test_a_mistake_in_a_file_is_one_line(
    text: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert run_command(doing(print), Options, ["--config", str(tmp_path / "c.yaml")], "x") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert all(word in err for word in [*words, "c.yaml"]), err


def test_the_command_line_overrides_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("steps: 7\nlr: 1e-3\ntask: cs,sr\ncheckpoints: {a: b}\n")
    got = parse("--steps", "9", "--config", str(path))
    assert (got.steps, got.lr, got.task, got.checkpoints) == (9, [1e-3], ["cs", "sr"], {"a": "b"})


def test_the_printed_config_is_one_that_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--steps", "9", "--channels", "{4: 8}", "--checkpoints", "a=b", "--out", "o", "--lr", "0.1,0.5"]
    assert run_command(doing(print), Options, [*argv, "--print_config"], "x") == 0
    text = capsys.readouterr().out
    assert "# Learning rates, up to 100 %.\nlr: [0.1, 0.5]\n" in text
    assert yaml.safe_load(text)["channels"] == {4: 8}
    (tmp_path / "c.yaml").write_text(text)
    assert parse("--config", str(tmp_path / "c.yaml")) == parse(*argv)


def test_dry_run_tells_and_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code = run_command(doing(lambda options: pytest.fail("must not run")), Options, ["--dry_run", "--steps", "4"], "x")
    out = capsys.readouterr().out
    assert code == 0
    assert "steps: 4\n" in out
    assert out.endswith("# would run\n")


def test_help_tells_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(doing(print), Options, ["--help"], "x") == 0
    out = capsys.readouterr().out
    for text in ("--lr", "Learning rates, up to 100 %.", "--steps", "--config", "--dry_run", "default: 3"):
        assert text in out


def test_a_programming_error_is_not_hidden() -> None:
    def broken(options: Options) -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        run_command(doing(broken), Options, [], "x")


@pytest.mark.parametrize("error", [UserError("ours"), OSError("ours"), ValueError("ours")])
def test_what_goes_wrong_in_work_that_was_checked_is_a_bug(error: Exception) -> None:
    def broken(options: Options) -> None:
        raise error

    with pytest.raises(type(error), match="ours"):
        run_command(doing(broken), Options, [], "x")


CRASH = """
from dataclasses import dataclass
from rtil.cli.common import Prepared, run_command
from rtil.errors import UserError

@dataclass
class Options:
    "Do something."

def broken():
    raise {error}("ours")

raise SystemExit(run_command(lambda options: Prepared([], broken), Options, [], "do"))
"""


@pytest.mark.parametrize("error", ["UserError", "OSError"])
def test_a_bug_ends_in_a_traceback_and_code_1(error: str) -> None:
    done = subprocess.run([sys.executable, "-c", CRASH.format(error=error)], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")


def test_work_may_have_an_exit_code_of_its_own() -> None:
    assert run_command(doing(lambda options: 1), Options, [], "x") == 1
    assert run_command(doing(lambda options: None), Options, [], "x") == 0


def test_what_a_worker_of_a_loader_cannot_read_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def reading(options: Options) -> None:
        try:
            raise RunError("cannot read image 'a.png': mend it")
        except RunError:
            ExceptionWrapper(where="in DataLoader worker process 0").reraise()

    assert run_command(doing(reading), Options, [], "x") == 2
    assert capsys.readouterr().err == "error: cannot read image 'a.png': mend it\n"


def test_what_the_machine_does_to_running_work_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def full(options: Options) -> None:
        raise RunError("disk\nfull")

    assert run_command(doing(full), Options, [], "x") == 2
    assert capsys.readouterr().err == "error: disk full\n"


def test_mistakes_found_while_work_is_opened_are_the_users_and_bugs_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    def mistaken(options: Options) -> Prepared:
        raise UserError("no such file")

    def broken(options: Options) -> Prepared:
        raise OSError("bug")

    assert run_command(mistaken, Options, [], "x") == 2
    assert capsys.readouterr().err == "error: no such file\n"
    with pytest.raises(OSError, match="bug"):
        run_command(broken, Options, [], "x")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_in_their_exit_code(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def interrupted(options: Options) -> None:
        signal.raise_signal(number)

    assert run_command(doing(interrupted), Options, [], "x") == code
    assert signal.getsignal(signal.SIGTERM) is before


def test_launch_starts_the_process_anew_once_with_malloc_settings(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        "import os, sys\n"
        "def main():\n"
        f"    print([os.environ.get(n) for n in {sorted(MALLOC)}], os.environ.get('{LAUNCHED}'), sys.argv[1:])\n"
        "    return 5\n"
    )
    (tmp_path / "start.py").write_text("from rtil.launch import launch\nlaunch('job')\n")
    environment = {n: v for n, v in os.environ.items() if n not in MALLOC and n != LAUNCHED}
    environment |= {"MALLOC_TOP_PAD_": "123", "PYTHONPATH": str(Path(common.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "start.py", "--a", "b c"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 5, done.stderr
    if sys.platform == "linux":
        assert done.stdout == "['0', '123', '2147483647'] 1 ['--a', 'b c']\n"


TALKING = """
import sys
from dataclasses import dataclass
from rtil.cli import common
from rtil.launch import launch

@dataclass
class Options:
    "Do something."

def talk():
    for i in range({lines}):
        print("a line", file=sys.{stream}, flush={flush})

def main():
    return common.run_command(lambda options: common.Prepared([], talk), Options, [], "do")

sys.modules["job"] = sys.modules["__main__"]
launch("job")
"""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(("lines", "flush"), [(1, False), (1, True), (100_000, False)])
def test_a_closed_pipe_ends_a_command_quietly(stream: str, lines: int, flush: bool) -> None:
    read, write = os.pipe()
    os.close(read)
    other = {"stdout": "stderr", "stderr": "stdout"}[stream]
    code = TALKING.format(stream=stream, lines=lines, flush=flush)
    streams: dict[str, Any] = {stream: write, other: subprocess.PIPE}
    for unbuffered in ("", "1"):
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run([sys.executable, "-c", code], env=environment, **streams)
        assert done.returncode == 141
        assert getattr(done, other) == b""
    os.close(write)


def test_another_broken_pipe_is_a_bug(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("def main():\n    raise BrokenPipeError(32, 'of a worker')\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(common.__file__).parents[2]}"}
    command = [sys.executable, "-c", "from rtil.launch import launch; launch('job')"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "of a worker" in done.stderr


NOTICES = """
import warnings
from dataclasses import dataclass
from rtil.cli.common import Prepared, run_command
from rtil.errors import Notice

@dataclass
class Options:
    "Do something."

def work(options):
    warnings.warn("no compiler: native tier", Notice)
    warnings.warn("theirs")

before = warnings.formatwarning
run_command(lambda options: Prepared([], lambda: work(options)), Options, [], "do")
assert warnings.formatwarning is before
"""


def test_a_notice_is_one_line_and_a_warning_of_others_says_where():
    done = subprocess.run([sys.executable, "-c", NOTICES], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["warning: no compiler: native tier", "<string>:13: UserWarning: theirs"]


@dataclass
class Needing:
    """With two that are needed.

    Args:
        source: From where.
        out: To where.
        flag: Whether.
    """

    source: Path
    out: Path
    flag: bool = False


@pytest.mark.parametrize(
    "argv",
    [["a", "b", "--flag"], ["--flag", "a", "b"], ["a", "--out", "b", "--flag"], ["--source=a", "--out=b", "--flag"]],
)
def test_what_is_needed_may_be_given_without_its_name(argv: list[str]) -> None:
    got: list[Needing] = []
    assert run_command(doing(got.append), Needing, argv, "x") == 0
    assert got == [Needing(Path("a"), Path("b"), True)]


def test_what_is_needed_and_not_given_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(doing(print), Needing, ["a"], "x") == 2
    assert capsys.readouterr().err == "error: OUT is needed: x SOURCE OUT [--option value ...] (--help says more)\n"
    assert run_command(doing(print), Needing, ["a", "b", "c"], "x") == 2
    assert "unexpected argument 'c'" in capsys.readouterr().err
    assert run_command(doing(print), Needing, ["--help"], "x") == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: x SOURCE OUT [--option value ...]")
    assert "SOURCE " in out
    assert "From where." in out


def test_a_preset_is_a_config_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "fast.yaml").write_text("steps: 7\n")
    monkeypatch.setattr(presets, "FOLDER", tmp_path)
    got: list[Options] = []
    assert run_command(doing(got.append), Options, ["--config", "fast", "--lr", "1"], "x", presets="eval") == 0
    assert (got[0].steps, got[0].lr) == (7, [1.0])
    assert run_command(doing(got.append), Options, ["--config", "fats"], "x", presets="eval") == 2
    assert "did you mean 'fast'?" in capsys.readouterr().err
    assert run_command(doing(got.append), Options, ["--help"], "x", presets="eval") == 0
    assert "Or the name of a preset: fast." in " ".join(capsys.readouterr().out.split())


def test_a_disk_that_fails_is_no_closed_terminal() -> None:
    @dataclass
    class Nothing:
        """Nothing."""

    def fail() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        run_command(lambda _: Prepared([], fail), Nothing, [], "nothing")
