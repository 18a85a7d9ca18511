"""How fast worker processes serve pictures that do not fit into memory: ``python -m benchmarks loader``.

Makes data sets in a temporary folder: an index of many pictures over a few distinct ones, which lie in the page cache
(so that decoding is measured, not a disk). A folder has a link for each picture, a zip its own copy, up to
``--zip_gb``. Served as in training: batches in the training's order, mirrored, to the process that trains. An H100
that takes 4 s for a thousand pictures of 256 px wants 250 a second.

Seconds of processors are those of the worker processes: on a machine with other work they say more than the clock.
"""

import io
import os
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.frame import Recorded, print_table, run_benchmark
from rtil.data.batches import FacesDataModule
from rtil.data.synthetic_faces import SyntheticFaces

QUALITY = 90
GRAIN = 3.0  # standard deviation, in grey levels: photographs are not smooth, and PNG files of them not small
RENDERED = 256


@dataclass
class LoaderOptions(Recorded):
    """Time the reading of pictures by worker processes.

    Args:
        resolution: Side of the pictures in pixels.
        pictures: Entries of the index.
        distinct: Different pictures among them.
        kinds: File formats: jpg, png.
        stores: What holds them: folder, zip.
        workers: Numbers of processes.
        batch: Pictures of a batch.
        seconds: Length of each measurement.
        zip_gb: Largest zip; one that would be larger has fewer pictures.
    """

    resolution: int = 256
    pictures: int = 70000
    distinct: int = 64
    kinds: list[str] = field(default_factory=lambda: ["jpg", "png"])
    stores: list[str] = field(default_factory=lambda: ["folder", "zip"])
    workers: list[int] = field(default_factory=lambda: [1, 2])
    batch: int = 16
    seconds: float = 5.0
    zip_gb: float = 1.5


def files(kind: str, count: int, resolution: int) -> list[bytes]:
    """Return the contents of distinct picture files."""
    faces = SyntheticFaces(min(resolution, RENDERED), "train").load(range(count)).permute(0, 2, 3, 1).numpy()
    grain = np.random.default_rng(0).normal(0, GRAIN, (resolution, resolution, 3))
    found = []
    for number, face in enumerate(faces):
        large = np.asarray(Image.fromarray(face).resize((resolution, resolution), Image.Resampling.BICUBIC))
        noisy = np.clip(large + np.roll(grain, 7 * number, axis=1), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noisy).save(buffer, "JPEG" if kind == "jpg" else "PNG", quality=QUALITY)
        found.append(buffer.getvalue())
    return found


def make_set(where: Path, store: str, kind: str, contents: Sequence[bytes], options: LoaderOptions) -> tuple[Path, int]:
    """Write a data set; return its path and the number of its pictures."""
    path = where / (f"{kind}.zip" if store == "zip" else f"{kind}-folder")
    names = [f"{number // 1000:03d}/{number:06d}.{kind}" for number in range(options.pictures)]
    if store == "zip":
        names = names[: int(options.zip_gb * 1e9 * len(contents) / sum(map(len, contents)))]
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for number, name in enumerate(names):
                archive.writestr(name, contents[number % len(contents)])
        return path, len(names)
    originals = where / f"{kind}-originals"
    originals.mkdir()
    for number, content in enumerate(contents):
        (originals / str(number)).write_bytes(content)
    for number, name in enumerate(names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(originals / str(number % len(contents)), path / name)
    return path, len(names)


def measure(path: Path, workers: int, options: LoaderOptions) -> dict[str, float]:
    """Serve a set; return images per second, by the clock and by the workers' processors, and what opening it takes."""
    started = time.perf_counter()
    module = FacesDataModule(str(path), options.resolution, options.batch, workers=workers)
    opened = time.perf_counter() - started
    module.in_memory = False  # however few they are
    served = iter(module.train_dataloader())
    started = time.perf_counter()
    next(served)
    first = time.perf_counter() - started
    for _ in islice(served, 2 * workers):  # what was made ahead
        pass
    spent, started, count = _processor_seconds(), time.perf_counter(), 0
    while time.perf_counter() - started < options.seconds:
        next(served)
        count += options.batch
    seconds, spent = time.perf_counter() - started, _processor_seconds() - spent
    memory = [_own_memory(child.pid or 0) for child in active_children()]
    del served
    return {
        "open_s": opened,
        "first_batch_s": first,
        "images_per_s": count / seconds,
        "images_per_processor_s": count / spent,
        "worker_mb": max(memory) / 1e6,
    }


def _processor_seconds() -> float:
    """Return the seconds of processors that the worker processes have used, as Linux counts them."""
    fields = [Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split() for child in active_children()]
    return sum(int(of_child[11]) + int(of_child[12]) for of_child in fields) / os.sysconf("SC_CLK_TCK")


def _own_memory(pid: int) -> int:
    """Return the bytes that a process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def measure_all(options: LoaderOptions) -> dict[str, Any]:
    """Make and measure every set; print a table and return the figures."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds:
            contents = files(kind, options.distinct, options.resolution)
            for store in options.stores:
                path, count = make_set(Path(folder), store, kind, contents, options)
                for workers in options.workers:
                    row: dict[str, Any] = {"kind": kind, "store": store, "pictures": count, "workers": workers}
                    row |= {"file_kb": sum(map(len, contents)) / len(contents) / 1e3}
                    rows.append(row | measure(path, workers, options))
    head = list(rows[0])
    print_table(head, [[f"{v:.3g}" if isinstance(v := row[name], float) else str(v) for name in head] for row in rows])
    return {"resolution": options.resolution, "batch": options.batch, "runs": rows}


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    return run_benchmark("loader", measure_all, LoaderOptions, argv)
