import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from ilo import ILO
from rtil.cli.reconstruct import main
from rtil.cli.render import main as render
from rtil.data import open_dataset
from rtil.inverse.operators import make_operator
from rtil.inverse.result import Inversion
from rtil.inverse.result_file import load_result

RUN = "runs/train/00001-stylegan2-rtil-synthetic-16"
CS = ["--snapshot", RUN, "--steps", "6", "--device", "cpu", "--task", "cs", "--rate", "0.25", "--input", "y.npy"]
COUNT = 5


@pytest.fixture(autouse=True)
def _measurements(workplace: Path) -> None:
    faces = open_dataset("synthetic", 16, "test")
    x = torch.stack([faces[n] for n in range(COUNT)]).float() / 255
    operator = make_operator("cs", (3, 16, 16), rate=0.25)
    np.save("y.npy", operator(x).numpy())


def _images(out: str) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = json.loads(Path(out, "result.json").read_text())["images"]
    return images


def _history(out: str) -> list[dict[str, str]]:
    with Path(out, "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _pixels(out: str) -> np.ndarray:
    return np.stack([np.array(Image.open(path)).astype(int) for path in sorted(Path(out).glob("reconstruction-*.png"))])


def _check_equal(one: str, other: str) -> None:
    """Check that two folders hold the same inversion, rounding aside."""
    assert sorted(p.name for p in Path(one).iterdir()) == sorted(p.name for p in Path(other).iterdir())
    assert np.abs(_pixels(one) - _pixels(other)).max() <= 1
    first, second = (load_result(f"{out}/result.safetensors") for out in (one, other))
    assert first.latents.keys() == second.latents.keys()
    for name, t in first.latents.items():
        moved_apart = (second.latents[name].float() - t.float()).abs() > 1e-3
        assert moved_apart.float().mean() < 0.01, f"{name}: a gradient near 0 may change sign, and Adam scales it up"
    for image, counterpart in zip(_images(one), _images(other), strict=True):
        assert image.keys() == counterpart.keys()
        assert image["picture"] == counterpart["picture"]
        assert image["measurement_error"] == pytest.approx(counterpart["measurement_error"], rel=1e-3)
    for line, counterpart in zip(_history(one), _history(other), strict=True):
        assert [line[name] for name in ("input", "image", "round", "step")] == [
            counterpart[name] for name in ("input", "image", "round", "step")
        ]
        assert float(line["loss"]) == pytest.approx(float(counterpart["loss"]), rel=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--selection", "heldout", "--restarts", "2", "--combination", "mean"],
        ["--switch", "plateau", "--switch_window", "2", "--switch_threshold", "0.05", "--steps", "15"],
        ["--method", "mganprior", "--codes", "3", "--restarts", "2"],
        ["--method", "pulse"],
    ],
    ids=["ilo", "mean", "plateau", "mganprior", "pulse"],
)
def test_pictures_do_not_depend_on_the_batch(options: list[str]) -> None:
    precise = [*CS, "--precision", "float32", *options]
    assert main([*precise, "--out", "all"]) == 0
    assert main([*precise, "--out", "two", "--batch", "2"]) == 0
    _check_equal("all", "two")
    assert len(_pixels("two")) == COUNT
    assert np.abs(np.diff(_pixels("two"), axis=0)).max() > 5, "the pictures differ from each other"
    assert (load_result("all/result.safetensors").batches, load_result("two/result.safetensors").batches) == (
        [COUNT],
        [2, 2, 1],
    )


def test_batches_are_rendered_as_they_were_found() -> None:
    assert main([*CS, "--out", "o", "--batch", "3"]) == 0
    argv = ["--result", "o/result.safetensors", "--snapshot", RUN, "--device", "cpu", "--out", "again"]
    assert render(argv) == 0
    for path in Path("again").iterdir():
        assert path.read_bytes() == Path("o", path.name).read_bytes()
    assert len(list(Path("again").iterdir())) == COUNT


def test_a_start_and_frames_are_divided_likewise() -> None:
    precise = [*CS, "--precision", "float32"]
    assert main([*precise, "--out", "o"]) == 0
    start = ["--start_from", "o/result.safetensors", "--frames", "3"]
    assert main([*precise, *start, "--out", "all"]) == 0
    assert main([*precise, *start, "--out", "two", "--batch", "2"]) == 0
    _check_equal("all", "two")
    for n in range(COUNT):
        with Image.open(f"two/frames-00{n}.png") as animation, Image.open(f"o/reconstruction-00{n}.png") as first:
            frames = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(animation)]
            assert np.array_equal(frames[0][3::6, 3::6], np.array(first))
        with Image.open(f"two/reconstruction-00{n}.png") as last:
            assert np.array_equal(frames[-1][3::6, 3::6], np.array(last))


def test_a_full_memory_halves_the_batch(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert main([*CS, "--out", "two", "--batch", "2"]) == 0
    invert = ILO.invert

    def only_two_fit(self: ILO, y: torch.Tensor, *args: object, **options: object) -> Inversion:
        if len(y) > 2:
            raise torch.OutOfMemoryError
        return invert(self, y, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ILO, "invert", only_two_fit)
    assert main([*CS, "--out", "full"]) == 0
    assert "5 pictures at a time: going on with 2" in caplog.text
    for path in Path("full").glob("*.png"):
        assert path.read_bytes() == Path("two", path.name).read_bytes()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--batch", "0"], "batch is 0: valid is a whole number of 1 or more"),
        (["--batch", "2", "--sequence"], "frame by"),
    ],
)
def test_a_batch_that_cannot_be_is_one_line_and_code_2(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for dry in ([], ["--dry_run"]):
        assert main([*CS, *argv, *dry]) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert words in err
