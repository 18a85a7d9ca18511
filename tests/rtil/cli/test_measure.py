from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rtil.cli.measure import main
from rtil.cli.reconstruct import main as reconstruct
from rtil.inverse.measurement_file import load_measurement
from rtil.inverse.operators import OPERATORS, make_operator

RUN = "runs/train/00001-stylegan2-rtil-synthetic-16"
VALUES = {"rate": 0.5, "factor": 2, "sigma": 25.0, "width": 1.5, "length": 4.0, "exposures": 2}


@pytest.fixture(autouse=True)
def x(workplace: Path) -> torch.Tensor:
    """A picture [1, 3, 16, 16] in [0, 1], also as face.png, and photo.png (40x30) with cut.png of the same size."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    photo = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    Image.fromarray(pixels).save("face.png")
    photo.save("photo.png")
    mask = Image.new("L", (40, 30), 255)
    mask.paste(0, (10, 5, 20, 20))
    mask.save("mask.png")
    photo.putalpha(mask)
    photo.save("cut.png")
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("task", OPERATORS)
def test_a_picture_is_measured_by_the_operator_of_the_options(task: str, x: torch.Tensor) -> None:
    parameters = {name: VALUES[name] for name in OPERATORS[task].parameters[:1]}
    argv = ["--input", "face.png", "--task", task, "--operator_seed", "7", "--resolution", "16"]
    argv += [word for name, value in parameters.items() for word in (f"--{name}", str(value))]
    argv += ["--noise_sigma", "0.1"] if OPERATORS[task].takes_noise else []
    assert main([*argv, "--out", "y.safetensors"]) == 0
    noise_sigma = 0.1 if OPERATORS[task].takes_noise else 0.0
    operator = make_operator(task, (3, 16, 16), seed=7, noise_sigma=noise_sigma, **parameters)  # type: ignore[arg-type]
    file = load_measurement("y.safetensors")
    torch.testing.assert_close(file.y, operator(x))
    assert torch.equal(file.recipe.make()(x), operator(x))
    assert file.names == ["face.png"]


def test_reconstruct_needs_no_more_than_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    measure = ["--input", "photo.png", "--fit", "--task", "cs", "--rate", "0.3", "--operator_seed", "7"]
    assert main([*measure, "--out", "y.safetensors"]) == 0
    few = ["--input", "y.safetensors", "--steps", "2", "--device", "cpu", "--snapshot", RUN]
    assert reconstruct([*few, "--out", "o"]) == 0
    assert Path("o/reconstruction-photo.png").exists()
    assert reconstruct([*few, "--out", "p", "--operator_seed", "8"]) == 2
    assert "measured with 7 as operator_seed, but operator_seed is 8" in capsys.readouterr().err
    assert not Path("p").exists()
    again = ["--input", "o/result.safetensors", *few[2:], "--out", "q"]
    assert reconstruct(again) == 0, "a result file holds its measurements"
    pictures = [Path(out, "reconstruction-photo.png").read_bytes() for out in ("o", "q")]
    assert pictures[0] == pictures[1]


def test_masks_are_those_of_reconstruct() -> None:
    assert (
        main(["--input", "photo.png", "--fit", "--task", "inpaint", "--mask", "mask.png", "--out", "a.safetensors"])
        == 0
    )
    assert main(["--input", "cut.png", "--fit", "--task", "inpaint", "--out", "b.safetensors"]) == 0
    a, b = (load_measurement(f"{name}.safetensors") for name in "ab")
    assert torch.equal(a.y, b.y)
    assert torch.equal(a.recipe.make().observed, b.recipe.make().observed)
    assert 0 < a.recipe.make().observed.float().mean() < 1


def test_a_folder_is_one_file_of_many(x: torch.Tensor) -> None:
    Path("folder").mkdir()
    for n in range(3):
        np.save(f"folder/{n}.npy", (x[0] * (1 - 0.1 * n)).numpy())
    argv = ["--input", "folder", "--task", "sr", "--factor", "2", "--noise_sigma", "0.1", "--resolution", "16"]
    assert main([*argv, "--out", "y.safetensors"]) == 0
    file = load_measurement("y.safetensors")
    assert file.names == ["0.npy", "1.npy", "2.npy"]
    clean = make_operator("sr", (3, 16, 16), factor=2).A(torch.cat([x * (1 - 0.1 * n) for n in range(3)]))
    noise = file.y - clean
    assert noise.std() == pytest.approx(0.1, rel=0.15)
    assert not torch.allclose(noise[0], noise[1], atol=0.01)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--out", "y.safetensors"], "--input PICTURE and --out FILE.safetensors are needed"),
        (["--input", "face.png"], "--input PICTURE and --out FILE.safetensors are needed"),
        (["--input", "face.png", "--out", "y.npy"], "valid is the name of a .safetensors file"),
        (["--input", "face.png", "--out", "old.safetensors"], "already exists"),
        (["--input", "old.safetensors", "--out", "y.safetensors"], "holds measurements already"),
        (["--input", "face.png", "--out", "y.safetensors", "--task", "cs"], "needs rate"),
        (["--input", "photo.png", "--out", "y.safetensors"], "add --fit"),
        (["--input", "cut.png", "--fit", "--out", "y.safetensors"], "transparent pixels"),
        (["--input", "face.png", "--out", "y.safetensors", "--noise_sigma", "-1"], "-1"),
        (["--input", "face.png", "--out", "y.safetensors", "--resolution", "0"], "resolution is 0"),
        (
            ["--input", "face.png", "--out", "y.safetensors", "--resolution", "16", "--snapshot", RUN],
            "leave one of them",
        ),
        (["--input", "several", "--task", "inpaint", "--out", "y.safetensors"], "several masks"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("old.safetensors").touch()
    Path("several").mkdir()
    for n in range(2):
        Image.fromarray(np.tile(np.array([255, 0, 0, 255], np.uint8), (16, 16, 1))).save(f"several/{n}.png")
        with Image.open(f"several/{n}.png") as picture:
            picture.putpixel((n, 0), (0, 0, 0, 0))
            picture.save(f"several/{n}.png")
    capsys.readouterr()
    for dry in ([], ["--dry_run"]):
        assert main([*argv, *dry]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("--snapshot: ")]
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        assert words in lines[0]
    assert not Path("y.safetensors").exists()


def test_dry_run_measures_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--input", "face.png", "--task", "cs", "--rate", "0.1", "--out", "y.safetensors", "--dry_run"]) == 0
    assert "# measure 1 pictures of face.png, cs 10 %, into y.safetensors" in capsys.readouterr().out
    assert not Path("y.safetensors").exists()
