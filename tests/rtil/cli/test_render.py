import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import rtil
from rtil.cli.reconstruct import main as reconstruct
from rtil.cli.render import main
from rtil.data import open_dataset
from rtil.inverse.operators import make_operator

RUN = "runs/train/00001-stylegan2-rtil-synthetic-16"
VANILLA = "runs/train/00000-stylegan2-vanilla-synthetic-16"


@pytest.fixture
def result(workplace: Path) -> str:
    """A result of two pictures."""
    faces = open_dataset("synthetic", 16, "test")
    x = np.stack([faces[i].float().numpy() / 255 for i in range(2)])
    operator = make_operator("cs", (3, 16, 16), rate=0.25)
    np.save("y.npy", operator(torch.from_numpy(x)).numpy())
    argv = ["--task", "cs", "--rate", "0.25", "--input", "y.npy", "--out", "o", "--steps", "2", "--device", "cpu"]
    assert reconstruct([*argv, "--snapshot", RUN, "--restarts", "2", "--combination", "mean"]) == 0
    return "o/result.safetensors"


def test_the_same_files_again(result: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--result", result, "--snapshot", RUN, "--out", "p", "--device", "cpu"]) == 0
    names = ["reconstruction-000.png", "reconstruction-001.png", "spread.png"]
    assert sorted(p.name for p in Path("p").iterdir()) == names
    for name in names:
        assert Path("p", name).read_bytes() == Path("o", name).read_bytes(), name
    images = json.loads(Path("o/result.json").read_text())["images"]
    told = [f"p/{i['picture']}: {i['status']}, measurement error {i['measurement_error']:.3g}\n" for i in images]
    assert capsys.readouterr().out == "".join(told)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--snapshot", RUN, "--out", "p"], ["--result FILE is needed"]),
        (["--result", "o/result.safetensors", "--out", "p"], ["--snapshot RUN_OR_FILE is needed"]),
        (["--result", "o/result.safetensors", "--snapshot", RUN], ["--out FOLDER is needed"]),
        (["--result", "o/result.safetensors", "--snapshot", RUN, "--out", "o"], ["o/reconstruction-000.png already"]),
        (["--result", "o/result.safetensors", "--snapshot", VANILLA, "--out", "p"], ["made with weights", "rtil True"]),
        (["--result", "no", "--snapshot", RUN, "--out", "p"], ["result no does not exist"]),
        (["--result", "o", "--snapshot", RUN, "--out", "p"], ["result o is a folder"]),
        (["--result", "o/result.json", "--snapshot", RUN, "--out", "p"], ["is damaged, or no result"]),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    argv: list[str], words: list[str], result: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main([*argv, "--device", "cpu"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not Path("p").exists()


def test_dry_run_renders_nothing(result: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--result", result, "--snapshot", RUN, "--out", "p", "--device", "cpu", "--dry_run"]) == 0
    assert "# render 2 x cs by ilo" in capsys.readouterr().out
    assert not Path("p").exists()


def test_the_module_runs_as_a_program_in_another_process(result: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(rtil.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "rtil", "render", "--result", result, "--snapshot", RUN, "--out", "p"]
    done = subprocess.run([*command, "--device", "cpu"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open("p/reconstruction-001.png") as again, Image.open("o/reconstruction-001.png") as first:
        assert again.tobytes() == first.tobytes()
    assert done.stdout.startswith("p/reconstruction-000.png: ok, measurement error ")
