"""User mistakes: one line that says what was got, what is valid and what to do. The commands exit with code 2."""

import difflib
from collections.abc import Iterable


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
