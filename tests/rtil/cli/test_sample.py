import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import rtil
from rtil import sampling
from rtil.branches import additive_branches
from rtil.cli.sample import main
from rtil.sampling import samples
from rtil.snapshot import load_snapshot

VANILLA, RTIL = (f"runs/train/0000{n}-stylegan2-{name}-synthetic-16" for n, name in enumerate(["vanilla", "rtil"]))


def test_a_grid_of_samples(workplace: Path) -> None:
    assert main(["--snapshot", VANILLA, "--count", "10", "--out", "grids/s.png"]) == 0
    with Image.open("grids/s.png") as grid:
        assert grid.size == (8 * 64, 2 * 64)


def test_a_row_for_each_branch(workplace: Path) -> None:
    assert main(["--snapshot", RTIL, "--count", "3", "--branches"]) == 0
    with Image.open("samples.png") as grid:
        assert grid.size == (3 * 64, 3 * 64)


def test_branches_share_their_latents_and_the_first_is_plain(workplace: Path) -> None:
    G = load_snapshot(RTIL).generator
    plain = samples(G, 2, 1.0, seed=4)
    rows = samples(G, 2, 1.0, 4, additive_branches(True, G.num_blocks)).view(3, 2, *plain.shape[1:])
    assert torch.equal(rows[0], plain)
    assert not torch.allclose(rows[1], rows[0], atol=1e-3)
    assert not torch.allclose(rows[2], rows[1], atol=1e-3)
    without_noise = samples(G, 2, 1.0, 4, additive_branches(True, G.num_blocks, sigma=0.0)).view_as(rows)
    assert torch.equal(without_noise[2], plain)


def test_large_pictures_are_made_one_at_a_time_and_are_the_same(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    G = load_snapshot(VANILLA).generator
    together = samples(G, 3, 1.0, seed=4)
    monkeypatch.setattr(sampling, "PIXELS_AT_ONCE", G.resolution**2)
    torch.testing.assert_close(samples(G, 3, 1.0, seed=4), together, rtol=1e-5, atol=1e-5)


def test_no_truncation_is_the_mapping_itself_and_full_one_the_mean_style(workplace: Path) -> None:
    G = load_snapshot(VANILLA).generator
    styles = []
    hook = G.register_forward_pre_hook(lambda module, args: styles.append(args[0]))
    try:
        for truncation in (0.0, 0.5, 1.0):
            samples(G, 3, truncation, seed=0)
    finally:
        hook.remove()
    mean, half, full = styles
    assert torch.equal(mean[0], mean[1])
    torch.testing.assert_close(half, (mean + full) / 2)
    assert not torch.allclose(full[0], full[1])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--snapshot", "shipped:best"], ["shipped:vanilla, shipped:rtil"]),
        (["--snapshot", "no"], ["snapshot no does not exist"]),
        (["--snapshot", VANILLA, "--branches"], ["without RTIL"]),
        (["--snapshot", VANILLA, "--truncation", "-1"], ["truncation is -1"]),
        (["--snapshot", VANILLA, "--count", "0"], ["count is 0"]),
        (["--snapshot", VANILLA, "--out", "x.jpg"], ["x.jpg", ".png"]),
        (["--snapshot", "x" * 300], ["does not exist"]),
        (["--snapshot", VANILLA, "--out", VANILLA + "/snapshot-000001.safetensors/x.png"], ["a file is in the way"]),
        (["--snapshot", VANILLA, "--trunction", "1"], ["'--truncation'"]),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    argv: list[str], words: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert all(word in err for word in words), err


def test_mixtures_have_a_row_for_each_number_of_codes(
    workplace: Path, make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("codes", rtil=True, arch="pggan", branches="mixture", mixture_side=4, codes=[1, 3])
    assert main(["--snapshot", str(run), "--count", "3", "--branches"]) == 0
    with Image.open("samples.png") as grid:
        assert grid.size == (3 * 64, 2 * 64)
    assert main(["--snapshot", str(run), "--truncation", "0.5"]) == 2
    assert "no styles to truncate" in capsys.readouterr().err


def test_the_module_runs_as_a_program(workplace: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(rtil.__file__).parents[1])}
    command = [sys.executable, "-m", "rtil", "sample", "--snapshot", RTIL, "--count", "1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("wrote samples.png: 1 samples of")


def test_an_unknown_tier_is_one_line(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RTIL_OPS", "fast")
    assert main(["--snapshot", VANILLA, "--count", "1"]) == 2
    assert capsys.readouterr().err == "error: unknown RTIL_OPS tier 'fast': valid are ref, native, ext, auto\n"
