"""Faults in what users give: pictures, zips, masks, arrays, results and places to write; each as one command.

``python -m tests.faults.picture_cases`` prints the table of ``docs/faults/pictures.md``.
"""

import contextlib
import io
import json
import os
import socket
import struct
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from rtil.generators import StyleGAN2Generator
from rtil.inverse.recipe import make_with_recipe
from rtil.inverse.result_file import RESULT
from rtil.inverse.sealed import digest
from rtil.snapshot import save_snapshot

PRIOR = "prior"
SIDE = 16


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        number: Of the list of faults that trusted tools are held to; letters are further ones.
        what: The fault, in words.
        make: Makes it in the current folder.
        command: Words after ``rtil``.
        code: Exit code that is right.
        words: What the one line must say; for code 0 what the notice must say.
    """

    number: str
    what: str
    make: Callable[[], object]
    command: str
    code: int
    words: str


def run(command: str) -> tuple[int, str, str]:
    """Run a command in this process; returns its exit code, and what it wrote to stdout and stderr."""
    name, *words = command.split()
    main = import_module(f"rtil.cli.{name}").main
    out, err = io.StringIO(), io.StringIO()

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        err.write(warnings.formatwarning(message, category, filename, lineno))

    with (
        warnings.catch_warnings(action="always"),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        warnings.showwarning = show  # type: ignore[assignment]
        code = main(words)
    return code, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def workplace(folder: Path) -> Iterator[None]:
    """Work in a folder with ``face.png`` (16 px), ``prior`` (a snapshot) and ``y.safetensors`` (its measurement)."""
    rng = np.random.default_rng(0)
    with contextlib.chdir(folder):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save("face.png")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            G = StyleGAN2Generator(SIDE, dict.fromkeys((4, 8, 16), 8), z_dim=8, w_dim=8, mapping_layers=1)
        about = {"arch": "stylegan2", "data": "synthetic", "resolution": SIDE, "kimg": 1.0, "seed": 0, "rtil": False}
        save_snapshot(Path(PRIOR) / "snapshot-000001.safetensors", G, about)
        yield


def picture(side: int = 20, seed: int = 1, mode: str = "RGB") -> Image.Image:
    """Return a picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return a picture as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


GOOD_PNG, GOOD_JPEG = encoded(picture(40)), encoded(picture(40), "JPEG")


def one(name: str, content: bytes) -> Callable[[], object]:
    """Return what makes a folder ``in`` of two good pictures and a file."""

    def make() -> None:
        Path("in").mkdir()
        for n in range(2):
            picture(seed=n).save(f"in/good{n}.png")
        Path("in", name).write_bytes(content)

    return make


def zipped(members: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Callable[[], object]:
    """Return what makes ``in.zip``."""

    def make() -> None:
        with zipfile.ZipFile("in.zip", "w", how) as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return make


def flat_png(width: int, height: int) -> bytes:
    """Return a sound PNG of one bit a pixel, all black: a few bytes for many pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def header_only(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size that its data do not have."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + GOOD_PNG[33:]


def special(kind: str) -> Callable[[], object]:
    """Return what makes a folder ``in`` with two pictures and something that is no file."""

    def make() -> None:
        one("good2.png", encoded(picture(seed=3)))()
        if kind == "pipe":
            os.mkfifo("in/a.png")
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind("in/a.png")
        elif kind == "loop":
            Path("in/a.png").symlink_to("a.png")
        else:
            Path("in/loop").symlink_to("../in")

    return make


def mask(pixels: np.ndarray | bytes) -> Callable[[], object]:
    """Return what makes ``mask.png``."""

    def make() -> None:
        if isinstance(pixels, bytes):
            Path("mask.png").write_bytes(pixels)
        else:
            Image.fromarray(pixels).save("mask.png")

    return make


def array(content: bytes | np.ndarray | Callable[[], object]) -> Callable[[], object]:
    """Return what makes ``y.npy``."""

    def make() -> None:
        if callable(content):
            content()
        elif isinstance(content, bytes):
            Path("y.npy").write_bytes(content)
        else:
            np.save("y.npy", content, allow_pickle=True)

    return make


def npy_header(shape: str, descr: str = "<f4") -> bytes:
    """Return an .npy file of a header alone."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def good_result() -> None:
    """Make ``r.safetensors``, the result of a reconstruction without steps."""
    operator, _ = make_with_recipe("sr", (3, SIDE, SIDE), factor=2)
    np.save("y.npy", operator(torch.full((1, 3, SIDE, SIDE), 0.5))[0].numpy())
    code, _, err = run(f"reconstruct --task sr --factor 2 --input y.npy --snapshot {PRIOR} --steps 0 --out first")
    assert code == 0, err
    Path("first/result.safetensors").rename("r.safetensors")


def crafted(change: Callable[[dict[str, object], dict[str, Tensor]], object]) -> Callable[[], object]:
    """Return what makes ``r.safetensors`` with other content, and the checksum that belongs to it."""

    def make() -> None:
        good_result()
        with safe_open("r.safetensors", framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        change(about, tensors)
        text = json.dumps(about)
        save_file(tensors, "r.safetensors", {"format": RESULT.format, "about": text, "sha256": digest(text, tensors)})

    return make


def nothing() -> None:
    """Make nothing: the fault is in the command."""


def _flip() -> None:
    good_result()
    content = bytearray(Path("r.safetensors").read_bytes())
    content[-9] ^= 4
    Path("r.safetensors").write_bytes(content)


def _damaged_member() -> None:
    zipped({"a.png": encoded(picture(seed=0)), "b.png": encoded(picture(seed=1))}, zipfile.ZIP_STORED)()
    content = bytearray(Path("in.zip").read_bytes())
    content[content.index(b"b.png") + 200] ^= 255
    Path("in.zip").write_bytes(content)


def _escape_in_name() -> None:
    Path("in").mkdir()
    Path("in/\x1b[2Jface.png").write_bytes(b"no picture")


def _large_member() -> None:
    with zipfile.ZipFile("in.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.png", "w") as member:
        for _ in range(20):
            member.write(bytes(10**6))


def _equal_ones() -> None:
    Path("in").mkdir()
    for n in range(9):
        picture(seed=0).save(f"in/{n}.png")


def _npz() -> None:
    with Path("y.npy").open("wb") as file:
        np.savez(file, y=np.ones(3))


def _out_file() -> None:
    good_result()
    Path("o").touch()


def _escape(about: dict[str, object], tensors: dict[str, Tensor]) -> None:
    snapshot = about["snapshot"]
    assert isinstance(snapshot, dict)
    snapshot["weight_hash"] = "\x1b]0;owned\x07"


PACK = "prepare in out.zip --resolution 16"
INPAINT = f"measure --task inpaint --mask mask.png --input face.png --resolution {SIDE} --out y.safetensors"
NPY = f"reconstruct --task sr --factor 2 --input y.npy --snapshot {PRIOR} --steps 0 --out o"
RENDER = f"render --result r.safetensors --snapshot {PRIOR} --out o"
NOISE = np.random.default_rng(0).random((3, 8, 8), np.float32)
WHITE = np.full((SIDE, SIDE), 255, np.uint8)

CASES = [
    Case("1", "empty folder", lambda: Path("in").mkdir(), PACK, 2, "no images found in 'in' (looked for .png .jpg"),
    Case("2", "missing path", nothing, PACK, 2, "data 'in' does not exist"),
    Case("3", "empty file", one("a.png", b""), PACK, 2, "cannot read image 'a.png': the file is empty"),
    Case("4", "text named .png", one("a.png", b"hello"), PACK, 2, "'a.png': its content is no image"),
    Case("5", "truncated PNG", one("a.png", GOOD_PNG[:2000]), PACK, 2, "cannot read image 'a.png'"),
    Case("5", "truncated JPEG", one("a.jpg", GOOD_JPEG[:900]), PACK, 2, "cannot read image 'a.jpg'"),
    Case("7", "float TIFF", one("a.tif", encoded(Image.new("F", (9, 9)), "TIFF")), PACK, 2, "float samples"),
    Case("8", "CMYK", one("a.jpg", encoded(picture(mode="CMYK"), "JPEG")), PACK, 0, "'a.jpg': CMYK, converted"),
    Case("9", "one bit a pixel", one("a.png", encoded(picture(mode="1"))), PACK, 0, ""),
    Case(
        "13",
        "animation",
        one("a.webp", encoded(picture(), "WEBP", save_all=True, append_images=[picture(seed=2)])),
        PACK,
        0,
        "'a.webp': several frames, the first one taken",
    ),
    Case("14", "not square", one("a.png", encoded(picture().crop((0, 0, 20, 17)))), PACK, 0, "central square taken"),
    Case("14", "smaller", one("a.png", encoded(picture(9))), PACK, 0, "smaller than wanted, enlarged"),
    Case(
        "15", "claims 10,000 x 10,000", one("a.png", header_only(10_000, 10_000)), PACK, 2, "more than 89478485 pixels"
    ),
    Case(
        "15", "claims 20,000 x 20,000", one("a.png", header_only(20_000, 20_000)), PACK, 2, "more than 89478485 pixels"
    ),
    Case("15", "11 kB of 88 million pixels", one("a.png", flat_png(9400, 9400)), PACK, 2, "no picture is so flat"),
    Case(
        "15", "20 MB in a small zip", _large_member, "prepare in.zip out.zip", 2, "at most 1,073,741,824, and 100 times"
    ),
    Case(
        "15",
        "200,000 px wanted",
        one("a.png", GOOD_PNG),
        "prepare in out.zip --resolution 200000",
        2,
        "640 GB of memory; at",
    ),
    Case(
        "15",
        "200,000 px measured",
        nothing,
        "measure --input face.png --fit --resolution 200000 --out y.safetensors",
        2,
        "640 GB of memory; at most",
    ),
    Case("15", "10^9 samples", nothing, f"sample --snapshot {PRIOR} --count 1000000000 --out s.png", 2, "fit"),
    Case(
        "18", "pipe in a folder", special("pipe"), PACK, 0, "'in/a.png' is a pipe, socket or device: no image, left out"
    ),
    Case("18", "socket in a folder", special("socket"), PACK, 0, "is a pipe, socket or device"),
    Case("18", "link to itself", special("loop"), PACK, 2, "it is a link that leads back to itself"),
    Case("18", "loop of folders", special("folder loop"), PACK, 0, ""),
    Case(
        "18", "pipe as input", lambda: os.mkfifo("y.png"), NPY.replace(".npy", ".png"), 2, "picture 'y.png' is a pipe"
    ),
    Case("18", "device as source", nothing, "prepare /dev/zero out.zip", 2, "zip '/dev/zero' is a device"),
    Case("19", "escape codes in a name", _escape_in_name, PACK, 2, "\\x1b[2Jface.png"),
    Case("19", "../ in a zip", zipped({"../a.png": GOOD_PNG}), "prepare in.zip out.zip", 2, "unsafe name"),
    Case(
        "20", "no zip", lambda: Path("in.zip").write_bytes(b"hello"), "prepare in.zip out.zip", 2, "not a readable zip"
    ),
    Case(
        "20", "damaged member", _damaged_member, "prepare in.zip out.zip", 2, "member 'b.png' of zip 'in.zip': Bad CRC"
    ),
    Case(
        "20",
        "bzip2",
        zipped({"a.png": GOOD_PNG}, zipfile.ZIP_BZIP2),
        "prepare in.zip out.zip",
        2,
        "compressed by bzip2",
    ),
    Case("22", "mask all black", mask(WHITE * 0), INPAINT, 2, "observes no pixel"),
    Case("22", "mask all white", mask(WHITE), INPAINT, 0, "all pixels are observed: none is missing"),
    Case("23", "mask of another size", mask(WHITE[:9]), INPAINT, 2, "is 9x16 pixels but the pictures are 16x16"),
    Case("23", "mask of 16 bit", mask(WHITE.astype(np.uint16)), INPAINT, 2, "has mode I;16: save it as 8-bit"),
    Case("23", "text as a mask", mask(b"hello"), INPAINT, 2, "cannot be read as a picture: its content is no image"),
    Case(
        "23",
        "mask with greys",
        mask(WHITE - np.arange(SIDE, dtype=np.uint8) * 9),
        INPAINT,
        0,
        "240 of 256 pixels are grey",
    ),
    Case("28", "y holds NaN", array(NOISE * np.nan), NPY, 2, "y.npy: measurements hold NaN or infinity in images [0]"),
    Case("28", "y of another shape", array(NOISE[:, 1:]), NPY, 2, "y.npy: measurements have shape [3, 7, 8]"),
    Case("28", "y of bytes", array(NOISE.astype(np.uint8)), NPY, 2, "must be floating point; bytes: divide by 255"),
    Case(
        "28", "y of complex numbers", array(NOISE.astype(complex)), NPY, 2, "holds complex128, valid are real numbers"
    ),
    Case("28", "y of objects", array(np.array([{}])), NPY, 2, "holds object, valid are real numbers"),
    Case("28", "y is an .npz", array(_npz), NPY, 2, "array 'y.npy' is an .npz archive of several arrays"),
    Case("28", "y is empty", array(b""), NPY, 2, "array 'y.npy' is empty"),
    Case("28", "y has no entries", array(NOISE[:0]), NPY, 2, "has shape [0, 8, 8] and holds nothing"),
    Case(
        "28",
        "y claims 3.6 TiB",
        array(npy_header("(1000000, 1000000)")),
        NPY,
        2,
        "4,000,000,000,000 bytes, but holds 0",
    ),
    Case("28", "y's header nested deep", array(npy_header("(" * 60)), NPY, 2, "has a damaged header"),
    Case("A", "result: flipped bit", _flip, RENDER, 2, "its content does not fit its checksum"),
    Case("A", "result: a field is missing", crafted(lambda a, t: a.pop("status")), RENDER, 2, "lacks status"),
    Case(
        "A",
        "result: a field of another type",
        crafted(lambda a, t: a.update(seconds="x")),
        RENDER,
        2,
        "seconds in its table",
    ),
    Case(
        "A",
        "result: a list for a table",
        crafted(lambda a, t: a.update(operator=[1])),
        RENDER,
        2,
        "operator in its table",
    ),
    Case("A", "result: unknown method", crafted(lambda a, t: a.update(method="x")), RENDER, 2, "unknown method 'x'"),
    Case(
        "A", "result: unknown task", crafted(lambda a, t: a["operator"].update(task="x")), RENDER, 2, "unknown task 'x'"
    ),  # type: ignore[attr-defined]
    Case(
        "A",
        "result: pictures of 10^6 px",
        crafted(lambda a, t: a["operator"].update(img_size=[3, 10**6, 10**6])),  # type: ignore[attr-defined]
        RENDER,
        2,
        "valid are at most 50,331,648 values",
    ),
    Case("A", "result: batches of none", crafted(lambda a, t: a.update(batches=[0])), RENDER, 2, "batches of 0"),
    Case(
        "A",
        "result: a label with ../",
        crafted(lambda a, t: a.update(labels=["../../x"])),
        RENDER,
        2,
        "its labels cannot",
    ),
    Case("A", "result: no y", crafted(lambda a, t: t.pop("y")), RENDER, 2, "the tensor y is missing"),
    Case(
        "A", "result: y holds NaN", crafted(lambda a, t: t["y"].fill_(torch.nan)), RENDER, 2, "y holds NaN or infinity"
    ),
    Case(
        "A",
        "result: latents hold NaN",
        crafted(lambda a, t: t["latents.ws"].fill_(torch.nan)),
        RENDER,
        2,
        "its latents' ws holds NaN or infinity in images [0]",
    ),
    Case(
        "A",
        "result: latents of another shape",
        crafted(lambda a, t: t.update({"latents.ws": t["latents.ws"][..., :3].contiguous()})),
        RENDER,
        2,
        "the latents' ws has shape",
    ),
    Case(
        "A",
        "result: no noise maps",
        crafted(lambda a, t: t.pop("latents.noise_0")),
        RENDER,
        2,
        "the latents lack noise_0",
    ),
    Case("A", "result: escape codes", crafted(_escape), RENDER, 2, "\\x1b]0;owned\\x07"),
    Case("A", "result: a folder", lambda: Path("r.safetensors").mkdir(), RENDER, 2, "is a folder"),
    Case("A", "result: a pipe", lambda: os.mkfifo("r.safetensors"), RENDER, 2, "is no file"),
    Case("B", "reconstruct into a file", _out_file, NPY, 2, "o cannot be written (a file is in the way, o)"),
    Case("B", "reconstruct behind a file", _out_file, NPY + "/x", 2, "o/x cannot be written (a file is in the way, o)"),
    Case("B", "prepare into a folder", lambda: Path("out.zip").mkdir(), PACK, 2, "give the name of a .zip file"),
    Case("C", "equal pictures", _equal_ones, PACK, 0, "all 9 pictures are equal"),
]


def table() -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| No. | Fault | Command | Code | Message |"
    yield "|---|---|---|---|---|"
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder, workplace(Path(folder)):
            case.make()
            code, _, err = run(case.command)
        said = [line for line in err.splitlines() if case.words in line] or [""]
        message = said[0].removeprefix("error: ").removeprefix("warning: ").replace("|", "\\|")
        message = message if len(message) < 200 else message[:200] + " ..."
        yield f"| {case.number} | {case.what} | `rtil {case.command}` | {code} | {message} |"


if __name__ == "__main__":
    os.environ.setdefault("RTIL_OPS", "native")
    sys.stdout.write("\n".join(table()) + "\n")
