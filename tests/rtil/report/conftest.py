"""A small evaluation that is made up, and a browser."""

import shutil

import pytest

from benchmarks.report import BROWSERS, make_evaluation

SIDE = 16


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return make_evaluation(tmp_path_factory.mktemp("report") / "evaluation", pictures=9, cells=5, methods=6, side=SIDE)


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, which is a package of the system; playwright comes with the extra 'dev'."""
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("needs Chromium: apt install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra 'dev': make setup")
    with playwright.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()
