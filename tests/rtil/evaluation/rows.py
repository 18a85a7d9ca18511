"""Rows made up for tests of what follows from rows."""

import math

import numpy as np

from rtil.evaluation.rows import Row

GAINS = {"vanilla": 0.0, "rtil": 1.5, "vanilla2": 0.0}


def of_solver(
    checkpoints=("vanilla", "rtil"),
    images=20,
    seeds=(0,),
    method="ilo",
    task="cs",
    level=0.1,
    settings="aaaa",
    **changes,
):
    rng = np.random.default_rng(0)
    base, made = rng.normal(20, 3, images), []
    for checkpoint in checkpoints:
        for image in range(images):
            for seed in seeds:
                gain = GAINS.get(checkpoint, 0.0)
                psnr = base[image] + gain + rng.normal(0, 0.3)
                # rtil is best after its last round, vanilla after its second
                fall = 0.0 if checkpoint == "rtil" else 1.0
                values = {"psnr": psnr, "ssim": 0.8, "lpips": 0.3 - gain / 10, "seconds": 2.0,
                          "selection": "measurement", "psnr_oracle": psnr + 2,
                          "psnr_round": (psnr - 2, psnr + fall, psnr)}  # fmt: skip
                made.append(Row(f"{image}.png", method, task, level, checkpoint, seed, settings, **(values | changes)))
    return made


def of_reference(name="linear", images=20, task="cs", level=0.1):
    """Rows of the linear prior, or of a baseline 1 dB below it."""
    psnr, lpips = (22.0, math.nan) if name == "linear" else (21.0, 0.3)
    return [Row(f"{i}.png", name, task, level, "-", 0, "bbbb", psnr, 0.9, lpips, 0.1) for i in range(images)]


def of_classifier(level="goldfish", method="ilo-r1", checkpoint="rtil", after=(0.25, 0.75), settings="aaaa"):
    """Two pictures, the second of which the classifier takes for the class in the end."""
    seen = [{"top_before": "tench", "top_after": top} for top in ("tench", level)]
    return [
        Row(
            f"generated-{i}", method, "classifier", level, checkpoint, 0, settings, seconds=3.0, selection="last",
            scores={"probability_before": 0.125, "probability_after": after[i], **seen[i], "rms_change": 0.0625},
        )
        for i in range(2)
    ]  # fmt: skip
