"""Imports run one way: no circle between the files of the packages, whether at run time or for types only."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("rtil", "ilo", "mganprior")
NOT_ON_WINDOWS = ("fcntl", "grp", "pwd", "resource", "termios")
IMPORT_ALL = """
import importlib, sys, warnings
warnings.filterwarnings("ignore", message="only soft file lock is available")
without, names = (words.split(",") for words in sys.argv[1:])
sys.modules |= dict.fromkeys(without)
for name in names:
    importlib.import_module(name)
"""


def modules() -> dict[str, Path]:
    """Every file by the name under which it is imported."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """All statements that run when a module is imported, those below ``if TYPE_CHECKING`` too."""
    for statement in body:
        yield statement
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            for name in ("body", "orelse", "handlers", "finalbody"):
                yield from statements(getattr(statement, name, []))


def imported(source: str, known: set[str]) -> set[str]:
    """Return the modules among ``known`` that a module's own statements import."""
    names = set()
    for statement in statements(ast.parse(source).body):
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            below = {alias.name: f"{statement.module}.{alias.name}" for alias in statement.names}
            names |= {full if full in known else str(statement.module) for full in below.values()}
    return names & known


def circle(graph: dict[str, set[str]]) -> list[str] | None:
    """Return the modules of one circle, the first one also last."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_circles_are_seen():
    known = {"p", "p.a", "p.b", "p.c"}
    sources = {
        "p": "from p.a import x",
        "p.a": "import p.b\ndef f():\n    import p.a",
        "p.b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p import c",
        "p.c": "class C:\n    pass",
    }
    graph = {name: imported(source, known) for name, source in sources.items()}
    assert graph == {"p": {"p.a"}, "p.a": {"p.b"}, "p.b": {"p.c"}, "p.c": set()}
    assert circle(graph) is None
    found = circle(graph | {"p.c": {"p.a"}})
    assert found is not None
    assert set(found) == {"p.a", "p.b", "p.c"}


def test_no_circle_between_files():
    files = modules()
    graph = {name: imported(path.read_text(encoding="utf-8"), set(files)) for name, path in files.items()}
    assert circle(graph) is None


def test_every_module_can_be_imported_where_posix_modules_are_missing():
    """A stand-in for Windows: what its Python has not cannot be imported, nor what would import it at once."""
    names = [name for name in [*modules(), "benchmarks.record"] if not name.endswith("__main__")]
    command = [sys.executable, "-c", IMPORT_ALL, ",".join(NOT_ON_WINDOWS), ",".join(names)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
