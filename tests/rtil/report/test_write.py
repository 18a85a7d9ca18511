import base64
import dataclasses
import json
import shutil
from html.parser import HTMLParser

import pytest

from rtil.errors import UserError
from rtil.evaluation.rows import read_rows, row_to_line
from rtil.report import Figure, Part, write_report

HOSTILE = "</script></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, and all text."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def figure(tmp_path):
    svg, csv = tmp_path / "a.svg", tmp_path / "a.csv"
    svg.write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    csv.write_text("a,b\n1,2\n")
    return Figure("A figure", "What it shows", svg, csv, "Its caption")


@pytest.fixture
def hostile(folder, tmp_path, figure):
    """An evaluation and a figure in which every text is hostile."""
    copy = shutil.copytree(folder, tmp_path / "hostile")
    rows = read_rows(copy / "rows.jsonl").rows
    names = {"vanilla": HOSTILE, "rtil": "rtil", "-": "-"}
    rows = [
        dataclasses.replace(
            row, image=HOSTILE + row.image, method=row.method + HOSTILE, checkpoint=names[row.checkpoint]
        )
        for row in rows
    ]
    (copy / "rows.jsonl").write_text("".join(map(row_to_line, rows)))
    settings = json.loads((copy / "settings.json").read_text())
    settings["pictures"] = [HOSTILE + name for name in settings["pictures"]]
    settings["options"] |= {"data": HOSTILE, HOSTILE: HOSTILE}
    settings["checkpoints"] = {HOSTILE: {"path": HOSTILE, "weight_hash": HOSTILE, "info": {"arch": HOSTILE}}}
    settings["identity"]["pictures"] = {"data": HOSTILE}
    settings["machines"] = [
        {"processor": {"name": HOSTILE}, "gpus": [{"name": HOSTILE}], "versions": {HOSTILE: HOSTILE}}
    ]
    (copy / "settings.json").write_text(json.dumps(settings))
    drawn = dataclasses.replace(figure, title=HOSTILE, alt=HOSTILE, caption=HOSTILE)
    return Part(HOSTILE, copy, [drawn], HOSTILE)


def test_no_text_of_a_file_becomes_html(folder, hostile, figure, tmp_path):
    calm = Page(write_report(tmp_path / "calm.html", "t", [Part("t", folder, [figure], "text")], ["s"], ["c"]))
    path = write_report(tmp_path / "hostile.html", HOSTILE, [hostile], [HOSTILE], [HOSTILE])
    page = Page(path)
    kinds = [attributes.get("type") for attributes in page.all("script")]
    assert kinds.count(None) == 1  # the page's own
    assert set(kinds) == {None, "text/plain", "application/json"}
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in calm.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert all(attributes["src"].startswith("data:") for attributes in page.all("img"))
    assert page.text.count(HOSTILE) > 20  # it is there, as text
    assert "49" not in [word for word in page.text.split() if word == "49"]


def test_nothing_is_fetched_from_elsewhere(folder, figure, tmp_path):
    page = Page(write_report(tmp_path / "report.html", "t", [Part("t", folder, [figure])]))
    addresses = [a[name] for _, a in page.elements for name in ("src", "href", "srcset", "action", "data") if name in a]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    (policy,) = (a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_figure_is_shown_as_it_is_with_its_data(folder, figure, tmp_path):
    page = Page(write_report(tmp_path / "report.html", "t", [Part("t", folder, [figure])]))
    (image,) = page.all("img")
    assert base64.b64decode(image["src"].partition("base64,")[2]) == figure.svg.read_bytes()
    assert image["alt"] == "What it shows"
    (link,) = (a for a in page.all("a") if "download" in a)
    assert base64.b64decode(link["href"].partition("base64,")[2]) == figure.csv.read_bytes()


def test_what_is_labelled_by_an_id_has_it_once(folder, tmp_path):
    page = Page(write_report(tmp_path / "report.html", "t", [Part("a", folder), Part("b", folder)]))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    asked = {a[name] for _, a in page.elements for name in ("aria-labelledby", "for") if name in a}
    assert asked <= set(ids)


def test_equal_evaluations_make_equal_pages(folder, tmp_path):
    pages = [write_report(tmp_path / name, "t", [Part("t", folder)]).read_bytes() for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]


def test_where_numbers_come_from_is_told(folder, tmp_path):
    text = Page(write_report(tmp_path / "report.html", "t", [Part("t", folder)], commands=["rtil eval --x"])).text
    for wanted in ("SHA-256", "seeds", "seconds in all", "rtil eval --x", "not recorded"):
        assert wanted in text


def test_what_cannot_be_is_told_and_leaves_the_old_page(folder, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("old")
    with pytest.raises(UserError, match="needs a part"):
        write_report(out, "t", [])
    with pytest.raises(UserError, match="holds no settings"):
        write_report(out, "t", [Part("t", folder), Part("u", tmp_path)])
    (tmp_path / "settings.json").write_text('{"options": {}}')
    with pytest.raises(UserError, match="has no rows yet"):
        write_report(out, "t", [Part("t", tmp_path)])
    assert out.read_text() == "old"
