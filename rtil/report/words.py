"""An evaluation in words: who leads where, by how much, and what is not decided.

Everything is a mean over pictures or a paired difference with its 95 % interval; a lead counts as decided where the
whole interval lies on one side of 0. Below eight pictures nothing is decided. The highest mean of a cell is compared
with the next one, on the pictures that both have.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rtil.evaluation.levels import level_text
from rtil.evaluation.rows import NO_CHECKPOINT, Row
from rtil.evaluation.statistics import Difference, by_image, paired_difference
from rtil.evaluation.summary import Line
from rtil.report.parts import LEAST_PICTURES, Evaluated, is_shown, name_of

NAMED = 4
"""Open comparisons that are named one by one."""


class Lead(NamedTuple):
    """Who has the highest mean of a cell, and how far it is ahead of the next."""

    line: Line
    next: Line | None
    by: Difference | None


def statements_on(evaluated: Evaluated) -> list[str]:
    """Return what an evaluation says, one sentence or two each."""
    lines = evaluated.summary.lines
    if any(line.scores for line in lines):
        return [_class_sentence(line) for line in lines if "probability_after" in line.scores]
    found = [sentence for task in dict.fromkeys(line.task for line in lines) for sentence in _leaders(evaluated, task)]
    found += _compared(lines, lambda line: line.psnr_gain, lambda line: line.reference)
    generators = [line for line in lines if line.checkpoint != NO_CHECKPOINT]
    return found + _compared(generators, lambda line: line.over_linear, lambda _: "the linear prior")


def leads(evaluated: Evaluated, task: str) -> list[Lead]:
    """Return the leader of each cell of a task, at least one of whose means is finite."""
    found = []
    for level in dict.fromkeys(line.level for line in evaluated.summary.lines if line.task == task):
        cell = [line for line in evaluated.summary.lines if (line.task, line.level) == (task, level)]
        ranked = sorted((line for line in cell if math.isfinite(line.psnr.mean)), key=lambda line: -line.psnr.mean)
        if ranked:
            second = ranked[1] if len(ranked) > 1 else None
            rows = evaluated.rows_of(ranked[0])
            by = None if second is None else _difference(evaluated.rows_of(second), rows)
            found.append(Lead(ranked[0], second, by))
    return found


def is_decided(difference: Difference | None) -> bool:
    """Return whether the interval of a difference lies on one side of 0."""
    return difference is not None and is_shown(difference) and difference.low * difference.high > 0


def in_db(difference: Difference) -> str:
    """Return a difference with its interval, as people write it.

    Example:
        >>> in_db(Difference(2.5, 1.87, 3.48, 8, 0, 1.0))
        '+2.50 dB [+1.87, +3.48]'
    """
    if not is_shown(difference):
        return f"{difference.mean:+.2f} dB"
    return f"{difference.mean:+.2f} dB [{difference.low:+.2f}, {difference.high:+.2f}]"


def _difference(first: Sequence[Row], second: Sequence[Row]) -> Difference | None:
    a, b = ({(row.image, row.seed): row.psnr for row in rows} for rows in (first, second))
    common = sorted(a.keys() & b.keys())
    if not common:
        return None
    of_a, of_b = (by_image({key: values[key] for key in common}) for values in (a, b))
    return paired_difference(of_a, of_b)


def _leaders(evaluated: Evaluated, task: str) -> list[str]:
    """Return the leaders of a task, levels with the same one joined, and then what is open."""
    found = leads(evaluated, task)
    decided = [lead for lead in found if lead.next is None or is_decided(lead.by)]
    by_name: dict[str, list[Lead]] = {}
    for lead in decided:
        by_name.setdefault(name_of(lead.line), []).append(lead)
    sentences = [_lead_sentence(task, name, same) for name, same in by_name.items()]
    return sentences + [_open_sentence(lead) for lead in found if lead not in decided]


def _lead_sentence(task: str, name: str, same: Sequence[Lead]) -> str:
    first = same[0]
    if len(same) == 1:
        mean = f"{first.line.condition}: {name} has the highest mean PSNR, {first.line.psnr.mean:.2f} dB"
        if first.next is None or first.by is None:
            return f"{first.line.condition}: {name} reaches {first.line.psnr.mean:.2f} dB; nothing stands beside it."
        return f"{mean}, {in_db(first.by)} above {name_of(first.next)} (n = {first.by.n})."
    levels = ", ".join(level_text(task, lead.line.level) for lead in same)
    gains = [lead.by.mean for lead in same if lead.by is not None]
    if not gains:
        return f"{task} at {levels}: {name} stands alone."
    return (
        f"{task} at {levels}: {name} has the highest mean PSNR, {min(gains):+.2f} to {max(gains):+.2f} dB above the "
        "next, every interval above 0."
    )


def _open_sentence(lead: Lead) -> str:
    assert lead.next is not None  # noqa: S101  else it is decided
    start = f"{lead.line.condition}, not decided: {name_of(lead.line)} has the highest mean PSNR, "
    start += f"{lead.line.psnr.mean:.2f} dB"
    if lead.by is None or not is_shown(lead.by):
        n = 0 if lead.by is None else lead.by.n
        return f"{start}, but {n} pictures beside {name_of(lead.next)} are too few to tell ({LEAST_PICTURES} or more)."
    return f"{start}, but {in_db(lead.by)} over {name_of(lead.next)} may as well be none (n = {lead.by.n})."


def _compared(lines: Sequence[Line], of: Callable[[Line], Difference | None], to: Callable[[Line], str]) -> list[str]:
    """Return for each method and checkpoint in how many cells it is better than what it is compared with, and worse."""
    groups: dict[tuple[str, str], list[tuple[Line, Difference]]] = {}
    for line in lines:
        difference = of(line)
        if difference is not None and math.isfinite(difference.mean):
            groups.setdefault((name_of(line), to(line)), []).append((line, difference))
    return [_comparison(name, other, pairs) for (name, other), pairs in groups.items()]


def _comparison(name: str, other: str, pairs: Sequence[tuple[Line, Difference]]) -> str:
    above = [pair for pair in pairs if is_decided(pair[1]) and pair[1].mean > 0]
    below = [pair for pair in pairs if is_decided(pair[1]) and pair[1].mean < 0]
    undecided = [pair for pair in pairs if pair not in above and pair not in below]
    if len(pairs) == 1:
        (line, difference), *_ = pairs
        what = "above" if above else "below" if below else "not decided against"
        return f"{name} is {what} {other} at {line.condition}: {in_db(difference)} (n = {difference.n})."
    parts = [f"{word} in {_with_range(some)}" for word, some in (("above it", above), ("below it", below)) if some]
    if undecided:
        named = [f"{line.condition} {in_db(difference)}" for line, difference in undecided[:NAMED]]
        named += [f"{len(undecided) - NAMED} more"] if len(undecided) > NAMED else []
        parts.append(f"not decided in {len(undecided)} ({'; '.join(named)})")
    return f"{name} against {other}, in {len(pairs)} cells: {', '.join(parts)}."


def _with_range(pairs: Sequence[tuple[Line, Difference]]) -> str:
    means = [difference.mean for _, difference in pairs]
    if len(means) == 1:
        return f"1 ({pairs[0][0].condition} {in_db(pairs[0][1])})"
    return f"{len(means)} (by {min(means):+.2f} to {max(means):+.2f} dB)"


def _class_sentence(line: Line) -> str:
    before, after = (line.scores[f"probability_{when}"] for when in ("before", "after"))
    top = line.scores.get("top_after", math.nan)
    share = "" if math.isnan(top) else f"; {100 * top:.0f} % of the pictures are taken for it"
    start = f"{line.level}: {name_of(line)} moves the probability from {before:.3f} to {after:.3f}"
    return f"{start}{share} (n = {line.n})."
