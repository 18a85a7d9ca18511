"""Every fault of :mod:`tests.faults.picture_cases`: the exit code, one line that names it, nothing half-written."""

import sys
from pathlib import Path

import pytest

from tests.faults.picture_cases import CASES, Case, run, workplace

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes, sockets and links are made")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number} {case.what}")
def test_fault(case: Case, tmp_path: Path) -> None:
    with workplace(tmp_path):
        case.make()
        before = {path for path in Path().rglob("*") if path.name != "__pycache__"}
        code, out, err = run(case.command)
        after = set(Path().rglob("*"))
    assert code == case.code, err
    assert case.words in err
    assert "\x1b" not in out + err
    assert "Traceback" not in err
    if case.code == 2:
        assert err.count("error: ") == 1
        assert sum(not line.startswith("warning: ") for line in err.splitlines()) == 1
        assert after == before
