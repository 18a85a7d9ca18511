"""The page in headless Chromium: it renders without a complaint, sorts, filters, flips, and all can read it."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from rtil.report import Figure, Part, write_report
from rtil.report.write import WHITE_ERROR
from tests.rtil.report.conftest import SIDE

pytestmark = pytest.mark.slow
PIXELS = """canvas => Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)"""
DRAWN = f'canvas[width="{SIDE}"]'


@pytest.fixture(scope="module")
def report(folder, tmp_path_factory):
    where = tmp_path_factory.mktemp("page")
    (where / "a.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40"><text y="20">a</text></svg>'
    )
    figure = Figure("A figure", "A letter", where / "a.svg", None, "Its caption")
    parts = [Part("First", folder, [figure], "Some words."), Part("Second", folder)]
    return write_report(where / "report.html", "A report", parts, ["It is made up."], ["rtil eval"])


@pytest.fixture
def open_page(browser, report):
    """Opens the page, which must neither complain nor fetch anything."""
    said, contexts = [], []

    def open_it(**options):
        contexts.append(browser.new_context(viewport={"width": 1200, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        page.goto(report.as_uri())
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert said == []


def shown(page, selector):
    return [element for element in page.locator(selector).all() if element.is_visible()]


def first_row(page):
    """The first row of pictures, drawn."""
    row = page.locator("#p1 .row").first
    row.scroll_into_view_if_needed()
    row.locator(f".tile[data-name] {DRAWN}").first.wait_for()
    return row


def pixels(canvas):
    return np.array(canvas.evaluate(PIXELS), np.uint8).reshape(SIDE, SIDE, 4)[..., :3]


def tile(row, name):
    return row.locator(f'.tile[data-name="{name}"]')


def test_a_head_sorts_by_its_column_and_says_how(open_page):
    page = open_page()
    table = page.locator("#p1 table.sortable")
    column = [head.inner_text().strip() for head in table.locator("thead th").all()].index("PSNR")
    keys = f"table => [...table.tBodies[0].rows].map(row => Number(row.cells[{column}].dataset.key))"
    head = table.locator("thead th").nth(column)
    for order, sign in (("descending", -1), ("ascending", 1)):
        head.locator("button").press("Enter")
        assert head.get_attribute("aria-sort") == order
        found = table.evaluate(keys)
        assert found == sorted(found, key=lambda value: sign * value)


def test_filters_hide_other_tasks_levels_and_methods_everywhere(open_page):
    page = open_page()
    part = page.locator("#p1")
    part.locator("[data-filter=task]").select_option("cs")
    rows = shown(page, "#p1 tbody tr[data-name]")
    assert {row.get_attribute("data-task") for row in rows} == {"cs"}
    part.locator("[data-filter=cell]").select_option("cs 25 %")
    assert len(shown(page, "#p1 tbody tr[data-name]")) == 6
    assert [section.get_attribute("data-cell") for section in shown(page, "#p1 section.cell")] == ["cs 25 %"]
    part.get_by_label("linear", exact=True).uncheck()
    assert len(shown(page, "#p1 tbody tr[data-name]")) == 5
    assert shown(page, '#p1 [data-name="linear"]') == []
    assert len(shown(page, "#p2 tbody tr[data-name]")) == 30


def test_pictures_are_drawn_when_they_come_into_view(open_page):
    page = open_page()
    last = page.locator("#p2 .row").last
    assert last.locator(DRAWN).count() == 0
    last.scroll_into_view_if_needed()
    last.locator(DRAWN).first.wait_for()


def test_a_reconstruction_flips_to_the_truth_under_the_pointer_and_by_a_key(open_page):
    page = open_page()
    row = first_row(page)
    method, button = tile(row, "ilo, rtil"), tile(row, "ilo, rtil").locator("button")
    truth, own = pixels(row.locator("canvas").first), pixels(method.locator("canvas"))
    assert (truth != own).any()

    def shows(wanted):
        return page.wait_for_timeout(300) or (pixels(method.locator("canvas")) == wanted).all()

    button.hover()
    assert shows(truth)
    assert method.locator("figcaption").inner_text().startswith("truth")
    page.mouse.move(0, 0)
    assert shows(own)
    button.press("Enter")
    assert shows(truth)
    assert button.get_attribute("aria-pressed") == "true"
    assert button.get_attribute("aria-label").endswith("showing the truth")
    button.press("Enter")
    button.press("t")
    assert shows(truth)
    button.press("t")
    assert shows(own)
    button.press("ArrowRight")
    assert page.evaluate("document.activeElement.closest('.tile').dataset.name") == "csgm, vanilla"


def test_error_maps_have_the_colours_of_the_absolute_error(open_page):
    page = open_page()
    row = first_row(page)
    canvas = tile(row, "ilo, vanilla").locator("canvas")
    truth, own = pixels(row.locator("canvas").first).astype(int), pixels(canvas).astype(int)
    page.locator("#p1 input[value=error]").check()
    page.wait_for_timeout(500)
    error = abs(truth - own).mean(-1) / 255
    wanted = colormaps["magma"](np.round(255 * np.minimum(error / WHITE_ERROR, 1)).astype(int), bytes=True)[..., :3]
    found = pixels(canvas).astype(int)
    assert abs(found - wanted).max() <= 6  # a mean that lies between two colours may be rounded to either


@pytest.mark.parametrize(("order", "pick"), [("worst", min), ("best", max), ("extremes", min)])
def test_worst_and_best_come_first(open_page, order, pick):
    page = open_page()
    page.locator("#p1 [data-by]").select_option("ilo, rtil")
    page.locator("#p1 [data-order]").select_option(order)
    section = page.locator("#p1 section.cell").first
    section.locator(".more").click()
    values = [float(b.inner_text().split()[0]) for b in section.locator('.tile[data-name="ilo, rtil"] b').all()]
    assert len(values) == 9
    assert values[0] == pick(values)
    if order == "extremes":
        assert values[3] == max(values)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_can_read_it(open_page, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra 'dev': make setup")
    page = open_page(color_scheme=scheme, bypass_csp=True)  # axe is a script of its own
    first_row(page)
    found = axe.Axe().run(page).response["violations"]
    grave = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
    assert grave == []


def test_the_switch_wins_over_the_system(open_page):
    page = open_page(color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(ground) != light
    page.get_by_role("button", name="Light").click()
    assert page.evaluate(ground) == light


def test_paper_has_no_controls(open_page):
    page = open_page()
    page.emulate_media(media="print")
    assert shown(page, ".filters, .theme, .help") == []
    assert shown(page, "#p1 table.sortable")


def test_without_scripts_words_tables_and_charts_are_there(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#p1 .says li").count() > 1
    assert page.locator("#p1 .plot").count() > 1
    assert page.locator("noscript p").first.is_visible()
    context.close()


def test_screens_of_all_widths_hold_it(open_page, tmp_path: Path):
    page = open_page()
    for width in (360, 1600):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=tmp_path / "page.png")
    assert len(Image.open(tmp_path / "page.png").getcolors(2**24) or ()) > 10
