"""What stands under a table: how its numbers came about, and what is particular about its lines."""

import math
import textwrap
from collections.abc import Sequence

from rtil.evaluation.candidates import LINEAR
from rtil.evaluation.rows import NO_CHECKPOINT
from rtil.evaluation.statistics import LEAST_SHOWN
from rtil.evaluation.summary import Summary
from rtil.inverse.operators import OPERATORS

COLUMNS = 120
MARK, DECIDED = "\u2020", "\u2021"
TRAINED_OTHERWISE = (
    f"{MARK}: trained with RTIL, but with other random input, or at another place, than this method optimises."
)
TRAINED_ELSEWHERE = (
    "Trained elsewhere, on what and for how long their files do not say, so that a difference is one of files and not "
    "of ways to train"
)
READING = (
    "PSNR: mean over the images, +- half of its 95 % interval. Differences are paired by image, with 95 % bootstrap",
    "intervals over images (one operator a cell, one training a checkpoint); win: share of images it is better on.",
    "*: chosen with the truth, so out of a method's reach. best round: mean PSNR when stopped after that round, and",
    "the distance to the reference stopped after its own best round; oracle: each image's best iterate.",
)
FEW = 30
"""Images below which a table tells what it could have missed."""
OF_LINEAR = ("linear: Gaussian posterior mean from the training pictures' covariance; vs linear: dB above it.",)
OF_COLORIZE = (
    "colorize: every method's result, also after rounds and of the oracle, is moved to the nearest picture with the",
    "observed luma (unless the measurement is noisy); this never takes it farther from the truth.",
)
BASELINES = {
    "adjoint": "the least picture that fits",
    "bicubic": "enlarged",
    "tv": "total variation",
    "bm3d": "block matching",
    "pnp-bm3d": "plug-and-play with it",
    "dpir": "plug-and-play with DRUNet",
}


def notes_on(summary: Summary) -> list[str]:
    """Return the notes of a table of reconstructions, each at most 120 columns wide."""
    lines = summary.lines
    notes = [part for note in [*_of_these(summary), *power_note(summary)] for part in textwrap.wrap(note, COLUMNS)]
    notes += [*READING, *OF_LINEAR] if any(line.method == LINEAR for line in lines) else READING
    met = {line.method for line in lines if line.checkpoint == NO_CHECKPOINT}
    baselines = "; ".join(f"{name}, {meaning}" for name, meaning in BASELINES.items() if name in met)
    notes += [f"Without a generator: {baselines}."] if baselines else []
    notes += [TRAINED_OTHERWISE] if any(line.trained_otherwise for line in lines) else []
    notes += nonlinear_note([line.task for line in lines])
    notes += OF_COLORIZE if any(line.task == "colorize" for line in lines) else []
    return notes


def power_note(summary: Summary) -> list[str]:
    """Return what the differences of a table mean where there are many of them, or few images."""
    seeds = max((line.seeds for line in summary.lines), default=1)
    gains = [line.psnr_gain for line in summary.lines if line.psnr_gain is not None and line.psnr_gain.n > 1]
    members = sum(not math.isnan(p) for p in summary.corrected)
    notes = []
    if seeds > 1:
        notes.append(f"{seeds} seeds of each image: intervals and tests are for other seeds and other images.")
    if any(summary.decided):
        notes.append(
            f"{DECIDED}: differs from its reference, by Student's paired test at 5 %, corrected (Holm) for all "
            f"{members} comparisons of this table."
        )
    few = [gain for gain in gains if gain.n < FEW and gain.detectable > 0]
    if few:
        least, most = (f"{of(gain.detectable for gain in few):.2f}" for of in (min, max))
        span = least if least == most else f"{least} to {most}"
        notes.append(
            f"Few images (n = {min(gain.n for gain in few)}): a comparison would find a difference of {span} dB in "
            "four of five such evaluations (5 %, two-sided); smaller ones it may well miss."
        )
    if any(line.n < LEAST_SHOWN for line in summary.lines):
        notes.append(f"Below {LEAST_SHOWN} images there are no intervals: they would promise too much.")
    return notes


def nonlinear_note(tasks: Sequence[str]) -> list[str]:
    """Return the line that says which of the tasks have no linear prior, or no line."""
    found = [task for task in dict.fromkeys(tasks) if task in OPERATORS and not OPERATORS[task].linear]
    if not found:
        return []
    return [f"{', '.join(found)}: nonlinear, so without the linear prior, which is for linear operators only."]


def _of_these(summary: Summary) -> list[str]:
    """Return what is said of single lines and checkpoints."""
    diverged: dict[str, int] = {}
    for line in summary.lines:
        name = f"{line.method} {line.checkpoint}"
        diverged[name] = diverged.get(name, 0) + line.diverged
    kimg = {line.checkpoint: line.kimg for line in summary.lines if math.isfinite(line.kimg)}
    elsewhere = [
        line.checkpoint
        for line in summary.lines
        if line.arch and line.checkpoint != NO_CHECKPOINT and line.checkpoint not in kimg
    ]
    compared = summary.references if len(set(summary.references.values())) > 1 else {}
    tuned = [line for line in summary.lines if line.reference and line.settings != line.reference_settings]
    found = {
        "Diverged reconstructions (their best finite iterate is kept)": [f"{n} {c}" for n, c in diverged.items() if c],
        "Training length in thousands of images": [f"{name} {length:g}" for name, length in kimg.items()],
        TRAINED_ELSEWHERE: elsewhere,
        "Compared": [f"{name} with {reference}" for name, reference in compared.items()],
        "With other settings than its reference (see settings.json)": [f"{t.method} {t.checkpoint}" for t in tuned],
    }
    return [f"{what}: {', '.join(dict.fromkeys(words))}." for what, words in found.items() if words]
