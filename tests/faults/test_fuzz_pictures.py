"""Damage of every kind to what users give: each door refuses it in a line or reads it, within memory and time."""

import io
import json
import random
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

if sys.platform == "win32":
    pytest.skip("children are forked", allow_module_level=True)

from rtil.cli.measurements import MeasurementReader
from rtil.cli.operator_options import OperatorOptions
from rtil.data.arrays import read_array
from rtil.data.images import read_with_transparency
from rtil.data.stores import open_store
from rtil.inverse.measurement_file import MEASUREMENT, save_measurement
from rtil.inverse.operators import mask_from_file
from rtil.inverse.recipe import make_with_recipe
from rtil.inverse.result_file import RESULT, load_result
from rtil.inverse.sealed import Kind, digest
from rtil.reading import read_file
from rtil.snapshot import Snapshot, load_snapshot
from tests.faults.fuzz import NASTY, fuzz
from tests.faults.picture_cases import PRIOR, SIDE, encoded, good_result, picture, workplace

SEEDS = {"png": 0, "jpeg": 1, "webp": 2, "tiff": 3, "bmp": 4, "gif": 5}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A folder for sound files and one for damaged ones."""
    for name in ("sound", "damaged"):
        (tmp_path / name).mkdir()
    return tmp_path / "sound", tmp_path / "damaged"


def read_picture(path: Path) -> None:
    x = read_with_transparency(read_file(path, "image"), str(path))
    assert x.ndim == 3
    assert len(x) == 4


def read_store(path: Path) -> None:
    store = open_store(path, allow_compressed=True)
    for name in store.names:
        store.read(name)


def pictures(kind: str) -> Iterator[tuple[str, bytes]]:
    """Yield sound pictures of a format, in its variants."""
    modes = {"jpeg": ["RGB", "L", "CMYK"], "webp": ["RGB", "RGBA"], "bmp": ["RGB", "1"], "gif": ["P"]}
    variants: dict[str, list[dict[str, object]]] = {
        "tiff": [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_deflate"}, {"compression": "packbits"}],
        "webp": [{}, {"lossless": True}],
        "jpeg": [{}, {"progressive": True}],
    }
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode in modes.get(kind, ["RGB", "RGBA", "L", "LA", "P", "1"]):
        for options in variants.get(kind, [{}]):
            extra = {"exif": exif} if kind in ("png", "jpeg", "webp") else {}
            if not (options.get("compression") == "packbits" and mode == "1"):
                yield f"{mode}{len(options)}.{kind}", encoded(picture(24, mode=mode), kind, **options, **extra)


@pytest.mark.parametrize("kind", SEEDS)
def test_damaged_pictures(kind: str, folders: tuple[Path, Path]) -> None:
    sound, damaged = folders
    for name, content in pictures(kind):
        (sound / name).write_bytes(content)
    counts = fuzz(read_picture, sorted(sound.iterdir()), damaged, seed=SEEDS[kind])
    print(f"{kind}: {counts}")
    assert not counts.escaped
    assert counts.refused


def test_damaged_masks(folders: tuple[Path, Path]) -> None:
    sound, damaged = folders
    for kind in ("png", "jpeg", "tiff"):
        (sound / f"m.{kind}").write_bytes(encoded(picture(24, mode="L"), kind))
    counts = fuzz(lambda path: mask_from_file(path, 24, 24), sorted(sound.iterdir()), damaged, seed=6)
    print(f"mask: {counts}")
    assert not counts.escaped
    assert counts.refused


def test_damaged_zips(folders: tuple[Path, Path]) -> None:
    sound, damaged = folders
    for name, how in {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}.items():
        with zipfile.ZipFile(sound / f"{name}.zip", "w", how) as archive:
            for n in range(3):
                archive.writestr(f"{n}.png", encoded(picture(8, seed=n)))
    counts = fuzz(read_store, sorted(sound.iterdir()), damaged, seed=7)
    print(f"zip: {counts}")
    assert not counts.escaped
    assert counts.refused


def test_damaged_arrays(folders: tuple[Path, Path]) -> None:
    sound, damaged = folders
    for name, values in {
        "f4": np.ones((3, 8, 8), np.float32),
        "f8": np.ones((2, 5), ">f8"),
        "u1": np.ones(4, np.uint8),
    }.items():
        np.save(sound / f"{name}.npy", values)
    np.savez(sound / "z.npz", a=np.ones(3))
    counts = fuzz(read_array, sorted(sound.iterdir()), damaged, seed=8)
    print(f"npy: {counts}")
    assert not counts.escaped
    assert counts.refused


def reader() -> MeasurementReader:
    return MeasurementReader(OperatorOptions(), (), SIDE)


def renders(snapshot: Snapshot) -> Callable[[Path], object]:
    return lambda path: load_result(path).render(snapshot)


def sealed_again(kind: Kind) -> Callable[[bytes, random.Random], tuple[str, bytes]]:
    """Return what puts nonsense into the table of a sealed file, or spoils a tensor, and makes its checksum anew."""

    def change(content: bytes, rng: random.Random) -> tuple[str, bytes]:
        path = Path("whole.safetensors")
        path.write_bytes(content)
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        words = spoil_tensor(tensors, rng) if rng.random() < 0.4 else spoil_table(about, rng)
        text = words if words.startswith("{") else json.dumps(about)
        save_file(tensors, path, {"format": kind.format, "about": text, "sha256": digest(text, tensors)})
        return words, path.read_bytes()

    return change


def spoil_table(table: dict[str, object], rng: random.Random) -> str:
    """Put nonsense in some place of a table; returns what was done, or the text of the whole table."""
    place, holder = rng.choice([*_places(table)])
    if rng.random() < 0.2:
        if isinstance(holder, dict):
            del holder[place]
        else:
            holder.pop(place)  # type: ignore[arg-type]
        return f"without {place}"
    if rng.random() < 0.3:
        text = json.dumps(table)
        cut = rng.randrange(1, len(text))
        return text[:cut] + rng.choice(NASTY).decode(errors="replace") + text[cut:]
    value = rng.choice(
        [None, [], {}, -1, 0, 10**9, 10**30, 1e300, "x", "../../x", "\x1b[2J", True, [[]], ["a", "a"], 0.5]
    )
    holder[place] = value  # type: ignore[index]
    return f"with {place} {value!r}"


def _places(value: object) -> Iterator[tuple[object, dict[object, object] | list[object]]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield key, value  # type: ignore[misc]
        yield from _places(inner)


def spoil_tensor(tensors: dict[str, torch.Tensor], rng: random.Random) -> str:
    """Change one tensor's values, type or shape, drop it, or add another."""
    name = rng.choice(sorted(tensors))
    t = tensors[name]
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "nan": lambda: torch.full_like(t, torch.nan) if t.is_floating_point() else t.double(),
        "half": lambda: t.half(),
        "bytes": lambda: t.to(torch.uint8),
        "flat": lambda: t.flatten().clone(),
        "none": lambda: torch.empty(0),
        "scalar": lambda: torch.tensor(1.0),
        "twice": lambda: torch.cat([t, t]) if t.ndim else t.repeat(2),
        "short": lambda: t[..., :1].contiguous() if t.ndim else t,
        "huge": lambda: torch.full_like(t, 3e38) if t.is_floating_point() else t,
    }
    way = rng.choice([*ways, "drop", "rename"])
    if way in ways:
        tensors[name] = ways[way]()
    else:
        del tensors[name]
        if way == "rename":
            tensors[rng.choice(["latents.z1_99", "latents.z1_x", "latents.noise_99", "mask", "x"])] = t
    return f"{way} {name}"


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Snapshot]:
    with workplace(tmp_path):
        yield load_snapshot(Path(PRIOR))


def measured() -> Path:
    operator, recipe = make_with_recipe("cs", (3, SIDE, SIDE), rate=0.2)
    save_measurement("m.safetensors", operator(torch.rand(2, 3, SIDE, SIDE)), recipe, ["a.png", "b.png"])
    return Path("m.safetensors")


@pytest.mark.parametrize("is_crafted", [False, True])
def test_damaged_measurements(is_crafted: bool, snapshot: Snapshot, folders: tuple[Path, Path]) -> None:
    change = sealed_again(MEASUREMENT) if is_crafted else None
    counts = fuzz(lambda path: reader().read(path), [measured()], folders[1], seed=9, change=change)
    print(f"measurement{' crafted' * is_crafted}: {counts}")
    assert not counts.escaped
    assert counts.refused


@pytest.mark.parametrize("is_crafted", [False, True])
def test_damaged_results(is_crafted: bool, snapshot: Snapshot, folders: tuple[Path, Path]) -> None:
    good_result()
    change = sealed_again(RESULT) if is_crafted else None
    counts = fuzz(renders(snapshot), [Path("r.safetensors")], folders[1], seed=10, change=change)
    print(f"result{' crafted' * is_crafted}: {counts}")
    assert not counts.escaped
    assert counts.refused


def test_random_bytes_are_no_picture(folders: tuple[Path, Path]) -> None:
    heads = {
        "a.png": b"\x89PNG\r\n\x1a\n",
        "a.jpg": b"\xff\xd8\xff",
        "a.webp": b"RIFF\0\0\0\0WEBPVP8 ",
        "a.tif": b"II*\0",
    }
    for name, head in heads.items():
        (folders[0] / name).write_bytes(head + random.Random(0).randbytes(400))  # noqa: S311
    counts = fuzz(read_picture, sorted(folders[0].iterdir()), folders[1], seed=11)
    print(f"headed noise: {counts}")
    assert not counts.escaped
    assert io.BytesIO().read() == b""
