import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ilo import CSGM, ILO, PULSE, Langevin, SparseDeviation
from mganprior import MGANPrior
from rtil import __version__
from rtil.errors import UserError
from rtil.generators.base import LayeredGenerator
from rtil.inverse.recipe import make_with_recipe
from rtil.inverse.registry import settings_class
from rtil.inverse.result import Inversion
from rtil.inverse.result_file import ResultFile, load_result, save_result
from rtil.inverse.sealed import digest
from rtil.snapshot import Snapshot, load_snapshot

SIZE = (3, 16, 16)


METHODS = {ILO: "ilo", Langevin: "langevin", CSGM: "csgm", PULSE: "pulse", MGANPrior: "mganprior"}


def sparse(generator: LayeredGenerator, seed: int, inner: str, steps: Any, **options: Any) -> SparseDeviation:
    """Return sparse deviations of few steps behind another solver."""
    few = {"radius": 5.0, "alternations": 2, "steps": 3, "sparse_steps": 4}
    before = settings_class(inner)(steps=steps)  # type: ignore[call-arg]
    return SparseDeviation(generator, inner=inner, before=before, seed=seed, **few, **options)


@pytest.fixture
def snapshot(make_run: Callable[..., Path], cache: Path) -> Snapshot:
    return load_snapshot(make_run("a", rtil=True))


@pytest.fixture
def x() -> Tensor:
    return torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(0))


def solved(
    snapshot: Snapshot, x: Tensor, solver: Callable[..., Any], task: str, parameters: dict[str, Any], **options: Any
) -> tuple[Inversion, ResultFile]:
    operator, recipe = make_with_recipe(task, SIZE, seed=3, **parameters)
    y = operator(x)
    found = solver(snapshot.generator, seed=1, **options).invert(y, operator)
    settings = {"seed": 1, "steps": [3], "back_projection": options.get("back_projection", False)}
    return found, ResultFile.of(found, y, recipe, snapshot, METHODS.get(solver, "sparse"), settings)


@pytest.mark.parametrize(
    ("solver", "options"),
    [
        (ILO, {"steps": (3, 2, 2)}),
        (ILO, {"steps": (2, 2), "restarts": 3}),
        (ILO, {"steps": (2, 2), "restarts": 3, "combination": "mean"}),
        (ILO, {"steps": (2, 2), "restarts": 2, "combination": "mean", "back_projection": True}),
        (Langevin, {"steps": 6, "samples": 2, "restarts": 2, "cuts": 2}),
        (CSGM, {"steps": 3}),
        (MGANPrior, {"steps": 3, "codes": 3}),
        (MGANPrior, {"steps": 2, "codes": 2, "restarts": 2, "combination": "mean"}),
        (PULSE, {"steps": 3}),
        (PULSE, {"steps": 3, "noise": "zero", "restarts": 2, "combination": "mean"}),
        (sparse, {"inner": "ilo", "steps": (3, 2, 2)}),
        (sparse, {"inner": "ilo", "steps": (2, 2), "selection": "last", "restarts": 2, "combination": "mean"}),
        (sparse, {"inner": "csgm", "steps": 3}),
        (sparse, {"inner": "pulse", "steps": 3}),
        (ILO, {"steps": (2, 2), "batch_size": 1}),
    ],
)
@pytest.mark.parametrize(("task", "parameters"), [("cs", {"rate": 0.3}), ("colorize", {})])
def test_pictures_are_made_again_bit_for_bit(
    solver: Callable[..., Any],
    options: dict[str, Any],
    task: str,
    parameters: dict[str, Any],
    snapshot: Snapshot,
    x: Tensor,
    tmp_path: Path,
) -> None:
    found, result = solved(snapshot, x, solver, task, parameters, **options)
    save_result(tmp_path / "r.safetensors", result)
    read = load_result(tmp_path / "r.safetensors")
    assert torch.equal(read.render(load_snapshot(snapshot.path)), found.x)
    assert not list(tmp_path.glob(".*.tmp-*"))
    if "combination" in options or solver is Langevin:
        assert torch.equal(read.spread, found.spread)  # type: ignore[arg-type]
    else:
        assert read.spread is None


def test_each_batch_is_made_again_as_it_was(snapshot: Snapshot, tmp_path: Path) -> None:
    x = torch.rand(5, *SIZE, generator=torch.Generator().manual_seed(1))
    found, result = solved(snapshot, x, ILO, "cs", {"rate": 0.3}, steps=(2, 2), batch_size=2)
    save_result(tmp_path / "r.safetensors", result)
    read = load_result(tmp_path / "r.safetensors")
    assert read.batches == [2, 2, 1]
    assert torch.equal(read.render(snapshot), found.x)


def test_files_of_older_versions_are_one_batch(snapshot: Snapshot, x: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    found, result = solved(snapshot, x, CSGM, "inversion", {}, steps=1)
    save_result(path, result)
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
    del about["batches"], about["labels"]
    text = json.dumps(about)
    _rewrite(path, about=text, sha256=digest(text, load_file(path)))
    read = load_result(path)
    assert read.batches == [2]
    assert torch.equal(read.render(snapshot), found.x)


def test_what_converged_is_kept(snapshot: Snapshot, x: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    for eps, expected in ((1e-9, [False, False]), (9.0, [True, True])):
        save_result(path, solved(snapshot, x, PULSE, "inversion", {}, steps=1, eps=eps)[1])
        assert load_result(path).latents.converged == expected
    save_result(path, solved(snapshot, x, CSGM, "inversion", {}, steps=1)[1])
    assert load_result(path).latents.converged is None


@pytest.mark.parametrize("arch", ["stylegan2", "pggan"])
def test_of_either_architecture_and_what_is_kept(
    arch: str, make_run: Callable[..., Path], x: Tensor, tmp_path: Path, cache: Path
) -> None:
    snapshot = load_snapshot(make_run("b", rtil=True, arch=arch))
    found, result = solved(snapshot, x, ILO, "sr", {"factor": 2}, steps=(2, 2))
    save_result(tmp_path / "r.safetensors", result)
    read = load_result(tmp_path / "r.safetensors")
    assert torch.equal(read.render(snapshot), found.x)
    assert read.latents.keys() == found.latents.keys() >= {"v", "ws", "z1_1"}
    assert all(torch.equal(read.latents[name], t) for name, t in found.latents.items())
    assert torch.equal(read.y, result.y)
    assert torch.equal(read.score, found.score)
    for name in ("status", "seconds", "method", "settings", "weight_hash", "info", "tool"):
        assert getattr(read, name) == getattr(result, name), name
    assert (read.recipe.task, read.recipe.parameters, read.recipe.seed) == ("sr", {"factor": 2}, 3)
    assert (read.weight_hash, read.info) == (snapshot.weight_hash, snapshot.info)


def test_colors_are_uncertain_but_not_the_luma(snapshot: Snapshot, x: Tensor) -> None:
    found, _ = solved(snapshot, x, CSGM, "colorize", {}, steps=2, restarts=4, combination="mean")
    operator = make_with_recipe("colorize", SIZE)[0]
    assert (operator.A(found.x) - operator.A(x)).abs().max() < 1e-5
    assert found.spread is not None
    assert found.spread.mean() > 1e-3
    single, _ = solved(snapshot, x, CSGM, "colorize", {}, steps=2)
    grey = torch.full_like(x, 0.0)
    flat, _ = solved(snapshot, grey, CSGM, "colorize", {}, steps=2, restarts=2, combination="mean")
    assert single.spread is None
    assert flat.spread is not None
    assert flat.spread.max() < 1e-6, "black has one colour"


def test_the_mask_is_inside(snapshot: Snapshot, x: Tensor, tmp_path: Path) -> None:
    mask = tmp_path / "half.png"
    picture = Image.new("1", SIZE[1:], 1)
    picture.paste(0, (0, 0, 8, 16))
    picture.save(mask)
    _, result = solved(snapshot, x, CSGM, "inpaint", {"mask": mask}, steps=1)
    mask.unlink()
    save_result(tmp_path / "r.safetensors", result)
    operator = load_result(tmp_path / "r.safetensors").recipe.make()
    assert operator.observed[:, :, 8:].all()
    assert not operator.observed[:, :, :8].any()
    assert operator.label == "inpaint half"


def test_another_snapshot_is_refused(snapshot: Snapshot, x: Tensor, make_run: Callable[..., Path]) -> None:
    _, result = solved(snapshot, x, CSGM, "inversion", {}, steps=1)
    other = load_snapshot(make_run("c", rtil=True, weights=9))
    with pytest.raises(UserError) as error:
        result.render(other)
    text = str(error.value)
    assert snapshot.weight_hash[:12] in text
    assert other.weight_hash[:12] in text
    assert "arch stylegan2" in text
    assert "give the snapshot that it was made with" in text


def _rewrite(path: Path, **metadata: str) -> None:
    with safe_open(path, framework="pt") as file:
        before = file.metadata()
    save_file(load_file(path), path, before | metadata)


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda path: _flip(path, -5), "is damaged (its content does not fit its checksum)"),
        (lambda path: _rewrite(path, about="{}"), "checksum"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is damaged, or no result"),
        (lambda path: path.write_bytes(b"\x89PNG, or anything"), "is damaged, or no result"),
        (lambda path: path.write_bytes(b""), "is damaged, or no result"),
        (
            lambda path: _rewrite(path, format="rtil-result-2"),
            f"'rtil-result-2' but rtil {__version__} reads 'rtil-result-1': up",
        ),
        (lambda path: _rewrite(path, format="rtil-snapshot-1"), "is no result (format 'rtil-snapshot-1')"),
        (lambda path: save_file({"y": torch.ones(1)}, path), "is no result (format '')"),
        (
            lambda path: save_file({"y": torch.ones(1)}, path, {"format": "rtil-result-1"}),
            "its metadata lacks about, sha256",
        ),
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
    ],
)
def test_what_is_not_a_sound_result_is_refused(
    harm: Callable[[Path], object], words: str, snapshot: Snapshot, x: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "r.safetensors"
    save_result(path, solved(snapshot, x, CSGM, "inversion", {}, steps=0)[1])
    load_result(path)
    harm(path)
    with pytest.raises(UserError) as error:
        load_result(path)
    assert words in str(error.value)
    assert "r.safetensors" in str(error.value)


def test_a_failed_write_leaves_the_old_file(snapshot: Snapshot, x: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    _, result = solved(snapshot, x, CSGM, "inversion", {}, steps=0)
    save_result(path, result)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_result(path, replace(result, settings={"seed": object()}))
    assert path.read_bytes() == before


def test_anyone_can_read_what_it_is(snapshot: Snapshot, x: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    save_result(path, solved(snapshot, x, CSGM, "inversion", {}, steps=0)[1])
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
    assert about["tool"].startswith("rtil ")
    assert about["pictures"] == 2
    assert about["operator"] == {
        "task": "inversion", "img_size": [3, 16, 16], "parameters": {}, "seed": 3, "noise_sigma": 0.0
    }  # fmt: skip
