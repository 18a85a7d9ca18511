"""Write what studies found into a page: ``python -m docs.studied docs/results.md runs/study/rtil_figure4-quick ...``.

The page has a place for each study, between ``<!-- study NAME -->`` and ``<!-- end of study -->``; what stands there is
replaced by the study's own words, its tables by level, and its first figure, which is copied beside the page. So
numbers on the page are those of the command that is named with them; what they mean is written around them by hand.
"""

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rtil.errors import UserError
from rtil.files import atomic_path
from rtil.runs import read_settings
from rtil.study.work import FIGURES, STUDY, WORDS

END = "<!-- end of study -->"
MOST_SENTENCES = 12
IS_WANTED = re.compile(r"`rtil |\* |\| [^|]*, mean |\| evaluation \| method ")
"""How a paragraph begins that is shown: the command, sentences, tables by level, and of what tuning chose."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    page, *folders = [Path(word) for word in (sys.argv[1:] if argv is None else argv)]
    try:
        for folder in folders:
            write_into(page, folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def write_into(page: Path, folder: Path) -> None:
    """Replace what a page says of a study.

    Args:
        page: Markdown with a place for the study.
        folder: Of the study, finished.

    Raises:
        UserError: The study is not finished, or the page has no place for it.
    """
    words = folder / WORDS
    if not words.is_file():
        raise UserError(f"{folder} holds no finished study: {WORDS} is missing")
    name = folder.name.removesuffix("-quick").removesuffix("-paper")
    text, begin = page.read_text(encoding="utf-8"), f"<!-- study {name} -->"
    if text.count(begin) != 1 or END not in text.partition(begin)[2]:
        raise UserError(f"{page} has no place for {name}: write {begin} and {END} where it belongs, once")
    before, _, rest = text.partition(begin)
    after = rest.partition(END)[2]
    parts = words.read_text(encoding="utf-8").split("\n\n")
    paragraphs = [_shortened(part) if part.startswith("* ") else part for part in parts if IS_WANTED.match(part)]
    first = next(iter(read_settings(folder)[STUDY]["figures"]))
    figure = page.parent / FIGURES / f"study_{name}.png"
    figure.parent.mkdir(exist_ok=True)
    shutil.copyfile(folder / FIGURES / f"{first}.png", figure)
    shown = f"![{name}: {first}]({FIGURES}/{figure.name})"
    with atomic_path(page) as temporary:
        whole = "\n\n".join([before + begin, *(part.strip() for part in paragraphs), shown, END + after])
        temporary.write_text(whole, encoding="utf-8")


def _shortened(sentences: str) -> str:
    """Return the sentences; of many those that say who leads, and how many others there are."""
    lines = sentences.strip().splitlines()
    if len(lines) <= MOST_SENTENCES:
        return sentences
    decided = [line for line in lines if " leads " in line or " is behind " in line]
    return "\n".join([*decided, f"* {len(lines) - len(decided)} comparisons of {len(lines)} are not decided."])


if __name__ == "__main__":
    sys.exit(main())
