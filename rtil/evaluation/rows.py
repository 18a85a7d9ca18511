"""Results as rows, one image and one cell each, in a JSON-lines file that survives a kill at any moment.

A batch of rows is written in one piece and synced to disk before it counts. A line that a kill cut short has no
newline at its end; it is dropped when the file is opened again, and its row is computed anew. Every line is plain JSON:
NaN ("not available") is null, an infinity is the text "inf" or "-inf". Rows carry their key; a finished key is not
computed twice.
"""

import dataclasses
import errno
import hashlib
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rtil.errors import RunError
from rtil.files import writing
from rtil.inverse.operators import OPERATORS

Level = float | str | None
NO_CHECKPOINT = "-"
"""In place of a checkpoint's name, in rows of methods that have none."""
OLDER_NAMES = {"mixes_differently": "trained_otherwise"}
"""What fields were called in files of older versions."""

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
        selection: Which iterate was returned: "measurement", "heldout", "last"; "-" where there are none.
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

    @property
    def key(self) -> RowKey:
        """The row's identity in its file."""
        return RowKey(*(getattr(self, name) for name in RowKey._fields))


class RowFile:
    """A file of rows that is only ever appended to.

    Args:
        path: JSON-lines file; made on the first row. One writer at a time.

    Raises:
        RunError: The file holds a whole line that is not a row.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "rows.jsonl"
        >>> row = Row("a.png", "ilo", "cs", 0.1, "vanilla", 0, "", psnr=20.0, ssim=0.7, seconds=1.0)
        >>> RowFile(path).extend([row])
        >>> row.key in RowFile(path)
        True
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._rows = {row.key: row for row in _read(self.path)}

    def __contains__(self, key: RowKey) -> bool:
        return key in self._rows

    def rows(self) -> list[Row]:
        """Return all rows in the file, in the order they were written."""
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
        data = "".join(json.dumps(row_to_json(row), allow_nan=False) + "\n" for row in rows).encode()
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


def row_to_json(row: Row) -> dict[str, Any]:
    """Return the row as JSON-like values; also names the level as users do: rate, factor, sigma, ..."""
    values: dict[str, Any] = {name: _plain(value) for name, value in vars(row).items()}
    if not row.scores:
        del values["scores"]
    parameters = OPERATORS[row.task].parameters if row.task in OPERATORS else ()
    return values | dict.fromkeys(parameters[:1], values["level"])


def row_from_json(values: Mapping[str, Any]) -> Row:
    """Return the row of one line; names that a row does not have are ignored.

    Raises:
        KeyError: A part of the key is missing; all else came with later versions, or is not of every task.
        TypeError: A number is something else.
        ValueError: A number cannot be read.
    """
    values = {OLDER_NAMES.get(name, name): value for name, value in dict(values).items()}
    fields = dataclasses.fields(Row)
    got = {f.name: values[f.name] for f in fields if f.name in values or f.name in RowKey._fields}
    got |= {f.name: _number(got.get(f.name)) for f in fields if f.type is float}
    got["psnr_round"] = tuple(_number(value) for value in got.get("psnr_round", ()))
    got["scores"] = {name: _score(value) for name, value in dict(got.get("scores", {})).items()}
    return Row(**got)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _number(value: float | str | None) -> float:
    return math.nan if value is None else float(value)


def _score(value: float | str | None) -> float | str:
    return value if isinstance(value, str) and value not in ("inf", "-inf") else _number(value)


def _read(path: Path) -> list[Row]:
    """Return the rows of a file; a last line that was cut short is cut off."""
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        log.warning("%s: dropped a last line that was cut short (%d bytes)", path, len(data) - whole)
        os.truncate(path, whole)
    rows = []
    for number, line in enumerate(data[:whole].splitlines(), start=1):
        try:
            rows.append(row_from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{path} line {number} is not a row ({type(error).__name__}: {error}): mend or delete that line"
            ) from error
    return rows
