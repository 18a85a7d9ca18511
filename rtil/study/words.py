"""What a study found, in words that are made from its numbers, and its tables: ``summary.md`` and ``summary.csv``.

A difference is called one only if it stays below 5 % with Holm's correction over all comparisons of its evaluation;
what is not decided is said to be so, with what could have been seen.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rtil.evaluation.families import LEVEL
from rtil.evaluation.levels import level_text
from rtil.evaluation.report import markdown, numbers_of
from rtil.evaluation.statistics import LEAST_SHOWN, Difference, Interval
from rtil.evaluation.summary import Line, Summary
from rtil.files import atomic_path
from rtil.study.results import Ratio, Result
from rtil.study.specification import Study
from rtil.study.tuning import Choice, told

RATIOS = "ratios.csv"


def statements(
    study: Study, results: Mapping[str, Result], ratios: Sequence[Ratio], choices: Sequence[Choice]
) -> list[str]:
    """Return sentences: who leads where and by how much, what is not decided, ratios of errors, what tuning chose."""
    found = []
    for name, result in results.items():
        where = f"{name}: " if len(results) > 1 else ""
        found += [where + sentence for sentence in _comparisons(result.summary)]
    found += list(_ratio_sentences(ratios, several=len(results) > 1))
    found += [_chosen(choice) for choice in choices]
    if study.tune is not None:
        found.append(
            f"Tuning gave every candidate {study.tune.trials} trials on {study.tune.images} pictures that are no test "
            "pictures; methods that end in -tuned have what it chose, the others the study's own settings."
        )
    return found


def write_words(
    study: Study, results: Mapping[str, Result], ratios: Sequence[Ratio], choices: Sequence[Choice], path: Path
) -> None:
    """Write sentences and tables as Markdown, atomically."""
    parts = [f"# {study.title}"]
    size = f"Size: {study.size}." if study.size else ""
    seeds = f"Operator seeds: {', '.join(map(str, study.seeds))}."
    trainings = f"Training seeds: {', '.join(map(str, study.training_seeds))}." if study.training_seeds else ""
    exhibit = f"After: {study.exhibit}." if study.exhibit else ""
    parts.append(" ".join(part for part in (exhibit, size, seeds, trainings, study.note) if part))
    parts.append(f"`{study.command()}`")
    parts.append("\n".join(f"* {sentence}" for sentence in statements(study, results, ratios, choices)))
    if choices:
        parts += ["## What tuning chose", _table_of_choices(choices)]
    for name, result in results.items():
        parts += [f"## {name}", markdown(result.summary)]
    with atomic_path(path) as temporary:
        temporary.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


def write_summary(results: Mapping[str, Result], path: Path) -> None:
    """Write every line of every evaluation to a CSV file, atomically.

    Columns: ``evaluation`` and ``seeds``, those of an evaluation's own summary.csv, the p value of each difference in
    PSNR and that with Holm's correction, whether that is below 5 %, and the reference's squared error as a multiple of
    the line's.
    """
    lines = []
    for name, result in results.items():
        summary = result.summary
        rounds = max((len(line.rounds) for line in summary.lines), default=0)
        for line, corrected in zip(summary.lines, summary.corrected, strict=True):
            p = math.nan if line.psnr_gain is None else line.psnr_gain.p_value
            tests = {"p": p, "p_holm": corrected, "decided": corrected < LEVEL}
            ratio = line.error_ratio or Interval(math.nan, math.nan, math.nan, 0, 0)
            of_errors = {"error_ratio": ratio.mean, "error_ratio_low": ratio.low, "error_ratio_high": ratio.high}
            own = numbers_of(line, rounds) | ({} if line.scores else tests | of_errors)
            lines.append({"evaluation": name, "seeds": line.seeds} | own)
    _write(lines, path)


def write_ratios(ratios: Sequence[Ratio], path: Path) -> None:
    """Write ratios of errors to a CSV file, atomically."""
    _write(
        [
            {
                "evaluation": one.evaluation,
                "condition": one.condition,
                "checkpoint": one.checkpoint,
                "ratio": " / ".join(one.methods),
                "value": one.interval.mean,
                "low": one.interval.low,
                "high": one.interval.high,
                "n": one.interval.n,
            }
            for one in ratios
        ],
        path,
    )


def _write(lines: Sequence[Mapping[str, object]], path: Path) -> None:
    names = list(dict.fromkeys(name for line in lines for name in line))
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names or ["evaluation"], restval="")
        writer.writeheader()
        writer.writerows({name: _text(value) for name, value in line.items()} for line in lines)


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _comparisons(summary: Summary) -> Iterator[str]:
    """Yield a sentence for each task, method and checkpoint that is compared with a reference."""
    groups: dict[tuple[str, str, str], list[tuple[Line, bool]]] = {}
    for line, decided in zip(summary.lines, summary.decided, strict=True):
        if line.psnr_gain is not None:
            groups.setdefault((line.task, line.method, line.label), []).append((line, decided))
    for (task, method, label), lines in groups.items():
        reference = lines[0][0].reference
        ahead = [line for line, decided in lines if decided and _gain(line).mean > 0]
        behind = [line for line, decided in lines if decided and _gain(line).mean < 0]
        open_ = [line for line, decided in lines if not decided]
        of = f" of {len(lines)} levels" if len(lines) > 1 else ""
        parts = []
        if ahead:
            where = f"at {len(ahead)}{of} " if of else ""
            parts.append(f"{label} leads {reference} {where}by {_span(ahead)}{_best_ratio(ahead)}")
        if behind:
            where = f"at {len(behind)}{of} " if of else ""
            parts.append(f"{label} is behind {reference} {where}by {_span(behind)}")
        if open_:
            parts.append(f"between {label} and {reference} " * (not parts) + f"not decided{_undecided(task, open_)}")
        n = min(line.n for line, _ in lines)
        seeds = f", {lines[0][0].seeds} seeds" if lines[0][0].seeds > 1 else ""
        yield f"{task}, {method}: {'; '.join(parts)} (n = {n}{seeds})."


def _gain(line: Line) -> Difference:
    assert line.psnr_gain is not None  # noqa: S101  _comparisons
    return line.psnr_gain


def _span(lines: Sequence[Line]) -> str:
    gains = sorted(abs(_gain(line).mean) for line in lines)
    if len(gains) == 1:
        return f"{gains[0]:.2f} dB{_ends(_gain(lines[0]))}"
    return f"{gains[0]:.2f} to {gains[-1]:.2f} dB"


def _ends(interval: Interval) -> str:
    if not interval.is_shown:
        return ""
    low, high = interval.low, interval.high
    if low * high > 0:  # of a difference that is told without its sign
        low, high = sorted((abs(low), abs(high)))
    return f" [{low:.2f}, {high:.2f}]"


def _best_ratio(lines: Sequence[Line]) -> str:
    best = max((line.error_ratio for line in lines if line.error_ratio), key=lambda ratio: ratio.mean, default=None)
    if best is None or not math.isfinite(best.mean):
        return ""
    most = "" if len(lines) == 1 else "at most "
    return f" ({most}{best.mean:.2f} times less squared error{_ends(best)})"


def _undecided(task: str, lines: Sequence[Line]) -> str:
    levels = ", ".join(text for line in lines if (text := level_text(task, line.level)))
    least = min(line.n for line in lines)
    if least < LEAST_SHOWN:
        why = f"{least} images are too few"
    else:
        gains = [_gain(line) for line in lines]
        seen = max(gain.detectable for gain in gains)
        means = ", ".join(f"{gain.mean:+.2f}" for gain in gains)
        why = f"{means} dB; {seen:.2f} dB would have been found in four of five times"
    return f"{' at ' + levels if levels else ''} ({why})"


def _ratio_sentences(ratios: Sequence[Ratio], several: bool) -> Iterator[str]:
    groups: dict[tuple[str, tuple[str, str], str], list[Ratio]] = {}
    for one in ratios:
        groups.setdefault((one.evaluation, one.methods, one.checkpoint), []).append(one)
    for (evaluation, (first, second), checkpoint), own in groups.items():
        told = ", ".join(f"{one.condition} {one.interval.mean:.2f}{_ends(one.interval)}" for one in own)
        where = f"{evaluation}: " if several else ""
        yield f"{where}squared error of {first} over that of {second}, {checkpoint}: {told}."


def _chosen(choice: Choice) -> str:
    best, own = choice.best, choice.trials[0]
    of = choice.candidate
    training = "" if of.training_seed is None else f" (training seed {of.training_seed})"
    return (
        f"{of.evaluation}: for {of.label} with {of.checkpoint}{training} tuning chose {told(best)}: {best.psnr:.2f} dB "
        f"on the validation pictures, {own.psnr:.2f} with the study's own settings."
    )


def _table_of_choices(choices: Sequence[Choice]) -> str:
    head = "| evaluation | method | checkpoint | chosen | by | validation dB | own settings dB | seconds |"
    lines = [head, "| --- | --- | --- | --- | --- | ---: | ---: | ---: |"]
    for choice in choices:
        of, best = choice.candidate, choice.best
        training = "" if of.training_seed is None else f" {of.training_seed}"
        by = f"trial {best.number + 1} of {len(choice.trials)}"
        seconds = sum(trial.seconds for trial in choice.trials)
        lines.append(
            f"| {of.evaluation} | {of.label} | {of.checkpoint}{training} | {told(best)} | {by} | {best.psnr:.2f} | "
            f"{choice.trials[0].psnr:.2f} | {seconds:.0f} |"
        )
    return "\n".join(lines)
