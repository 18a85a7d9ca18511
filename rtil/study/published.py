"""Numbers that the papers print, or that were read off their figures, to stand beside ours: ``published.csv``.

They are of other pictures, another size and other trainings, and are drawn so that nobody takes them for the same.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("published.csv")


@dataclass(frozen=True)
class Published:
    """A published number.

    Attributes:
        task: As a row's, as are method, checkpoint and level; "" where the paper has but one.
        metric: Of the value.
        half_width: Of its 95 % interval; None where it is not known.
        side_px: Of the pictures.
        images: How many.
        source: Where it stands.
    """

    task: str
    method: str
    checkpoint: str
    level: float
    metric: str
    value: float
    half_width: float | None
    side_px: int
    images: int
    source: str


def published(exhibit: str) -> Sequence[Published]:
    """Return the numbers of an exhibit; none where none are known."""
    with FILE.open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["exhibit"] == exhibit]
    return [
        Published(
            task=line["task"],
            method=line["method"],
            checkpoint=line["checkpoint"],
            level=float(line["level"]),
            metric=line["metric"],
            value=float(line["value"]),
            half_width=float(line["half_width"]) if line["half_width"] else None,
            side_px=int(line["side_px"]),
            images=int(line["images"]),
            source=line["source"],
        )
        for line in lines
    ]
