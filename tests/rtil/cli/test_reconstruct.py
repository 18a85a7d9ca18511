import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from rtil.cli.reconstruct import main
from rtil.data import open_dataset
from rtil.inverse.operators import make_operator
from rtil.inverse.result_file import load_result
from rtil.snapshot import load_snapshot

RUN = "runs/train/00001-stylegan2-rtil-synthetic-16"
SMALL = ["--snapshot", RUN, "--steps", "2", "--device", "cpu"]


@pytest.fixture
def face(workplace: Path) -> torch.Tensor:
    """A picture [1, 3, 16, 16] in [0, 1], also as face.png, small.png (8 px), photo.png (30x40) and mask.png."""
    picture = open_dataset("synthetic", 16, "test")[0]
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    image.save("face.png")
    image.resize((8, 8)).save("small.png")
    image.resize((40, 30)).save("photo.png")
    mask = Image.new("L", (16, 16), 255)
    mask.paste(0, (4, 4, 12, 12))
    mask.save("mask.png")
    return picture[None].float() / 255


def _result(out: str) -> dict[str, object]:
    result: dict[str, object] = json.loads((Path(out) / "result.json").read_text())
    return result


def test_a_measurement_of_compressed_sensing(face: torch.Tensor) -> None:
    operator = make_operator("cs", (3, 16, 16), rate=0.25, seed=7)
    np.save("y.npy", operator(face)[0].numpy())
    cs = ["--task", "cs", "--rate", "0.25", "--operator_seed", "7"]
    assert main([*SMALL, *cs, "--input", "y.npy", "--out", "o", "--steps", "60"]) == 0
    result, snapshot = _result("o"), load_snapshot(RUN)
    (image,) = result["images"]  # type: ignore[misc]
    assert image["status"] == "ok"  # type: ignore[index]
    assert result["snapshot"]["weight_hash"] == snapshot.weight_hash  # type: ignore[index]
    assert "psnr" not in json.dumps(result).lower()
    shown = torch.from_numpy(np.array(Image.open("o/reconstruction.png"))).permute(2, 0, 1)[None] / 255
    again = load_result("o/result.safetensors").render(snapshot)
    torch.testing.assert_close(again, shown, atol=0.6 / 255, rtol=0)
    misfit = 4 * (operator.A(again) - operator(face)).square().sum() / (3 * 16 * 16)
    assert image["measurement_error"] == pytest.approx(misfit.item(), rel=1e-3)  # type: ignore[index]
    assert main([*SMALL, *cs[:-1], "8", "--input", "y.npy", "--out", "p", "--steps", "60"]) == 0
    (other,) = _result("p")["images"]  # type: ignore[misc]
    assert other["picture"] == "reconstruction.png"  # type: ignore[index]
    assert other["measurement_error"] != image["measurement_error"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("task", "settings"), [("gaussian", {"rate": 0.2}), ("mri", {"rate": 0.5}), ("phase", {"exposures": 2})]
)
def test_measurements_that_are_no_pictures(task: str, settings: dict[str, float], face: torch.Tensor) -> None:
    operator = make_operator(task, (3, 16, 16), seed=7, **settings)  # type: ignore[arg-type]
    np.save("y.npy", operator(face)[0].numpy())
    ((name, value),) = settings.items()
    argv = ["--task", task, f"--{name}", str(value), "--operator_seed", "7", "--input", "y.npy", "--out", "o"]
    assert main([*SMALL, *argv, "--steps", "4"]) == 0
    again = load_result("o/result.safetensors").render(load_snapshot(RUN))
    misfit = 4 * (operator.A(again) - operator(face)).square().sum() / operator.error_normaliser
    (image,) = _result("o")["images"]  # type: ignore[misc]
    assert image["measurement_error"] == pytest.approx(misfit.item(), rel=1e-2)  # type: ignore[index]


def test_several_measurements_make_several_pictures(face: torch.Tensor) -> None:
    operator = make_operator("cs", (3, 16, 16), rate=0.1)
    np.save("y.npy", operator(face.repeat(2, 1, 1, 1)).double().numpy())
    assert main([*SMALL, "--task", "cs", "--rate", "0.1", "--input", "y.npy"]) == 0
    out = Path("runs/reconstruct/00000-ilo-cs")
    assert sorted(p.name for p in out.glob("*.png")) == ["reconstruction-000.png", "reconstruction-001.png"]


@pytest.mark.parametrize(
    "argv",
    [
        ["--task", "sr", "--factor", "2", "--input", "small.png"],
        ["--task", "inpaint", "--mask", "mask.png", "--input", "face.png"],
        ["--task", "denoise", "--sigma", "25", "--input", "face.png", "--method", "csgm"],
        ["--task", "blur", "--width", "1.5", "--input", "face.png"],
        ["--task", "motion", "--length", "5", "--operator_seed", "3", "--input", "face.png"],
        ["--task", "inversion", "--input", "photo.png", "--fit"],
        ["--task", "inversion", "--input", "face.png", "--method", "mganprior", "--codes", "3"],
    ],
)
def test_a_picture_is_the_measurement(argv: list[str], face: torch.Tensor) -> None:
    assert main([*SMALL, *argv, "--out", "o"]) == 0
    with Image.open("o/reconstruction.png") as picture:
        assert (picture.size, picture.mode) == ((16, 16), "RGB")


def test_colorization_keeps_the_luma_of_a_grey_or_coloured_picture(face: torch.Tensor) -> None:
    with Image.open("face.png") as picture:
        picture.convert("L").save("grey.png")
    luma = make_operator("colorize", (3, 16, 16)).A
    for name in ("face", "grey"):
        assert main([*SMALL, "--task", "colorize", "--input", f"{name}.png", "--out", name]) == 0
        shown = torch.from_numpy(np.array(Image.open(f"{name}/reconstruction.png"))).permute(2, 0, 1)[None] / 255
        assert (luma(shown) - luma(face)).abs().max() < 1.5 / 255
        assert shown.std(1).max() > 0.02
        (image,) = _result(name)["images"]  # type: ignore[misc]
        assert image["measurement_error"] < 1e-10  # type: ignore[index]
        again = load_result(f"{name}/result.safetensors").render(load_snapshot(RUN))
        assert torch.equal(again.mul(255).round(), shown.mul(255).round())


def test_the_result_says_how_it_was_made(face: torch.Tensor) -> None:
    argv = ["--task", "inpaint", "--mask", "mask.png", "--input", "face.png", "--out", "o", "--seed", "4"]
    assert main([*SMALL, *argv, "--method", "csgm", "--selection", "heldout"]) == 0
    Path("mask.png").unlink()
    result = load_result("o/result.safetensors")
    assert (result.method, result.settings["steps"], result.settings["lr"]) == ("csgm", [6], [0.1])
    assert (result.settings["seed"], result.settings["selection"]) == (4, "heldout")
    assert result.weight_hash == load_snapshot(RUN).weight_hash
    operator = result.recipe.make()
    assert torch.equal(result.y, operator.A(face))
    assert not operator.observed[:, 4:12, 4:12].any()


def test_frames_end_with_the_reconstruction(face: torch.Tensor) -> None:
    assert main([*SMALL, "--input", "face.png", "--out", "o", "--frames", "5"]) == 0
    with Image.open("o/frames.png") as animation, Image.open("o/reconstruction.png") as picture:
        frames = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(animation)]
        assert 3 <= len(frames) <= 5
        assert frames[0].shape == (96, 96, 3)
        assert np.array_equal(frames[-1][3::6, 3::6], np.array(picture))
        assert not np.array_equal(frames[0], frames[-1])


def test_the_mean_of_restarts_comes_with_its_spread(face: torch.Tensor) -> None:
    np.save("y.npy", face.repeat(2, 1, 1, 1).numpy())
    argv = ["--input", "y.npy", "--out", "o", "--restarts", "3", "--frames", "4"]
    assert main([*SMALL, *argv]) == 2
    assert main([*SMALL, *argv[:-2], "--combination", "mean"]) == 0
    spread = load_result("o/result.safetensors").spread
    assert spread is not None
    assert spread.shape == (2, 3, 16, 16)
    means = [image["mean_spread"] for image in _result("o")["images"]]  # type: ignore[attr-defined]
    assert means == pytest.approx(spread.flatten(1).mean(1).tolist())
    assert min(means) > 0.001
    with Image.open("o/spread.png") as picture:
        shown = np.array(picture)
    right = shown[-100:-4, -100:-4][3::6, 3::6].astype(float)
    expected = spread[1].permute(1, 2, 0).numpy()
    scale = np.median(right[right > 50] / expected[right > 50])
    assert np.abs(right - scale * expected).max() < 2, "black is 0, and one scale holds for every pixel"
    assert 0.98 < 255 / scale / spread.max().item() < 1.12, "white is the largest of both pictures, rounded up"


def test_what_the_mask_hides_plays_no_part(face: torch.Tensor) -> None:
    with Image.open("face.png") as picture:
        picture.paste((255, 0, 0), (4, 4, 12, 12))
        picture.save("painted.png")
    argv = [*SMALL, "--task", "inpaint", "--mask", "mask.png"]
    for name in ("face", "painted"):
        assert main([*argv, "--input", f"{name}.png", "--out", name]) == 0
    assert Path("face/reconstruction.png").read_bytes() == Path("painted/reconstruction.png").read_bytes()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["--input FILE is needed"]),
        (["--input", "no.png"], ["no.png", "No such file"]),
        (["--input", "no.npy"], ["no.npy"]),
        (["--input", "photo.png"], ["30x40", "16x16", "--fit"]),
        (["--input", "face.png", "--task", "cs", "--rate", "0.1"], ["give an .npy"]),
        (["--input", "face.png", "--task", "mri", "--rate", "0.1"], ["is 2 x 3 x 16 x 9 numbers", "give an .npy"]),
        (["--input", "face.png", "--task", "phase", "--exposures", "1"], ["is 1 x 3 x 16 x 16 numbers"]),
        (["--input", "face.png", "--task", "blur", "--sigma", "2"], ["does not take sigma: it takes width"]),
        (["--input", "y.npy", "--task", "cs", "--rate", "0.1"], ["[1, 768]", "[N, 77]"]),
        (["--input", "y.npy", "--task", "cs"], ["rate"]),
        (["--input", "bytes.npy"], ["floating point"]),
        (["--input", "large.npy"], ["divide bytes by 255"]),
        (["--input", "nan.npy"], ["NaN"]),
        (["--input", "pickled.npy"], ["pickled.npy"]),
        (["--input", "face.png", "--task", "inverson"], ["'inversion'"]),
        (["--input", "face.png", "--method", "iloo"], ["'ilo'"]),
        (["--input", "face.png", "--method", "mganprior", "--codes", "1,20"], ["codes is 1,20", "one number"]),
        (["--input", "face.png", "--method", "mganprior", "--codes", "0"], ["codes is 0"]),
        (["--input", "face.png", "--method", "mganprior", "--compose_side", "5"], ["compose_side is 5", "4, 8, 16"]),
        (["--input", "face.png", "--snapshot", "no"], ["snapshot no"]),
        (["--input", "face.png", "--frames", "1"], ["frames is 1", "2 or more"]),
        (["--input", "face.png", "--frames", "9", "--restarts", "2"], ["frames show one attempt"]),
        (["--input", "face.png", "--out", "done"], ["already holds result.json"]),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    argv: list[str], words: list[str], face: torch.Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("y.npy", np.zeros((1, 768), np.float32))
    np.save("bytes.npy", np.zeros((3, 16, 16), np.uint8))
    np.save("large.npy", np.full((3, 16, 16), 200.0))
    np.save("nan.npy", np.full((3, 16, 16), np.nan))
    Path("pickled.npy").write_bytes(pickle.dumps(["anything"]))
    Path("done").mkdir()
    Path("done/result.json").touch()
    assert main([*SMALL, *argv]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not Path("runs/reconstruct").exists()


def test_dry_run_computes_nothing(face: torch.Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--input", "face.png", "--dry_run"]) == 0
    assert "# reconstruct 1 x inversion from face.png" in capsys.readouterr().out
    assert not Path("runs/reconstruct").exists()
