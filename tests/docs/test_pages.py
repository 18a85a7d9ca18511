"""Every command and every Python example of the guide and the how-to pages runs, page by page, made small."""

import re
import shlex
from pathlib import Path

import pytest

import rtil.__main__
from rtil.inverse.operators import OPERATORS
from tests.documents import LANGUAGES, commands, small

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = {
    page.relative_to(DOCS).as_posix(): text
    for page in sorted([*DOCS.glob("*.md"), *DOCS.glob("guide/*.md"), *DOCS.glob("howto/*.md")])
    if re.search(rf"```({'|'.join(LANGUAGES)})\n", text := page.read_text(encoding="utf-8"))
}


@pytest.fixture
def folder(tmp_path, monkeypatch, make_pictures):
    """A folder as a clone's root, with a few photos."""
    (tmp_path / "configs").symlink_to(DOCS.parent / "configs")
    make_pictures(tmp_path / "photos", 60, 20)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_runs(page, folder, capsys):
    names = {}
    for language, code in re.findall(rf"```({'|'.join(LANGUAGES)})\n(.*?)```", PAGES[page], re.DOTALL):
        if language == "python":
            exec(re.sub(r"steps=\([\d, ]+\)", "steps=(2, 2)", code), names)  # noqa: S102
            continue
        for command in commands(f"```bash\n{code}```"):
            program, *words = shlex.split(command)
            assert program == "rtil"
            assert rtil.__main__.main([*words, *small(command)]) == 0, f"{command}\n{capsys.readouterr().err}"
            outs = [words[i + 1] for i, word in enumerate(words) if word == "--out"]
            assert all((folder / out).exists() for out in outs)


def test_every_task_has_a_page():
    for task, description in OPERATORS.items():
        page = PAGES[f"howto/{task}.md"]
        assert f"Task `{task}`." in page
        assert all(f"--{name}`" in page for name in description.parameters)
        assert any(f"--task {task} " in command for command in commands(page))


def test_the_guide_names_every_preset():
    named = re.findall(r"`(\w+)`", PAGES["guide/options.md"])
    for preset in (DOCS.parent / "configs").glob("*/*.yaml"):
        assert preset.stem in named
