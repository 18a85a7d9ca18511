"""What studies found, in a page: replaced where it stands, everything else left."""

import json
from pathlib import Path

import pytest
from PIL import Image

from docs.studied import main

WORDS = """# Title

After: a paper.

`rtil study mine --size quick`

* cs, ilo: rtil leads vanilla.
* not decided.

## cs

| cs, mean PSNR in dB | checkpoint | 5 % |
| --- | --- | ---: |
| ilo | rtil | 20.00 |

| task | method | PSNR |
| --- | --- | ---: |
| cs 5 % | ilo | 20.00 |

Footnotes.
"""
BETWEEN = """`rtil study mine --size quick`

* cs, ilo: rtil leads vanilla.
* not decided.

| cs, mean PSNR in dB | checkpoint | 5 % |
| --- | --- | ---: |
| ilo | rtil | 20.00 |

![mine: levels](figures/study_mine.png)
"""
PAGE = """# Results

<!-- study mine -->
{}
<!-- end of study -->

By hand.
<!-- study other -->
<!-- end of study -->
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "mine-quick"
    (folder / "figures").mkdir(parents=True)
    (folder / "summary.md").write_text(WORDS)
    (folder / "settings.json").write_text(json.dumps({"study": {"figures": {"levels": {}, "bars": {}}}}))
    Image.new("RGB", (4, 3)).save(folder / "figures/levels.png")
    Image.new("RGB", (5, 3)).save(folder / "figures/bars.png")
    return folder


@pytest.mark.parametrize("there", ["", "what was there\n\n| a |\n"])
def test_what_a_study_found_replaces_what_stood_there(folder: Path, tmp_path: Path, there: str) -> None:
    page = tmp_path / "results.md"
    page.write_text(PAGE.format(there))
    for _ in range(2):
        assert main([str(page), str(folder)]) == 0
        assert page.read_text() == PAGE.format(f"\n{BETWEEN}")
    with Image.open(tmp_path / "figures/study_mine.png") as copied:
        assert copied.size == (4, 3)


def test_of_many_sentences_those_are_shown_that_decide(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text(PAGE.format(""))
    (folder / "summary.md").write_text(WORDS.replace("* not decided.", "\n".join(["* not decided."] * 20)))
    assert main([str(page), str(folder)]) == 0
    assert "* cs, ilo: rtil leads vanilla.\n* 20 comparisons of 21 are not decided.\n" in page.read_text()


def test_a_study_without_a_place_or_an_end_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "results.md"
    page.write_text("# Results\n")
    assert main([str(page), str(folder)]) == 2
    assert "has no place for mine" in capsys.readouterr().err
    (folder / "summary.md").unlink()
    page.write_text(PAGE)
    assert main([str(page), str(folder)]) == 2
    assert "holds no finished study" in capsys.readouterr().err
    assert page.read_text() == PAGE
