"""The documentation's site builds strictly, without a network, and shows what the packages export."""

import importlib
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXPORTING = ("ilo", "mganprior", "rtil.baselines", "rtil.data", "rtil.discriminators", "rtil.generators", "rtil.ops")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="needs the extra 'docs': make setup")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_links_of_the_repository_lead_to_pages_of_the_site(site):
    first = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="files/rtil/pretrained/card.json/"' in first
    assert (site / "files/rtil/pretrained/card.json/index.html").exists()
    assert 'href="theory/"' in first
    assert (site / "datasets/ffhq/index.html").exists()


@pytest.mark.slow
def test_pages_fetch_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert 'src="http' not in text, page
        assert 'rel="stylesheet" href="http' not in text, page


@pytest.mark.slow
def test_what_packages_export_is_documented(site):
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    known = {line.split()[0].rpartition(".")[2] for line in zlib.decompress(inventory).decode().splitlines()}
    for package in EXPORTING:
        module = importlib.import_module(package)
        for name in module.__all__:
            if (getattr(module, name).__doc__ or "").strip() and callable(getattr(module, name)):
                assert name in known, f"{package}.{name}"
