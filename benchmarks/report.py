"""How large a report is, and how long it takes to write and to open: ``python -m benchmarks report``.

The evaluation is made up: synthetic faces, and for each method the same faces, blurred and noisy by as much as its
level says. So its files and rows are as many as those of an evaluation that would run for hours. Opening is timed in
headless Chromium where there is one (``apt install chromium``; playwright from the extra ``dev``): until the page is
ready, and until the pictures of the first rows are drawn.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from benchmarks.frame import Recorded, print_table, run_benchmark
from rtil.data.synthetic_faces import SyntheticFaces
from rtil.evaluation.conditions import Condition
from rtil.evaluation.held_out import picture_hash
from rtil.evaluation.jobs import slug_of
from rtil.evaluation.rows import NO_CHECKPOINT, Row, RowKey, row_to_line
from rtil.report import Part, write_report
from rtil.runs import write_settings

METHODS = {
    ("ilo", "vanilla"): 1.15,
    ("ilo", "rtil"): 0.9,
    ("csgm", "vanilla"): 1.3,
    ("csgm", "rtil"): 1.25,
    ("mganprior-20", "rtil"): 1.0,
    ("linear", NO_CHECKPOINT): 0.95,
}
"""Methods with their priors, and how much worse than usual their pictures are."""
TASKS = {"cs": "rate", "inpaint": "rate", "box": "rate", "hole": "rate"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class ReportOptions(Recorded):
    """Write and open a report of a made-up evaluation.

    Args:
        pictures: Pictures of a cell.
        cells: Tasks at levels.
        methods: Methods with a prior, up to six.
        side: Of the pictures, in pixels.
    """

    pictures: int = 100
    cells: int = 20
    methods: int = 6
    side: int = 32


def make_evaluation(folder: Path, pictures: int, cells: int, methods: int, side: int) -> Path:
    """Write the folder of a made-up evaluation and return it."""
    ids = [f"face-{number}" for number in range(pictures)]
    faces = SyntheticFaces(side, "test").load(range(pictures))
    rows: list[Row] = []
    for number, face in enumerate(faces):
        _save(face.permute(1, 2, 0).numpy(), folder / "pictures" / "truth" / f"{number:02d}.png")
    for cell in range(cells):
        task = list(TASKS)[cell % len(TASKS)]
        level = round(0.1 + 0.15 * (cell // len(TASKS)), 2)
        for (method, prior), worse in list(METHODS.items())[:methods]:
            settings = f"{cell:02x}{'0' * 10}"
            selection = NO_CHECKPOINT if prior == NO_CHECKPOINT else "measurement"
            slug = slug_of(Condition(task, level, {}), method, selection, prior, settings)
            for number, face in enumerate(faces):
                rng = np.random.default_rng([cell, number, len(rows)])
                truth = face.permute(1, 2, 0).numpy().astype(float)
                amount = worse * (1 - level) * (0.8 + 0.4 * rng.random())
                blurred = gaussian_filter(truth, (1.6 * amount, 1.6 * amount, 0)) + rng.normal(
                    0, 8 * amount, truth.shape
                )
                found = blurred.clip(0, 255).round().astype(np.uint8)
                _save(found, folder / "pictures" / slug / f"{number:02d}.png")
                psnr = float(-10 * np.log10(np.square((found - truth) / 255).mean() + 1e-12))
                key = RowKey(ids[number], method, task, level, prior, 0, settings)
                told: dict[str, Any] = {
                    "ssim": 0.5 + psnr / 80,
                    "lpips": 0.4 - psnr / 100,
                    "seconds": 0.5,
                    "selection": selection,
                }
                rows.append(Row(*key, psnr=psnr, **told, psnr_oracle=psnr + 1, picture=picture_hash(face)))
    write_settings(
        folder,
        {
            "options": {"task": list(TASKS), "images": pictures, "seed": 0},
            "checkpoints": {
                name: {"path": f"{name}.safetensors", "info": {"kimg": 350.0}} for name in ("vanilla", "rtil")
            },
            "solvers": {row.settings: {"noise_sigma": 0.0} for row in rows},
            "identity": {"pictures": {"data": "synthetic", "split": "test"}, "noise_sigma": 0.0, "weights": {}},
            "pictures": ids,
        },
    )
    (folder / "rows.jsonl").write_text("".join(map(row_to_line, rows)), encoding="utf-8")
    return folder


def measure(options: ReportOptions) -> dict[str, Any]:
    """Make, write and open; print a table and return the figures."""
    with tempfile.TemporaryDirectory() as where:
        shape = {name: getattr(options, name) for name in ("pictures", "cells", "methods", "side")}
        folder = make_evaluation(Path(where) / "evaluation", **shape)
        files = list((folder / "pictures").rglob("*.png"))
        started = time.perf_counter()
        out = write_report(Path(where) / "report.html", "Made up", [Part("Made up", folder)])
        figures: dict[str, Any] = {
            "png_files": len(files),
            "png_mb": sum(path.stat().st_size for path in files) / 1e6,
            "write_s": time.perf_counter() - started,
            "report_mb": out.stat().st_size / 1e6,
        }
        figures |= opening(out, options.side)
    print_table(list(figures), [[f"{value:.3g}" for value in figures.values()]])
    return shape | json.loads(json.dumps(figures))


def opening(page: Path, side: int) -> dict[str, float]:
    """Return seconds until a page is ready and until pictures are drawn, and its memory; nothing without a browser."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        return {}
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = opened.new_page()
        started = time.perf_counter()
        tab.goto(page.resolve().as_uri())
        tab.wait_for_selector("html[data-ready]")
        ready = time.perf_counter() - started
        tab.locator(".gallery").first.evaluate("gallery => gallery.scrollIntoView()")
        tab.locator(f'.tile canvas[width="{side}"]').first.wait_for()
        drawn = time.perf_counter() - started
        heap = tab.evaluate("performance.memory.usedJSHeapSize")
        opened.close()
    return {"ready_s": ready, "drawn_s": drawn, "heap_mb": heap / 1e6}


def _save(picture: np.ndarray[Any, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_benchmark("report", measure, ReportOptions, argv)
