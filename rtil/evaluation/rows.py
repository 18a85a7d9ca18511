"""Results as rows, one image and one cell each, in a JSON-lines file that survives a kill at any moment.

A batch of rows is written in one piece and synced to disk before it counts. A line that a kill cut short has no
newline at its end; it is dropped when the file is opened again, and its row is computed anew. So is the row of a line
that was damaged later, which its check sum tells; such lines are set aside in ``rows.damaged``. Every line is plain
JSON: NaN ("not available") is null, an infinity is the text "inf" or "-inf". Rows carry their key; a finished key is
not computed twice.
"""

import dataclasses
import errno
import hashlib
import json
import logging
import math
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rtil.errors import RunError
from rtil.files import atomic_path, writing
from rtil.inverse.operators import OPERATORS

Level = float | str | None
NO_CHECKPOINT = "-"
"""In place of a checkpoint's name, in rows of methods that have none."""
OLDER_NAMES = {"mixes_differently": "trained_otherwise"}
"""What fields were called in files of older versions."""
OF_SOME = ("scores", "coverage", "spread", "interval_scale", "picture")
"""Fields that stand in a line only where they say something."""
ROWS = "rows.jsonl"
CHECK = ', "check": "'
"""Between the values of a line and the CRC-32 of what stands before it; older versions wrote none."""

log = logging.getLogger(__name__)


class RowKey(NamedTuple):
    """What makes a row the only one of its kind."""

    image: str
    method: str
    task: str
    level: Level
    checkpoint: str
    seed: int
    settings: str


@dataclass(frozen=True)
class Row:
    """One picture and what it is worth.

    Attributes:
        image: Stable id of the picture.
        method: "ilo", "csgm", "mganprior-20" (with its number of codes), the name of a variant, "linear", "tv", ...
        task: A name of :data:`rtil.inverse.operators.OPERATORS`, or "classifier".
        level: Value of the task's parameter (the rate of cs, ...); the mask's name with a mask file; the class of
            classifier; None without.
        checkpoint: Name given to the checkpoint; "-" for methods without one.
        seed: Root seed of operator and solver.
        settings: :func:`settings_hash` of everything else that decides the result.
        psnr: dB, of the selected picture; NaN, as ssim and lpips, of tasks that reconstruct nothing.
        ssim: -1..1.
        lpips: 0 is equal; NaN without weights.
        seconds: Time of the inversion, divided among the images of its batch.
        status: "ok" or "diverged".
        selection: Which iterate was returned: "measurement", "heldout", "last", ...; "-" where there are none.
        psnr_oracle: dB, of the iterate that is best against the truth: no method can know it; NaN if not computed.
        psnr_round: dB, of the picture that each round ended with.
        measurement_error: ||A x - y||^2 in generator units, scaled to the picture's mean squared error.
        kimg: Training length of the checkpoint in thousands of images; NaN without a checkpoint.
        arch: Architecture of the checkpoint; "" without one, and in rows of older versions.
        rtil: Whether the checkpoint was trained with RTIL.
        trained_otherwise: Whether that training had other random input, or at another place, than the method optimises.
        converged: Whether the picture met the measurements within the method's tolerance; None for methods that have
            none (all but PULSE), and in rows of older versions.
        scores: What the task tells besides, by name; of classifier the probabilities and likeliest classes, before and
            after, and how far the picture moved.
        coverage: Share of the pixels that the intervals of 50, 80, 90 and 95 % hold (:mod:`rtil.inverse.intervals`);
            empty of results that are no mean of several attempts.
        spread: Mean standard deviation of those, pictures in [0, 1].
        interval_scale: By which factor the intervals were widened.
        picture: :func:`rtil.evaluation.held_out.picture_hash` of what was measured; "" of tasks that measure nothing,
            and in rows of older versions.
    """

    image: str
    method: str
    task: str
    level: Level
    checkpoint: str
    seed: int
    settings: str
    psnr: float = math.nan
    ssim: float = math.nan
    lpips: float = math.nan
    seconds: float = math.nan
    status: str = "ok"
    selection: str = "-"
    psnr_oracle: float = math.nan
    psnr_round: Sequence[float] = ()
    measurement_error: float = math.nan
    kimg: float = math.nan
    arch: str = ""
    rtil: bool = False
    trained_otherwise: bool = False
    converged: bool | None = None
    scores: Mapping[str, float | str] = field(default_factory=dict)
    coverage: Sequence[float] = ()
    spread: float = math.nan
    interval_scale: float = math.nan
    picture: str = ""

    @property
    def key(self) -> RowKey:
        """The row's identity in its file."""
        return RowKey(*(getattr(self, name) for name in RowKey._fields))

    @property
    def not_finite(self) -> list[str]:
        """Names of the numbers that should be finite and are not; equal pictures rightly have an infinite PSNR."""
        if self.scores:
            numbers: dict[str, float | str] = dict(self.scores)
        else:
            numbers = {name: getattr(self, name) for name in ("psnr", "ssim", "measurement_error")}
            numbers |= {f"psnr_round {number}": psnr for number, psnr in enumerate(self.psnr_round, start=1)}
        return [name for name, value in numbers.items() if isinstance(value, float) and not _is_fine(name, value)]


class RowFile:
    """A file of rows that is only ever appended to.

    Args:
        path: JSON-lines file; made on the first row. One writer at a time.
        beside: Files of other processes of the same evaluation, whose rows count as finished.

    Raises:
        RunError: A file cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "rows.jsonl"
        >>> row = Row("a.png", "ilo", "cs", 0.1, "vanilla", 0, "", psnr=20.0, ssim=0.7, seconds=1.0)
        >>> RowFile(path).extend([row])
        >>> row.key in RowFile(path)
        True
    """

    def __init__(self, path: str | Path, beside: Sequence[Path] = ()) -> None:
        self.path = Path(path)
        found = read_rows(self.path)
        warn_of_damage(self.path, found)
        mend(self.path, found)
        rows = found.rows
        for other in beside:
            found = read_rows(other)
            warn_of_damage(other, found)
            rows += found.rows
        self._rows: dict[RowKey, Row] = {}
        for row in rows:
            self._rows.setdefault(row.key, row)

    def __contains__(self, key: RowKey) -> bool:
        return key in self._rows

    def rows(self) -> list[Row]:
        """Return all rows in the file, in the order they were written, and behind them those of the files beside."""
        return list(self._rows.values())

    def extend(self, rows: Iterable[Row]) -> None:
        """Write a batch of rows; all are on disk when this returns.

        Raises:
            ValueError: A row's key is in the file already.
            RunError: The disk is full, or does not take them for another reason.
        """
        rows = list(rows)
        new = {row.key: row for row in rows}
        repeated = [key for key in new if key in self._rows]
        if repeated or len(new) != len(rows):
            raise ValueError(
                f"rows of {self.path} must have distinct keys; written twice: {repeated or 'in one batch'}"
            )
        data = "".join(row_to_line(row) for row in rows).encode()
        with writing(self.path), self.path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
                os.fsync(file.fileno())
            except OSError:  # a full disk must not leave half a line for later rows to be glued to
                file.truncate(size)
                raise
        self._rows.update(new)


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Return 12 hex digits that depend on the names and values of JSON-like settings, not on their order.

    Example:
        >>> settings_hash({"lr": 0.1, "steps": [100, 60]}) == settings_hash({"steps": [100, 60], "lr": 0.1})
        True
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def row_to_line(row: Row) -> str:
    """Return the row as a line of a file, with its check sum."""
    text = json.dumps(row_to_json(row), allow_nan=False)
    return f'{text[:-1]}{CHECK}{_check_sum(text)}"}}\n'


def row_from_line(line: bytes) -> Row:
    """Return the row of one line.

    Raises:
        KeyError: A part of the key is missing.
        OverflowError: A number is too large.
        RecursionError: It is nested too deep.
        TypeError: A value is of another type.
        ValueError: It is not JSON, or not what was written.
    """
    text = line.decode().strip()
    values = json.loads(text, parse_constant=_no_constant)
    if not isinstance(values, dict):
        raise TypeError(f"a row is a table, not {type(values).__name__}")
    before, mark, check = text.rpartition(CHECK)
    if mark and check != _check_sum(before + "}") + '"}':
        raise ValueError("its check sum is another one")
    return row_from_json(values)


def row_to_json(row: Row) -> dict[str, Any]:
    """Return the row as JSON-like values; also names the level as users do: rate, factor, sigma, ..."""
    values: dict[str, Any] = {name: _plain(value) for name, value in vars(row).items()}
    values = {name: value for name, value in values.items() if value or name not in OF_SOME}
    parameters = OPERATORS[row.task].parameters if row.task in OPERATORS else ()
    return values | dict.fromkeys(parameters[:1], values["level"])


def row_from_json(values: Mapping[str, Any]) -> Row:
    """Return the row of one line's values; names that a row does not have are ignored.

    Raises:
        KeyError: A part of the key is missing; all else came with later versions, or is not of every task.
        TypeError: A value is of another type.
    """
    values = {OLDER_NAMES.get(name, name): value for name, value in dict(values).items()}
    fields = [f for f in dataclasses.fields(Row) if f.name in values or f.name in RowKey._fields]
    return Row(**{f.name: _typed(f.name, f.type, values[f.name]) for f in fields})


def read_rows(path: Path) -> "Found":
    """Read a file of rows without touching it: its owner may be writing; an absent one has none.

    Raises:
        RunError: It cannot be read.
    """
    try:
        *lines, rest = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return Found([], [], b"")
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}): mend that, or give another folder") from error
    rows, damaged = [], []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(row_from_line(line))
        except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
            damaged.append(Damage(number, line, f"{type(error).__name__}: {error}"))
    return Found(rows, damaged, rest)


def warn_of_damage(path: Path, found: "Found") -> None:
    """Tell how many lines of a file are damaged, and what is wrong with the first."""
    if found.damaged:
        count, (number, _, reason) = len(found.damaged), found.damaged[0]
        text = "%s: damaged lines, whose rows do not count: %d (first: line %d, %.100s)"
        log.warning(text, path, count, number, reason)


class Damage(NamedTuple):
    """A line that is not a row any more."""

    number: int
    line: bytes
    reason: str


class Found(NamedTuple):
    """What is in a file: rows, damaged lines, and the beginning of a line that a kill cut short."""

    rows: list[Row]
    damaged: list[Damage]
    rest: bytes


def mend(path: Path, found: Found) -> None:
    """Cut off a line that was cut short, and set damaged lines aside; for the owner of the file alone."""
    if found.damaged:
        aside = path.with_suffix(".damaged")
        with writing(aside), aside.open("ab") as file:
            file.write(b"".join(damage.line + b"\n" for damage in found.damaged))
        with atomic_path(path) as temporary:
            temporary.write_bytes("".join(map(row_to_line, found.rows)).encode())
        log.warning("%s: the damaged lines are kept in %s", path, aside.name)
    elif found.rest:
        with writing(path):
            os.truncate(path, path.stat().st_size - len(found.rest))
    if found.rest:
        log.warning("%s: dropped a last line that was cut short (%d bytes)", path, len(found.rest))


def _check_sum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _typed(name: str, kind: Any, value: Any) -> Any:
    """Return a value of a line as a row has it."""
    if kind is float:
        return _number(value)
    if name in ("psnr_round", "coverage") and isinstance(value, list):
        return tuple(map(_number, value))
    if name == "scores" and isinstance(value, dict):
        return {name: _score(score) for name, score in value.items()}
    if name == "level" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if (
        name in ("psnr_round", "coverage", "scores")
        or not isinstance(value, kind)
        or (kind is int and isinstance(value, bool))
    ):
        raise TypeError(f"{name} is {value!r:.60}")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if value in ("inf", "-inf") or (isinstance(value, int | float) and not isinstance(value, bool)):
        return float(value)
    raise TypeError(f"{value!r:.60} is not a number")


def _score(value: Any) -> float | str:
    return value if isinstance(value, str) and value not in ("inf", "-inf") else _number(value)


def _is_fine(name: str, value: float) -> bool:
    return math.isfinite(value) or (name.startswith("psnr") and value == math.inf)
