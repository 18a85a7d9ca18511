"""Tables of an evaluation: summary.csv with every number, a terminal table, and Markdown for documents."""

import csv
import dataclasses
import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from rtil.evaluation.rows import NO_CHECKPOINT, Level, Row
from rtil.evaluation.statistics import Difference, Interval
from rtil.evaluation.summary import LINEAR, Cell, summarise
from rtil.files import atomic_path
from rtil.inverse.operators import OPERATORS

TERMINAL_COLUMNS = 120
MARK = "\u2020"
NOT_AVAILABLE = "n/a"

NOTES = (
    "PSNR: mean over the images, +- half of its 95 % interval. Differences are paired by image, with 95 % bootstrap",
    "intervals over images (one operator a cell, one training a checkpoint); win: share of images it is better on.",
    "*: chosen with the truth, so out of a method's reach. best round: mean PSNR when stopped after that round, and",
    "the distance to the reference stopped after its own best round; oracle: each image's best iterate.",
    "linear: Gaussian posterior mean from the training pictures' covariance; vs linear: dB above it.",
)

BASELINE_NOTES = {
    "adjoint": "the least picture that fits",
    "bicubic": "enlarged",
    "tv": "total variation",
    "bm3d": "block matching",
}


MIXES_DIFFERENTLY = (
    f"{MARK}: trained with RTIL, but with other random input, or at another place, than this method optimises."
)
CONSISTENT = (
    "colorize: every method's result, also after rounds and of the oracle, is moved to the nearest picture with the",
    "observed luma (unless the measurement is noisy); this never takes it farther from the truth.",
)


def write_summary(rows: Sequence[Row], path: str | Path) -> None:
    """Write one line for each cell to a CSV file, atomically; numbers that are not available are empty.

    Args:
        rows: Rows of one evaluation.
        path: File to write. Columns: see :class:`rtil.evaluation.summary.Cell`; an interval ``psnr`` becomes ``psnr``
            (the mean), ``psnr_low``, ``psnr_high`` and ``psnr_left_out`` (values that were not finite); a difference
            has ``_win_rate`` and ``_n`` instead of the last; ``rounds`` becomes ``psnr_round_1`` and so on.
    """
    cells = summarise(rows)
    rounds = max((len(cell.rounds) for cell in cells), default=0)
    lines = [_csv_line(cell, rounds) for cell in cells]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]) if lines else ["task"])
        writer.writeheader()
        writer.writerows(lines)


def terminal_table(rows: Sequence[Row]) -> str:
    """Return an aligned plain-text table, at most 120 columns wide, with a legend."""
    cells = summarise(rows)
    if not cells:
        return "no rows"
    labels = checkpoint_labels(cells)
    header = ["method", "checkpoint", "n", "PSNR dB", "SSIM", "LPIPS", f"vs {_reference(cells)[:10]} [95 %]", "win"]
    header += ["best round*", "vs*", "oracle*", "vs linear"]
    lines = [_terminal_line(cell, label) for cell, label in zip(cells, labels, strict=True)]
    used = [i for i in range(len(header)) if i < 6 or any(line[i] not in ("", NOT_AVAILABLE) for line in lines)]
    table = [[line[i] for i in used] for line in [header, *lines]]
    widths = [max(len(line[i]) for line in table) for i in range(len(used))]
    excess = sum(widths) + 2 * (len(widths) - 1) - TERMINAL_COLUMNS
    widths[1] = max(widths[1] - max(excess, 0), len("checkpoint"))
    gap = " " if sum(widths) + 2 * (len(widths) - 1) > TERMINAL_COLUMNS else "  "
    text = [_aligned(table[0], widths, gap)]
    for i, cell in enumerate(cells):
        if i == 0 or _place(cell) != _place(cells[i - 1]):
            text.append(f"-- {_place(cell)} ".ljust(len(text[0]), "-"))
        text.append(_aligned(table[i + 1], widths, gap))
    return "\n".join([*text, *_legend(cells)])


def markdown_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table with all intervals and the PSNR after every round, for documents."""
    cells = summarise(rows)
    if not cells:
        return "no rows"
    labels = checkpoint_labels(cells)
    header = [
        "task",
        "method",
        "checkpoint",
        "kimg",
        "n",
        "PSNR dB [95 %]",
        "SSIM",
        "LPIPS",
        f"vs {_reference(cells)} dB [95 %]",
    ]
    header += ["win", "after each round* dB", "best rounds compared* dB", "oracle* dB", "vs linear dB [95 %]"]
    lines = [header, ["---"] * 3 + ["---:"] * (len(header) - 3)]
    for cell, label in zip(cells, labels, strict=True):
        lines.append(
            [
                _place(cell),
                method_label(cell),
                label,
                "" if _without_checkpoint(cell) else _number(cell.kimg, "{:g}"),
                str(cell.n),
                _with_interval(cell.psnr, "{:.2f}"),
                _number(cell.ssim.mean, "{:.3f}"),
                _number(cell.lpips.mean, "{:.3f}"),
                _with_interval(cell.psnr_gain, "{:+.2f}"),
                _percent(cell.psnr_gain),
                " / ".join(_number(value, "{:.2f}") for value in cell.rounds),
                _with_interval(cell.best_round_gain, "{:+.2f}"),
                "" if _without_checkpoint(cell) else _number(cell.oracle.mean, "{:.2f}"),
                _with_interval(cell.over_linear, "{:+.2f}"),
            ]
        )
    table = "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)
    return "\n".join([table, "", *[line.replace("*:", "\\*:") for line in _legend(cells)]])


def _terminal_line(cell: Cell, label: str) -> list[str]:
    half = (cell.psnr.high - cell.psnr.low) / 2
    best = f"{cell.rounds[cell.best_round - 1]:.2f} ({cell.best_round}/{len(cell.rounds)})" if cell.best_round else ""
    return [
        method_label(cell),
        label,
        str(cell.n),
        _number(cell.psnr.mean, "{:.2f}") + (f" +-{half:.2f}" if math.isfinite(half) else ""),
        _number(cell.ssim.mean, "{:.3f}"),
        _number(cell.lpips.mean, "{:.3f}"),
        _with_interval(cell.psnr_gain, "{:+.2f}"),
        _percent(cell.psnr_gain),
        best,
        "" if cell.best_round_gain is None else _number(cell.best_round_gain.mean, "{:+.2f}"),
        "" if _without_checkpoint(cell) else _number(cell.oracle.mean, "{:.2f}"),
        "" if cell.over_linear is None else _number(cell.over_linear.mean, "{:+.2f}"),
    ]


def _aligned(line: Sequence[str], widths: Sequence[int], gap: str) -> str:
    parts = []
    for i, (text, width) in enumerate(zip(line, widths, strict=True)):
        short = text if len(text) <= width else text[: width - 1] + "~"
        parts.append(short.ljust(width) if i < 2 else short.rjust(width))
    return gap.join(parts).rstrip()


def checkpoint_labels(cells: Sequence[Cell]) -> list[str]:
    """Name each cell's checkpoint, with selection and settings where a method has several within the table."""
    selections: dict[str, set[str]] = {}
    for cell in cells:
        selections.setdefault(cell.method, set()).add(cell.selection)

    def label(cell: Cell) -> str:
        return f"{cell.checkpoint}/{cell.selection}" if len(selections[cell.method]) > 1 else cell.checkpoint

    settings: dict[tuple[str, str, str], set[str]] = {}
    for cell in cells:
        settings.setdefault((_place(cell), cell.method, label(cell)), set()).add(cell.settings)
    several = {key for key, hashes in settings.items() if len(hashes) > 1}
    return [
        f"{label(cell)} #{cell.settings[:4]}" if (_place(cell), cell.method, label(cell)) in several else label(cell)
        for cell in cells
    ]


def method_label(cell: Cell) -> str:
    """Name a cell's method, marked where training and method mix differently."""
    return f"{cell.method}{MARK}" if cell.mixes_differently else cell.method


def _without_checkpoint(cell: Cell) -> bool:
    return cell.checkpoint == NO_CHECKPOINT


def _place(cell: Cell) -> str:
    return f"{cell.task} {level_text(cell.task, cell.level)}".rstrip()


def level_text(task: str, level: Level) -> str:
    """Return a level as people write it.

    Example:
        >>> level_text("cs", 0.05), level_text("sr", 4), level_text("denoise", 25.0), level_text("inversion", None)
        ('5 %', 'x4', 'sigma 25', '')
    """
    if level is None or isinstance(level, str):
        return level or ""
    forms: dict[str, Callable[[float], str]] = {"sr": "x{:g}".format, "denoise": "sigma {:g}".format}
    forms |= {"blur": "{:g} px".format, "motion": "{:g} px".format, "phase": _masks}
    return forms[task](level) if task in forms else f"{100 * level:g} %"


def nonlinear_note(tasks: Sequence[str]) -> list[str]:
    """Return the line that says which of the tasks have no linear prior, or no line."""
    found = [task for task in dict.fromkeys(tasks) if task in OPERATORS and not OPERATORS[task].linear]
    if not found:
        return []
    return [f"{', '.join(found)}: nonlinear, so without the linear prior, which is for linear operators only."]


def _masks(number: float) -> str:
    return f"{number:g} mask{'s' * (number != 1)}"


def _legend(cells: Sequence[Cell]) -> list[str]:
    diverged: dict[str, int] = {}
    for cell in cells:
        name = f"{cell.method} {cell.checkpoint}"
        diverged[name] = diverged.get(name, 0) + cell.diverged
    counts = ", ".join(f"{name} {count}" for name, count in diverged.items() if count)
    text = f"Diverged reconstructions (their best finite iterate is kept): {counts}." if counts else ""
    kimg = {cell.checkpoint: cell.kimg for cell in cells if math.isfinite(cell.kimg)}
    trained = ", ".join(f"{name} {length:g}" for name, length in kimg.items())
    lengths = [f"Training length in thousands of images: {trained}."] if kimg else []
    compared = ", ".join(f"{name} with {reference}" for name, reference in _references(cells).items())
    references = [f"Compared: {compared}."] if len(set(_references(cells).values())) > 1 else []
    tuned = [f"{c.method} {c.checkpoint}" for c in cells if c.reference and c.settings != c.reference_settings]
    if tuned:
        references.append(
            f"With other settings than its reference (see settings.json): {', '.join(dict.fromkeys(tuned))}."
        )
    notes = [*(NOTES if any(cell.method == LINEAR for cell in cells) else NOTES[:-1])]
    met = [name for name in BASELINE_NOTES if any(_without_checkpoint(c) and c.method == name for c in cells)]
    notes += [f"Without a network: {'; '.join(f'{name}, {BASELINE_NOTES[name]}' for name in met)}."] if met else []
    notes += [MIXES_DIFFERENTLY] if any(cell.mixes_differently for cell in cells) else []
    notes += nonlinear_note([cell.task for cell in cells])
    notes += CONSISTENT if any(cell.task == "colorize" for cell in cells) else []
    return [line for part in (text, *lengths, *references) for line in textwrap.wrap(part, TERMINAL_COLUMNS)] + notes


def _references(cells: Sequence[Cell]) -> dict[str, str]:
    """Return the reference of each checkpoint that has one."""
    return {cell.checkpoint: cell.reference for cell in cells if cell.reference}


def _reference(cells: Sequence[Cell]) -> str:
    """Return what the column of differences is against: the reference, if there is a single one."""
    found = set(_references(cells).values())
    return found.pop() if len(found) == 1 else "reference"


def _number(value: float, form: str) -> str:
    return NOT_AVAILABLE if math.isnan(value) else form.format(value)


def _with_interval(interval: Interval | None, form: str) -> str:
    if interval is None:
        return ""
    mean = _number(interval.mean, form)
    return mean if math.isnan(interval.low) else f"{mean} [{form.format(interval.low)}, {form.format(interval.high)}]"


def _percent(difference: Difference | None) -> str:
    return "" if difference is None else _number(100 * difference.win_rate, "{:.0f} %")


def _csv_line(cell: Cell, rounds: int) -> dict[str, str]:
    line: dict[str, object] = {}
    for field in dataclasses.fields(Cell):
        name, value = field.name, getattr(cell, field.name)
        if name == "rounds":
            line |= {f"psnr_round_{r + 1}": value[r] if r < len(value) else None for r in range(rounds)}
        elif name in ("psnr", "ssim", "lpips", "oracle"):
            line |= {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
            line[f"{name}_left_out"] = value.left_out
        elif name.endswith("_gain") or name == "over_linear":
            for column, part in (
                ("", "mean"),
                ("_low", "low"),
                ("_high", "high"),
                ("_win_rate", "win_rate"),
                ("_n", "n"),
            ):
                line[name + column] = None if value is None else getattr(value, part)
        else:
            line[name] = value
    return {name: _csv_text(value) for name, value in line.items()}


def _csv_text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
