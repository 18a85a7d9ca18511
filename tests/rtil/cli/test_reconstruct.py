import hashlib
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from rtil.cli.reconstruct import main
from rtil.cli.render import main as render
from rtil.data import open_dataset
from rtil.errors import Notice
from rtil.inverse.operators import make_operator
from rtil.inverse.result_file import load_result
from rtil.snapshot import load_snapshot

RUN = "runs/train/00001-stylegan2-rtil-synthetic-16"
VANILLA = "runs/train/00000-stylegan2-vanilla-synthetic-16"
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


def test_a_picture_in_a_folder_is_one_for_itself(face: torch.Tensor) -> None:
    Path("folder").mkdir()
    for name, x in {"b": face, "a": face.flip(3), "c": 1 - face}.items():
        np.save(f"folder/{name}.npy", x[0].numpy())
    assert main([*SMALL, "--input", "folder", "--out", "before", "--batch", "1"]) == 0
    assert {path.name for path in Path("before").iterdir()} == {
        "result.json", "result.safetensors", "history.csv",
        *(f"{kind}-{name}.png" for name in "abc" for kind in ("reconstruction", "sheet")),
    }  # fmt: skip
    np.save("folder/b.npy", np.zeros((3, 16, 16), np.float32))
    assert main([*SMALL, "--input", "folder", "--out", "after", "--batch", "1"]) == 0
    same = {
        name: Path(f"before/reconstruction-{name}.png").read_bytes()
        == Path(f"after/reconstruction-{name}.png").read_bytes()
        for name in "abc"
    }
    assert same == {"a": True, "b": False, "c": True}
    assert main([*SMALL, "--input", "folder/a.npy", "--out", "alone"]) == 0
    assert Path("alone/reconstruction.png").read_bytes() == Path("before/reconstruction-a.png").read_bytes()
    argv = ["--result", "after/result.safetensors", "--snapshot", RUN, "--device", "cpu", "--out", "again"]
    assert render(argv) == 0
    for path in Path("again").iterdir():
        assert path.read_bytes() == Path("after", path.name).read_bytes()
    assert len(list(Path("again").iterdir())) == 3


def test_pictures_of_several_masks_are_inverted_by_groups(face: torch.Tensor) -> None:
    Path("folder").mkdir()
    with Image.open("face.png") as picture, Image.open("mask.png") as mask:
        for name, alpha in {
            "a": mask,
            "b": mask.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
            "c": mask.rotate(90),
        }.items():
            alpha.putpixel((0, ord(name) % 2), 0)
            picture.putalpha(alpha)
            picture.save(f"folder/{name}.png")
    assert main([*SMALL, "--task", "inpaint", "--input", "folder", "--out", "o"]) == 0
    results = sorted(path.name for path in Path("o").glob("result-*.safetensors"))
    assert 1 < len(results) <= 3
    for name in "abc":
        for kind in ("reconstruction", "sheet", "mask"):
            assert Path(f"o/{kind}-{name}.png").exists()
    assert [image["input"] for image in _result("o")["images"]] == ["a.png", "b.png", "c.png"]  # type: ignore[attr-defined]


def test_transparency_is_a_mask_file(face: torch.Tensor) -> None:
    with Image.open("face.png") as picture, Image.open("mask.png") as mask:
        picture.putalpha(mask)
        picture.save("cut.png")
    assert main([*SMALL, "--task", "inpaint", "--input", "cut.png", "--out", "a"]) == 0
    assert main([*SMALL, "--task", "inpaint", "--input", "face.png", "--mask", "mask.png", "--out", "m"]) == 0
    assert Path("a/reconstruction.png").read_bytes() == Path("m/reconstruction.png").read_bytes()
    with Image.open("m/mask.png") as overlay:
        shown = np.array(overlay)[3::6, 3::6].astype(float)
    truth = np.array(Image.open("face.png")).astype(float)
    changed = np.abs(shown - truth).sum(2) > 2
    assert np.array_equal(changed, np.array(Image.open("mask.png")) == 0)


def test_a_reconstruction_that_explains_nothing_is_told(face: torch.Tensor) -> None:
    operator = make_operator("cs", (3, 16, 16), rate=0.25, seed=7)
    np.save("y.npy", operator(face)[0].numpy())
    cs = ["--task", "cs", "--rate", "0.25", "--input", "y.npy"]
    with warnings.catch_warnings(record=True, action="always") as told:
        assert main([*SMALL, *cs, "--operator_seed", "7", "--out", "o", "--steps", "60"]) == 0
    assert not [one for one in told if issubclass(one.category, Notice)]
    with pytest.warns(Notice, match=r"y\.npy: the measurement error .* is not below that of the prior's mean picture"):
        assert main([*SMALL, *cs, "--operator_seed", "7", "--out", "p", "--lr", "1000", "--selection", "last"]) == 0
    with pytest.warns(Notice, match="operator_seed 8 does not seem to be the one that measured; operator_seed 7 would"):
        assert main([*SMALL, *cs, "--operator_seed", "8", "--out", "q"]) == 0


def test_several_measurements_make_several_pictures(face: torch.Tensor) -> None:
    operator = make_operator("cs", (3, 16, 16), rate=0.1)
    np.save("y.npy", operator(face.repeat(2, 1, 1, 1)).double().numpy())
    assert main([*SMALL, "--task", "cs", "--rate", "0.1", "--input", "y.npy"]) == 0
    out = Path("runs/reconstruct/00000-ilo-cs")
    assert sorted(p.name for p in out.glob("r*.png")) == ["reconstruction-000.png", "reconstruction-001.png"]
    assert sorted(p.name for p in out.glob("s*.png")) == ["sheet-000.png", "sheet-001.png"]


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
    assert (result.method, result.settings["steps"], result.settings["lr"]) == ("csgm", 6, 0.1)
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
        (
            ["--input", "face.png", "--task", "mri", "--rate", "0.1"],
            ["2 x 3 x 16 x 9 numbers", "give an .npy"],
        ),
        (["--input", "face.png", "--task", "phase", "--exposures", "1"], ["measures 1 x 3 x 16 x 16 numbers"]),
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


def _latents(out: str, name: str = "result") -> dict[str, torch.Tensor]:
    return load_result(f"{out}/{name}.safetensors").latents


def _shown(path: str) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


@pytest.mark.parametrize("method", ["ilo", "csgm", "mganprior"])
def test_a_start_is_where_the_earlier_result_ended(method: str, face: torch.Tensor) -> None:
    task = ["--task", "inpaint", "--mask", "mask.png", "--input", "face.png", "--method", method, "--codes", "3"]
    task += ["--precision", "float32"]
    assert main([*SMALL, *task, "--out", "o"]) == 0
    start = ["--start_from", "o/result.safetensors", "--seed", "5"]
    assert main([*SMALL, *task, *start, "--out", "same", "--steps", "0"]) == 0
    assert Path("same/reconstruction.png").read_bytes() == Path("o/reconstruction.png").read_bytes()
    assert main([*SMALL, *task, *start, "--out", "on", "--steps", "9", "--frames", "4"]) == 0
    ((before,), (after,)) = (_result(out)["images"] for out in ("o", "on"))  # type: ignore[misc, attr-defined]
    assert after["measurement_error"] < before["measurement_error"]  # type: ignore[index]
    with Image.open("on/frames.png") as animation:
        first = np.array(animation.convert("RGB"))[3::6, 3::6]
    assert np.array_equal(first, _shown("o/reconstruction.png"))
    digest = hashlib.sha256(Path("o/result.safetensors").read_bytes()).hexdigest()
    assert load_result("on/result.safetensors").settings["start_from"] == digest
    assert "start_from" not in load_result("o/result.safetensors").settings


def _frames(face: torch.Tensor, count: int) -> None:
    """A face that fades into its mirror image a little, as frames/f1.png, ..., from f8.png on."""
    Path("frames").mkdir()
    for n in range(count):
        x = torch.lerp(face, face.flip(3), 0.05 * n)[0]
        pixels = (x * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(f"frames/f{8 + n}.png")
    Path("frames/.hidden").touch()


def test_frames_of_a_sequence_start_from_the_one_before(face: torch.Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    _frames(face, 3)
    assert main([*SMALL, "--sequence", "--input", "frames", "--out", "o", "--steps", "20"]) == 0
    images: list[dict[str, object]] = _result("o")["images"]  # type: ignore[assignment]
    assert [image["input"] for image in images] == ["f8.png", "f9.png", "f10.png"]
    assert [image["picture"] for image in images] == [f"reconstruction-00{n}.png" for n in range(3)]
    assert capsys.readouterr().out.count(": ok, ") == 3
    alone = {}
    for n in range(3):
        assert main([*SMALL, "--input", f"frames/f{8 + n}.png", "--out", f"alone{n}", "--steps", "20"]) == 0
        (alone[n],) = _result(f"alone{n}")["images"]  # type: ignore[misc]
    assert Path("o/reconstruction-000.png").read_bytes() == Path("alone0/reconstruction.png").read_bytes()
    for n in (1, 2):
        error: float = images[n]["measurement_error"]  # type: ignore[assignment]
        assert error < 0.8 * alone[n]["measurement_error"]  # type: ignore[index]
    by_hand = ["--start_from", "o/result-000.safetensors", "--input", "frames/f9.png", "--steps", "20"]
    assert main([*SMALL, *by_hand, "--out", "hand"]) == 0
    assert Path("hand/reconstruction.png").read_bytes() == Path("o/reconstruction-001.png").read_bytes()
    again = load_result("o/result-002.safetensors").render(load_snapshot(RUN))
    assert np.array_equal((again[0] * 255).round().byte().permute(1, 2, 0).numpy(), _shown("o/reconstruction-002.png"))


def test_later_frames_may_move_the_last_cut_only(face: torch.Tensor) -> None:
    _frames(face, 2)
    argv = ["--sequence", "--input", "frames", "--frame_steps", "0,0,6", "--noise", "all", "--selection", "last"]
    assert main([*SMALL, *argv, "--out", "o"]) == 0
    first, second = (_latents("o", f"result-00{n}") for n in range(2))
    assert all(torch.equal(first[name], second[name]) for name in ("z1_1", "noise_0", "noise_1", "noise_2"))
    assert not torch.equal(first["z1_2"], second["z1_2"])
    steps = [load_result(f"o/result-00{n}.safetensors").settings["steps"] for n in range(2)]
    assert steps == [[2, 2, 2], [0, 0, 6]]
    start = ["--start_from", "o/result-001.safetensors", "--radius_feature", "0.5"]
    assert main([*SMALL, *argv, *start, "--out", "on"]) == 0
    third = _latents("on", "result-000")
    assert torch.equal(third["z1_1"], second["z1_1"])
    assert (third["z1_2"] - second["z1_2"]).abs().sum() <= 0.5 * 1.001


def test_a_sequence_of_measurements_with_restarts_and_frames(face: torch.Tensor) -> None:
    operator = make_operator("cs", (3, 16, 16), rate=0.3)
    np.save("y.npy", operator(torch.cat([face, face * 0.98]), ["0", "1"]).numpy())
    argv = ["--task", "cs", "--rate", "0.3", "--input", "y.npy", "--sequence"]
    assert main([*SMALL, *argv, "--out", "f", "--frames", "3"]) == 0
    assert {path.name for path in Path("f").iterdir()} == {
        "result.json", *(f"{name}-00{n}.{kind}" for n in range(2) for name, kind in (
            ("reconstruction", "png"), ("sheet", "png"), ("frames", "png"),
            ("result", "safetensors"), ("history", "csv"),
        )),
    }  # fmt: skip
    assert main([*SMALL, *argv, "--out", "m", "--restarts", "2", "--combination", "mean"]) == 0
    assert all(_latents("m", f"result-00{n}")["v"].shape[:2] == (2, 1) for n in range(2))
    assert Path("m/spread-001.png").exists()
    assert [image["input"] for image in _result("m")["images"]] == ["y.npy[0]", "y.npy[1]"]  # type: ignore[attr-defined]
    assert main([*SMALL, *argv, "--out", "b", "--restarts", "3"]) == 0
    assert _latents("b", "result-001")["v"].shape[:2] == (1, 1)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--start_from", "no"], ["result no does not exist"]),
        (["--start_from", "o/result.safetensors", "--restarts", "2"], ["restarts is 2", "leave one of them away"]),
        (["--start_from", "o/result.safetensors", "--snapshot", VANILLA], ["made with weights"]),
        (["--start_from", "o/result.safetensors", "--method", "pulse"], ["unknown tensor in start_from 'z1_1'"]),
        (["--start_from", "o/result.safetensors", "--method", "mganprior"], ["v in start_from has shape"]),
        (["--start_from", "o/result.safetensors", "--input", "two.npy"], ["holds 1 pictures but two.npy has 2"]),
        (["--start_from", "two/result.safetensors", "--sequence"], ["holds 2 pictures", "a sequence starts from 1"]),
        (["--frame_steps", "3"], ["frame_steps", "--sequence"]),
        (["--input", "empty"], ["empty holds no pictures"]),
        (["--input", "empty", "--sequence"], ["empty holds no pictures"]),
        (["--input", "mixed"], ["mixed/notes.txt is no picture or array"]),
        (["--input", "face.png", "--sequence", "--frame_steps", "1,1,1,1"], ["steps has 4 rounds"]),
    ],
)
def test_a_start_that_does_not_fit_is_one_line_and_code_2(
    argv: list[str], words: list[str], face: torch.Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("two.npy", face.repeat(2, 1, 1, 1).numpy())
    assert main([*SMALL, "--input", "face.png", "--out", "o"]) == 0
    assert main([*SMALL, "--input", "two.npy", "--out", "two"]) == 0
    Path("empty").mkdir()
    Path("mixed").mkdir()
    Path("mixed/notes.txt").touch()
    capsys.readouterr()
    for dry in ([], ["--dry_run"]):
        assert main([*SMALL, "--input", "face.png", *argv, *dry]) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert all(word in err for word in words), err
    assert not Path("runs/reconstruct").exists()


def test_dry_run_tells_of_sequence_and_start(face: torch.Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--input", "face.png", "--out", "o"]) == 0
    _frames(face, 2)
    argv = ["--input", "frames", "--sequence", "--start_from", "o/result.safetensors", "--dry_run"]
    assert main([*SMALL, *argv]) == 0
    told = capsys.readouterr().out
    assert "# reconstruct 2 x inversion from frames" in told
    assert "as a sequence, starting from o/result.safetensors" in told
