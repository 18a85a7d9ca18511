"""The page in headless Chromium, from picture to reconstruction; gradio is of the extra ``demo``, not of ``dev``."""

import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from benchmarks.report import BROWSERS
from rtil.pretrained import SCHEME
from rtil.snapshot import load_snapshot

pytest.importorskip("gradio", reason="needs the extra 'demo': pip install 'rtil[demo]'")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address():
    from rtil.explore.serve import serving

    priors = {name: load_snapshot(f"{SCHEME}{name}", torch.device("cpu")) for name in ("vanilla", "rtil")}
    with serving(priors, "127.0.0.1", 0, most_seconds=60, most_mb=1) as served:
        yield served
    assert not list(Path(tempfile.gettempdir()).glob("rtil-explore-*"))


@pytest.fixture
def page(address):
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("needs Chromium: apt install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra 'dev': make setup")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 1000})
        errors = []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.route(lambda url: not url.startswith(address.rstrip("/")), lambda route: route.abort())
        tab.set_default_timeout(60_000)
        tab.goto(address)
        yield tab
        browser.close()
    assert errors == []


def test_a_measured_face_is_inverted_by_both_priors_and_z1_moves_a_sample(page, tmp_path):
    assert page.url.startswith("http://127.0.0.1:")
    page.get_by_label("effort (1 is 200 steps)").first.fill("0.1")
    page.get_by_role("button", name="Reconstruct").click()
    page.locator("#seen figcaption", has_text="done").nth(1).wait_for()
    said = page.locator("#seen figcaption").all_inner_texts()
    assert [text.split()[0] for text in said] == ["truth", "measurement", "vanilla", "rtil"]
    assert all("dB, done" in text for text in said[2:])
    page.get_by_role("tab", name="Move z1").click()
    sample = page.locator("#moved img").last
    sample.wait_for()
    before = sample.get_attribute("src")
    page.get_by_label("sigma of z1 at cut 1").first.fill("1")
    page.get_by_label("sigma of z1 at cut 1").first.press("Enter")
    page.wait_for_function("before => [...document.querySelectorAll('#moved img')].pop().src !== before", arg=before)


def test_what_is_too_large_or_not_drawn_is_told(page, tmp_path):
    (tmp_path / "large.png").write_bytes(b"x" * 1_100_000)
    page.locator("input[type=file]").first.set_input_files(tmp_path / "large.png")
    page.get_by_text("size").first.wait_for()
