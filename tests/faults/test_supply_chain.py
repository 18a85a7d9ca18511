"""What is installed: by hash, none of the releases that were malware, and what advisories say of it."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
MALWARE = {"pytorch-lightning": ("2.6.2", "2.6.3"), "lightning": ("2.6.2", "2.6.3")}


def pins(name: str) -> list[str]:
    """Return the lines of a lock with a release, without hashes."""
    lines = (ROOT / name).read_text().splitlines()
    return [line.rstrip(" \\") for line in lines if re.match(r"\w", line)]


def test_the_two_locks_agree() -> None:
    assert pins("lock.txt") == pins("lock-hashes.txt"), "make hashes"


def test_every_release_has_hashes() -> None:
    releases = re.split(r"\n(?=\w)", (ROOT / "lock-hashes.txt").read_text())[1:]
    assert len(releases) == len(pins("lock.txt"))
    for release in releases:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", release), release


def test_no_release_that_was_malware_may_be_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    admitted = [Requirement(text) for text in [*project["dependencies"], *extras]]
    assert any(one.name == "pytorch-lightning" for one in admitted)
    for one in admitted:
        assert not [version for version in MALWARE.get(one.name, ()) if version in one.specifier]
    for lock in ("lock.txt", "lock-lowest.txt"):
        bad = {f"{name}=={version}" for name, versions in MALWARE.items() for version in versions}
        assert not bad & {pin.partition(" ")[0] for pin in pins(lock)}


@pytest.mark.parametrize(
    ("advisory", "stops"),
    [
        ({"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.0"]}, False),
        ({"id": "MAL-2026-3083", "aliases": [], "fix_versions": []}, True),
        ({"id": "PYSEC-2026-2", "aliases": ["GHSA-w37p-236h-pfx3"], "fix_versions": []}, True),
    ],
)
def test_an_advisory_is_shown_and_malware_stops_the_build(advisory: dict[str, object], stops: bool) -> None:
    judge = runpy.run_path(str(ROOT / ".ci/audit.py"))["judge"]
    packages = [{"name": "a", "version": "1.0", "vulns": [advisory]}, {"name": "b", "skip_reason": "not on PyPI"}]
    lines, stop = judge({"dependencies": packages})
    assert stop == stops
    assert len(lines) == 1
    assert f"a 1.0: {advisory['id']}, mended in" in lines[0]


def test_a_database_that_cannot_be_reached_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audit = runpy.run_path(str(ROOT / ".ci/audit.py"))
    monkeypatch.setitem(audit["PROBES"], "pypi", "http://127.0.0.1:9/")
    monkeypatch.setitem(audit["PROBES"], "osv", "http://127.0.0.1:9/")
    assert audit["main"]() == 0
    assert capsys.readouterr().out.startswith("audit: not checked")
