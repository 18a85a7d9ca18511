import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from rtil.__main__ import main
from rtil.cli.eval import main as evaluate
from rtil.errors import Notice
from rtil.interop.rosinality_export import rosinality_checkpoint, to_rosinality_generator
from rtil.interop.self_test import invert_own, own_samples
from rtil.seeds import generator as seeded
from rtil.snapshot import load_snapshot
from tests.rtil.interop import made

FAST = ["--steps", "1", "--device", "cpu"]
CARD = ["--licence", "CC BY-NC 4.0", "--source", "https://example.org/ffhq"]
SMALL = ["--images", "2", "--steps", "1", "--lpips", "none", "--device", "cpu"]


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a checkpoint in rosinality's layout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path / "cache"))
    torch.save(rosinality_checkpoint(made.stylegan2()), "550000.pt")
    return Path("550000.pt")


def info_of(path: str) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return dict(json.loads(file.metadata()["info"]))


def test_a_checkpoint_becomes_a_snapshot_with_its_card_and_a_sheet(
    foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(foreign), *CARD, *FAST]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "550000.pt: rosinality's stylegan2-pytorch (g_ema)" in out
    assert "stylegan2, 16 px, z of 12, w of 12, 3 mapping layers, mean w stored" in out
    assert "channels by side: 4:7 8:6 16:5" in out
    assert "sample 0 inverted by ILO in 1,1,1 steps: " in out
    with Image.open("550000-samples.png") as sheet:
        assert sheet.size == (4 * 32, 4 * 32)
    info = info_of("550000.safetensors")
    assert (info["licence"], info["source"], info["w_mean"]) == ("CC BY-NC 4.0", "https://example.org/ffhq", "stored")
    assert len(info["sha256"]) == 64
    assert load_snapshot("550000.safetensors").weight_hash == load_snapshot(foreign).weight_hash


def test_a_card_that_lacks_something_is_one_notice(foreign: Path) -> None:
    with pytest.warns(Notice, match="^no --licence and no --source: whoever gets the snapshot should know") as told:
        assert main(["convert", str(foreign), "--self_test", "false"]) == 0
    assert len(told) == 1
    assert not Path("550000-samples.png").exists()


def test_dry_run_writes_nothing(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(foreign), "--dry_run"]) == 0
    assert "# stylegan2, 16 px" in capsys.readouterr().out
    assert sorted(path.name for path in Path().iterdir()) == ["550000.pt"]


def test_there_and_back(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(foreign), "--self_test", "false", *CARD]) == 0
    assert main(["convert", "550000.safetensors", "--to", "rosinality", "--out", "back.pt"]) == 0
    assert "for Generator(16, 12, 3) with the table channels = {4: 7, 8: 6, 16: 5} in its model.py" in (
        capsys.readouterr().out
    )
    before, back = (torch.load(path, weights_only=True) for path in (foreign, "back.pt"))
    assert torch.equal(before["latent_avg"], back["latent_avg"])
    assert before["g_ema"].keys() == back["g_ema"].keys()
    assert all(torch.equal(before["g_ema"][key], back["g_ema"][key]) for key in before["g_ema"])
    assert back["info"]["licence"] == "CC BY-NC 4.0"


def test_the_shipped_prior_as_rosinality_s(foreign: Path) -> None:
    assert main(["convert", "shipped:rtil", "--to", "rosinality"]) == 0
    assert load_snapshot("rtil.pt").weight_hash == load_snapshot("shipped:rtil").weight_hash


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "FILE is needed: rtil convert FILE"),
        (["nowhere.pt"], "nowhere.pt does not exist"),
        (["runs"], "runs is a folder: give the file of a checkpoint"),
        (["550000.pt", "--out", "x.pt"], "valid for snapshot is the name of a .safetensors file"),
        (["550000.pt", "--to", "stylegan3"], "valid is one of snapshot, rosinality"),
        (["550000.pt", "--out", "taken.safetensors"], "already exists"),
        (["own.safetensors", "--out", "new.safetensors"], "is a snapshot already"),
        (["page.pt"], "is a web page"),
        (["pggan.pth", "--to", "rosinality"], "there is none for pggan"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    argv: list[str], words: str, foreign: Path, make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("00000-own", rtil=False)
    Path("own.safetensors").write_bytes(next(run.glob("*.safetensors")).read_bytes())
    Path("taken.safetensors").touch()
    Path("page.pt").write_text("<html><body>Too many users have viewed this file")
    torch.save(made.genforce_weights(), "pggan.pth")
    before = sorted(Path().iterdir())
    assert main(["convert", *argv]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert words in err, err
    assert sorted(Path().iterdir()) == before


def test_the_inversion_of_an_own_sample_comes_nearer(foreign: Path) -> None:
    generator = load_snapshot(foreign).generator
    picture = own_samples(generator, seed=0)[:1]
    found = invert_own(generator, picture, (20, 10), seed=0)
    assert found.reached > found.start + 3


def every_command(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a foreign file through all commands, as it is."""
    given = ["--snapshot", str(checkpoint)]
    side = load_snapshot(checkpoint).generator.resolution
    assert main(["sample", *given, "--count", "2", "--device", "cpu"]) == 0
    Image.new("RGB", (side, side), (200, 120, 90)).save("photo.png")
    assert main(["reconstruct", *given, *FAST, "--input", "photo.png", "--out", "r"]) == 0
    assert main(["render", *given, "--result", "r/result.safetensors", "--out", "again", "--device", "cpu"]) == 0
    assert Path("again/reconstruction.png").read_bytes() == Path("r/reconstruction.png").read_bytes()
    with pytest.warns(Notice, match="there is no linear prior: name pictures as --linear_data"):
        assert evaluate([*SMALL, "--checkpoints", f"f={checkpoint}", "--data", "synthetic", "--out", "e"]) == 0
    assert "trained elsewhere" in capsys.readouterr().out
    assert len(Path("e/rows.jsonl").read_text().splitlines()) == 2


def test_foreign_files_in_every_command(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every_command(foreign, capsys)


def test_published_pggan_in_every_command(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(made.gan_zoo_weights(), "celebaHQ.pth")
    every_command(Path("celebaHQ.pth"), capsys)


@pytest.mark.parametrize("name", ["stylegan2_ada_32.pkl", "pggan_rtil.safetensors", "rosinality.pt"])
def test_golden_files_in_every_command(
    name: str, shared: Path, foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared / "golden" / name
    if name == "rosinality.pt":
        with safe_open(shared / "golden" / "stylegan2_rosinality_32.safetensors", framework="pt") as file:
            keys = [key for key in file.keys() if key.startswith("g_ema.")]  # noqa: SIM118 (not a dict)
            torch.save({"g_ema": {key.removeprefix("g_ema."): file.get_tensor(key) for key in keys}}, name)
        path = Path(name)
    assert main(["convert", str(path), "--out", "golden.safetensors", *CARD, *FAST]) == 0
    assert load_snapshot(path).weight_hash == load_snapshot("golden.safetensors").weight_hash
    every_command(Path("golden.safetensors"), capsys)


def test_quality_needs_pictures(
    foreign: Path, make_pictures: Callable[..., Path], random_backbone: None, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["quality", "--snapshot", str(foreign), "--samples", "8", "--device", "cpu", "--no_linear"]
    assert main(given) == 2
    assert "does not say what it was trained on: give --data" in capsys.readouterr().err
    assert main([*given, "--data", str(make_pictures(Path("faces"), 40, 16))]) == 0


def test_a_linear_prior_where_its_pictures_are_named(
    foreign: Path, make_pictures: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(make_pictures(Path("faces"), 60, 16))
    asked = [*SMALL, "--checkpoints", f"f={foreign}", "--data", "synthetic", "--out", "e"]
    assert evaluate([*asked, "--linear"]) == 2
    assert "name pictures as --linear_data" in capsys.readouterr().err
    assert evaluate([*asked, "--linear_data", data]) == 0
    rows = [json.loads(line) for line in Path("e/rows.jsonl").read_text().splitlines()]
    assert [row["method"] for row in rows] == ["ilo", "ilo", "linear", "linear"]


def test_a_foreign_prior_beside_an_own_one(
    foreign: Path, make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    own = make_run("00000-own", rtil=False)
    asked = [*SMALL, "--no_linear", "--checkpoints", f"own={own}", f"theirs={foreign}"]
    assert evaluate(asked) == 2
    assert "give held-out pictures as --data" in capsys.readouterr().err
    assert evaluate([*asked, "--data", "synthetic"]) == 0
    out = capsys.readouterr().out
    assert "Training length in thousands of images: own 1." in out
    assert "of ways to train: theirs." in " ".join(out.split())


def test_noise_of_an_export_is_drawn_from_a_seed(foreign: Path) -> None:
    first, second = (to_rosinality_generator(made.stylegan2(seed=seed)) for seed in (0, 1))
    assert torch.equal(first["noises.noise_4"], second["noises.noise_4"])
    assert torch.equal(first["noises.noise_0"], torch.randn(1, 1, 4, 4, generator=seeded(0, "export/noise", 0)))
