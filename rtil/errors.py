"""User mistakes: one line that says what was got, what is valid and what to do. The commands exit with code 2."""

import difflib
import unicodedata
from collections.abc import Iterable

LONGEST = 200
"""Letters of what another library says that a message repeats."""
UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of letters that change what is around them, or cannot be written at all."""


class UserError(ValueError):
    """A mistake in what the user asked for, not in the program; its message is one line."""


class RunError(UserError):
    """Something outside the program that stops work which had begun: a full disk, a damaged file, another process."""


class Notice(UserWarning):
    """Something that the user should know while work goes on; commands print its message as one line."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Return ``"; did you mean 'X'?"`` for the nearest valid name, or ``""`` when none is near.

    Example:
        >>> did_you_mean("stylgan2", ["stylegan2", "pggan"])
        "; did you mean 'stylegan2'?"
    """
    near = difflib.get_close_matches(name, list(valid), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def unknown(kind: str, name: object, valid: Iterable[str]) -> UserError:
    """Return the error for a name that is not among the valid ones."""
    names = list(valid)
    return UserError(f"unknown {kind} '{name}': valid are {', '.join(names)}{did_you_mean(str(name), names)}")


def in_short(error: BaseException) -> str:
    """Return what an exception of another library says, in one line and cut short; its name where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def printable(text: object) -> str:
    r"""Return text of files and names without what a terminal would obey: escape codes, line ends, turned writing.

    Example:
        >>> printable("face\x1b[2J.png"), printable("ä b"), printable("\udcff")
        ('face\\x1b[2J.png', 'ä b', '\\udcff')
    """
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in UNPRINTABLE else letter
        for letter in str(text)
    )
