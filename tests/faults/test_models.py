"""Models, checkpoints, settings and caches that are not what they should be: one line, exit code 2, nothing lost.

Numbers are those of the table in docs/faults/models.md.
"""

import contextlib
import importlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rtil.cli.convert import main as convert
from rtil.cli.doctor import main as doctor
from rtil.cli.eval import main as evaluate
from rtil.cli.measure import main as measure
from rtil.cli.quality import main as quality
from rtil.cli.reconstruct import main as reconstruct
from rtil.cli.sample import main as sample
from rtil.cli.train import main as train
from rtil.data.cache import preload
from rtil.data.sets import open_dataset
from rtil.errors import Notice, RunError, UserError
from rtil.inverse import latent_space
from rtil.ops import build
from rtil.packages import broken_package
from rtil.quality.features import inception
from rtil.runs import claim
from rtil.snapshot import load_snapshot, save_snapshot
from rtil.tensor_files import read_tensors
from rtil.training.checkpoint import SET_ASIDE, AtomicCheckpointIO, checkpoints
from rtil.weights.classifiers import read_weights
from tests.faults import models
from tests.faults.fuzz import TRIES

SMALL = ["--resolution", "8", "--channels", "{4:4,8:4}", "--mapping_layers", "1", "--z_dim", "8", "--w_dim", "8"]
SMALL += ["--batch", "4", "--device", "cpu"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_pictures: Callable[..., Path]) -> Path:
    monkeypatch.chdir(tmp_path)
    make_pictures(tmp_path / "faces", 6, 8)
    return tmp_path


@pytest.fixture
def run(here: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A run of four steps, its checkpoints at 12 and 16 images."""
    assert train([*SMALL, "--data", "faces", "--kimg", "0.016", "--checkpoint_kimg", "0.004", "--out", "run"]) == 0
    capsys.readouterr()
    return here / "run"


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what runs a command that is refused; gives its line."""

    def call(main: Callable[..., int], *words: str) -> str:
        capsys.readouterr()
        assert main(list(words)) == 2
        printed = capsys.readouterr()
        assert printed.err.count("\n") == 1, printed.err
        assert printed.err.startswith("error: ")
        assert "Traceback" not in printed.err
        return printed.err

    return call


def flipped(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Save a checkpoint anew with something in it changed."""
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)


# snapshots


def test_2_flipped_bytes_of_a_snapshot_are_noticed(here: Path, refused: Callable[..., str]) -> None:
    path = models.snapshot(here / "a.safetensors")
    flipped(path, path.stat().st_size - 7)
    assert "a.safetensors: it is damaged: its content does not fit its checksum" in refused(
        sample, "--snapshot", "a.safetensors"
    )
    models.snapshot(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'\\"kimg\\": 1.0', b'\\"kimg\\": 9.0'))
    assert path.read_bytes() != content
    assert "checksum" in refused(sample, "--snapshot", "a.safetensors")


def test_2_a_snapshot_of_before_there_were_checksums_opens(here: Path) -> None:
    path = models.snapshot(here / "a.safetensors")
    path.write_bytes(models.with_header(path.read_bytes(), lambda header: None))
    assert load_snapshot(path).info == models.INFO


def test_3_equal_trainings_give_equal_snapshots(here: Path) -> None:
    written = set()
    for name in ("a", "b", "c", "d", "e", "f"):
        written.add(models.snapshot(here / f"{name}.safetensors", sigma=2.0).read_bytes())
    assert len(written) == 1
    assert read_tensors(here / "a.safetensors").keys() == models.generator().state_dict().keys()


@pytest.mark.parametrize(
    ("table", "values", "words"),
    [
        ("config", {"channels": {"4": 4000, "8": 4000}}, "has shape [4, 4, 4], not [4000, 4, 4]"),
        ("config", {"mapping_layers": 10**7}, "its mapping_layers is 10000000: valid is from 1 to 1048576"),
        ("config", {"mapping_layers": 10**6}, "1000000 mapping layers, and the file only 29 weights"),
        ("config", {"w_dim": 10**9}, "its w_dim is 1000000000: valid is from 1 to 1048576"),
        ("config", {"resolution": 2**40}, "its resolution is"),
        ("config", {"resolution": "8"}, "resolution in its config is '8': valid is a whole number"),
        ("config", {"colour": 1}, "unknown key in its config 'colour'"),
        ("info", {"kimg": "many"}, "kimg in its info is 'many': valid is a number"),
        ("info", {"rtil": 1}, "rtil in its info is 1: valid is true or false"),
    ],
)
def test_4_metadata_is_checked_before_anything_is_built(
    table: str, values: dict[str, Any], words: str, here: Path, refused: Callable[..., str]
) -> None:
    path = models.snapshot(here / "a.safetensors")

    def change(header: dict[str, Any]) -> None:
        metadata = header["__metadata__"]
        metadata[table] = json.dumps(json.loads(metadata[table]) | values)

    path.write_bytes(models.with_header(path.read_bytes(), change))
    assert words in refused(sample, "--snapshot", "a.safetensors")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"config": None}, "its metadata lacks config"),
        ({"info": "{"}, "its info is not JSON"),
        ({"info": "[" * 100_000}, "its info is nested too deep"),
        ({"info": '{"a": 1, "a": 2}'}, "it has the key 'a' twice"),
        ({"config": "[]"}, "its config is []: valid is a table"),
        ({"colour": "red"}, "unknown key in its metadata 'colour'"),
        ({"format": "rtil-snapshot-2"}, "this version reads 'rtil-snapshot-1': update rtil"),
        ({"arch": "pggan"}, "unknown key in its config"),
    ],
)
def test_5_metadata_that_no_snapshot_has(
    metadata: dict[str, str | None], words: str, here: Path, refused: Callable[..., str]
) -> None:
    path = models.snapshot(here / "a.safetensors")

    def change(header: dict[str, Any]) -> None:
        merged = header["__metadata__"] | metadata
        header["__metadata__"] = {name: text for name, text in merged.items() if text is not None}

    path.write_bytes(models.with_header(path.read_bytes(), change))
    assert words in refused(sample, "--snapshot", "a.safetensors")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_45_weights_that_are_not_finite_are_named(value: str, here: Path, refused: Callable[..., str]) -> None:
    path = models.snapshot(here / "a.safetensors")
    tensors = load_file(path)
    tensors["blocks.1.conv0.weight"][1, 2, 0, 1] = float(value)
    G = models.generator()
    metadata = {"format": "rtil-snapshot-1", "arch": G.arch, "config": json.dumps(G.config), "info": "{}"}
    save_file(tensors, path, metadata)
    assert "weight 'blocks.1.conv0.weight' is not finite" in refused(sample, "--snapshot", "a.safetensors")


def test_6_a_checkpoint_in_the_place_of_a_snapshot(run: Path, refused: Callable[..., str]) -> None:
    line = refused(sample, "--snapshot", "run/checkpoint-00000000016.ckpt")
    assert "is a checkpoint of a training: give its run folder, or a snapshot" in line


# checkpoints


def test_6_a_snapshot_in_the_place_of_a_checkpoint(run: Path, refused: Callable[..., str]) -> None:
    line = refused(train, "--out", "run", "--resume", "run/snapshot-000000.safetensors")
    assert "is no checkpoint but a snapshot, or weights" in line


@pytest.mark.parametrize("place", ["state_dict", "optimizer_states"])
def test_45_a_checkpoint_that_is_not_finite(place: str, run: Path, refused: Callable[..., str]) -> None:
    def change(state: dict[str, Any]) -> None:
        if place == "state_dict":
            state["state_dict"]["D.fromrgb.weight"][0, 0] = float("nan")
        else:
            state["optimizer_states"][1]["state"][0]["exp_avg_sq"].fill_(float("inf"))

    path = run / "checkpoint-00000000016.ckpt"
    changed(path, change)
    name = "state_dict.D.fromrgb.weight" if place == "state_dict" else "optimizer_states.1.state.0.exp_avg_sq"
    line = refused(train, "--out", "run", "--resume", str(path), "--kimg", "0.02")
    assert f"has {name} that is not finite; an older one is" in line


def test_45_no_checkpoint_is_written_of_what_is_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-00000000001.ckpt"
    AtomicCheckpointIO().save_checkpoint({"optimizer_states": [torch.ones(2)]}, path)
    before = path.read_bytes()
    with pytest.raises(RunError, match=r"optimizer_states\.0 is not finite"):
        AtomicCheckpointIO().save_checkpoint({"optimizer_states": [torch.tensor([1, torch.nan])]}, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["empty", "cut short", "a bit", "text", "not finite"])
def test_39_the_newest_is_damaged_so_the_one_before_is_taken_and_it_is_set_aside(
    damage: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older, newest = checkpoints(run)
    if damage == "a bit":
        weight = torch.load(newest, weights_only=True)["state_dict"]["G.blocks.0.const"]
        flipped(newest, newest.read_bytes().index(weight.numpy().tobytes()))
    elif damage == "not finite":
        changed(newest, lambda state: state["state_dict"]["G_ema.w_mean"].fill_(float("nan")))
    else:
        newest.write_bytes({"empty": b"", "cut short": newest.read_bytes()[:-300], "text": b"weights"}[damage])
    with pytest.warns(Notice, match=rf"checkpoint run/{newest.name} .*; going on from run/{older.name}"):
        assert train(["--out", "run", "--resume", "--kimg", "0.024", "--checkpoint_kimg", "0.024"]) == 0
    assert [path.name for path in checkpoints(run)] == [older.name, "checkpoint-00000000024.ckpt"]
    assert (run / (newest.name + SET_ASIDE)).exists()


def test_39_one_that_is_named_is_not_replaced_by_another(run: Path, refused: Callable[..., str]) -> None:
    newest = checkpoints(run)[-1]
    newest.write_bytes(newest.read_bytes()[:-300])
    line = refused(train, "--out", "run", "--resume", str(newest))
    assert "is corrupt or not ours" in line
    assert f"older one is {run}/checkpoint-00000000012.ckpt: give it with --resume" in line


def test_39_all_are_damaged(run: Path, refused: Callable[..., str]) -> None:
    before = (run / "settings.json").read_text()
    for path in checkpoints(run):
        path.write_bytes(b"")
    assert "no older one is left: start a new run" in refused(train, "--out", "run", "--resume", "--kimg", "0.02")
    assert (run / "settings.json").read_text() == before
    assert len(checkpoints(run)) == 2


def _drop(state: dict[str, Any]) -> None:
    del state["state_dict"]["G.blocks.0.const"]


def _misshape(state: dict[str, Any]) -> None:
    state["state_dict"]["G.blocks.0.const"] = torch.zeros(3, 4, 4)


def _misshape_moments(state: dict[str, Any]) -> None:
    state["optimizer_states"][0]["state"][0]["exp_avg"] = torch.zeros(3)


def _no_table(state: dict[str, Any]) -> None:
    state["optimizer_states"] = 3


def _loops(state: dict[str, Any]) -> None:
    state["loops"] = {"fit_loop": 3}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_drop, "1 weights are missing or unknown: G.blocks.0.const"),
        (_misshape, "weight 'G.blocks.0.const' has shape [3, 4, 4], not [4, 4, 4]"),
        (_misshape_moments, "Adam's moments are not those of its weights"),
        (_no_table, "is not one of a training of this version"),
        (_loops, "cannot be gone on from"),
    ],
)
def test_37_checkpoints_with_other_weights(
    change: Callable[[dict[str, Any]], None], words: str, run: Path, refused: Callable[..., str]
) -> None:
    path = checkpoints(run)[-1]
    changed(path, change)
    settings = (run / "settings.json").read_text()
    assert words in refused(train, "--out", "run", "--resume", str(path), "--kimg", "0.02")
    if change is not _loops:  # which only Lightning reads, once the run is opened
        assert (run / "settings.json").read_text() == settings


@pytest.mark.parametrize("what", ["nope.ckpt", "other.ckpt"])
def test_7_a_resume_that_is_refused_leaves_the_settings(what: str, run: Path, refused: Callable[..., str]) -> None:
    shutil.copy(checkpoints(run)[-1], "other.ckpt")
    changed(Path("other.ckpt"), lambda state: state["rtil_settings"].update(seed=9))
    before = (run / "settings.json").read_bytes()
    refused(train, "--out", "run", "--resume", what, "--kimg", "999")
    assert (run / "settings.json").read_bytes() == before


def test_43_what_a_killed_save_left_goes_when_the_folder_is_opened(run: Path) -> None:
    left = run / ".checkpoint-00000000016.ckpt.tmp-123.ckpt"
    left.write_bytes(b"half a checkpoint")
    with claim(run, resume=True):
        assert not left.exists()
    assert len(checkpoints(run)) == 2


def test_8_a_checkpoint_is_said_to_be_kept_where_there_is_one(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rtil.training.run.train", stop)
    assert train([*SMALL, "--data", "faces", "--out", "run"]) == 130
    printed = capsys.readouterr().err
    assert "a checkpoint is kept" not in printed
    assert "before the first checkpoint" in printed
    (here / "run/checkpoint-00000000004.ckpt").touch()
    assert train(["--out", "run", "--resume", "--seed", "0"]) in (2, 130)


# options and YAML


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--lr", "1e38"], "lr 1e+38 is not valid: use a number above 0, at most 1"),
        (["--lr", "nan"], "--lr is 'nan': valid is a number"),
        (["--lr", ".nan"], "--lr is '.nan': use finite numbers"),
        (["--path_decay", "-1"], "path_decay -1.0 is not valid"),
        (["--ema_rampup", "-1"], "ema_rampup -1.0 is not valid"),
        (["--kimg", ".inf"], "--kimg is '.inf': use finite numbers"),
        (["--chunk", "0"], "chunk 0 is not valid"),
        (["--out", ""], "--out is empty: give a path, or leave it away"),
        (["--out="], "--out is empty"),
        (["--resume="], "resume is empty"),
        (["--data="], "data is not valid: use 'synthetic', or the path of pictures"),
    ],
)
def test_48_options_out_of_their_range(words: list[str], line: str, here: Path, refused: Callable[..., str]) -> None:
    assert line in refused(train, *words, "--dry_run")
    assert not (here / "runs").exists()


@pytest.mark.parametrize("name", ["lr", "ema_halflife_kimg", "ema_rampup", "sigma", "r1_gamma", "path_decay"])
@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "-1", "1e400"])
def test_48_every_number_is_finite_and_in_its_range(
    name: str, value: str, here: Path, refused: Callable[..., str]
) -> None:
    assert name in refused(train, f"--{name}={value}", "--dry_run")


@pytest.mark.parametrize("option", ["--ilo.lr", "--noise_sigma"])
def test_48_so_are_those_of_an_evaluation(option: str, here: Path, refused: Callable[..., str]) -> None:
    assert "use finite numbers" in refused(evaluate, "--task", "inversion", option, ".nan", "--dry_run")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr: 0.1\nlr: 0.2\n", "it has the key 'lr' twice"),
        ("a: " + "[" * 5000, "nested too deep"),
        ("a: &x [1]\nb: *x\n", "it points to a value elsewhere (*x): write that out"),
        ("kimg: 2020-13-45\n", "is not YAML"),
        ("kimg: !!python/object/apply:os.system [touch touched]\n", "is not YAML"),
        ("kimg: [1, 2]\n", "kimg is [1, 2]: valid is a number"),
        ("channels: 7\n", "channels is 7: valid is a table"),
        ("channels: {4: x, 8: 8}\n", "valid is a table"),
        ("rtil: maybe\n", "valid is true or false"),
        ("out: ''\n", "out is empty"),
        ("? [1]\n: 2\n", "is not YAML"),
        ("lr: 1e400\n", "lr is"),
        ("x" * 200_000, "has over 131072 bytes"),
        ("\x1b[31mred: 1\n", "is not YAML"),
    ],
)
def test_48_config_files(text: str, words: str, here: Path, refused: Callable[..., str]) -> None:
    Path("c.yaml").write_text(text)
    line = refused(train, "--config", "c.yaml", "--resolution", "8", "--dry_run")
    assert words in line
    assert len(line) < 500
    assert "\x1b" not in line
    assert not Path("touched").exists()


@pytest.mark.parametrize("text", ["[1]", "3", "null", '{"arch": 5}', '{"channels": 5}', '{"kimg": null}', "{", "\xff"])
def test_9_settings_of_other_types(text: str, run: Path, refused: Callable[..., str]) -> None:
    (run / "settings.json").write_text(text, encoding="latin-1")
    refused(train, "--out", "run", "--resume", "--seed", "0")
    assert (run / "settings.json").read_text(encoding="latin-1") == text


# disks


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte; only root may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("needs the right to mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("what", ["checkpoint", "snapshot"])
def test_42_a_full_disk_is_named_with_what_is_left_and_the_file_before_stays(what: str, full_disk: Path) -> None:
    path = full_disk / f"a.{what}"
    big = {"a": torch.zeros(200_000)}

    def save(state: dict[str, Any]) -> None:
        if what == "checkpoint":
            AtomicCheckpointIO().save_checkpoint(state, path)
        else:
            from rtil.tensor_files import write_tensors

            write_tensors(path, state, {})

    save({"a": torch.zeros(10)})
    before = path.read_bytes()
    with pytest.raises(RunError) as caught:
        save(big)
    assert str(caught.value).startswith(f"{path} cannot be written (No space left on device): 0.")
    assert f"MB are left on the disk of {full_disk}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(full_disk) == [path.name]


# caches


@pytest.mark.parametrize("damage", ["cut short", "a bit", "empty"])
def test_10_a_damaged_gaussian_fit_is_told_once_and_made_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path))
    monkeypatch.setattr(latent_space, "FIT_DRAWS", 100)
    G = models.generator()
    mean, _ = latent_space.cached_fit(G)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes({"cut short": whole[:-3], "a bit": whole[:-1] + bytes([whole[-1] ^ 1]), "empty": b""}[damage])
    with pytest.warns(Notice, match="is made again: it is damaged") as told:
        assert torch.equal(latent_space.cached_fit(G)[0], mean)
    assert len(told) == 1
    assert path.read_bytes() == whole


def test_10_damaged_pictures_in_the_cache_are_told_of(
    here: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setenv("RTIL_CACHE", str(here / "cache"))
    ds = open_dataset("faces", 8, "train")
    expected = preload(ds).clone()
    (path,) = (here / "cache").iterdir()
    for content in (path.read_bytes()[:-5], b"PK\x05\x06" + bytes(18)):
        path.write_bytes(content)
        assert torch.equal(preload(ds), expected)
    assert [str(warning.message).partition(": ")[0] for warning in recwarn] == [
        f"the decoded images {path} are made again"
    ] * 2


@pytest.mark.parametrize("damage", ["cut short", "a bit", "no checksum"])
def test_11_a_damaged_library_is_not_loaded(damage: str, tmp_path: Path) -> None:
    cached = tmp_path / "librtil_ops.so"
    cached.write_bytes(b"\x7fELF" + bytes(100))
    (tmp_path / build.CHECKSUM).write_text(build.digest(cached))
    assert build.is_whole(cached)
    if damage == "cut short":
        cached.write_bytes(cached.read_bytes()[:50])
    elif damage == "a bit":
        flipped(cached, 60)
    else:
        (tmp_path / build.CHECKSUM).unlink()
    assert not build.is_whole(cached)


# packages


NMS = "operator torchvision::nms does not exist"
BREAK = """
import sys, types
from importlib.abc import MetaPathFinder, Loader
from importlib.machinery import ModuleSpec
name, how = {name!r}, {how!r}
class Break(MetaPathFinder, Loader):
    def find_spec(self, found, path=None, target=None):
        if found != name: return None
        if how == "missing": raise ModuleNotFoundError(f"No module named '{{found}}'", name=found)
        return ModuleSpec(found, self)
    def create_module(self, spec): return None
    def exec_module(self, module):
        exec(compile("raise RuntimeError('operator torchvision::nms does not exist')", "x", "exec"), module.__dict__)
sys.meta_path.insert(0, Break())
from {module} import main
sys.exit(main({words!r}))
"""


@pytest.mark.parametrize(
    ("name", "how", "module", "words", "line"),
    [
        (
            "torchvision",
            "broken",
            "rtil.cli.train",
            [*SMALL, "--kimg", "0.004"],
            "operator torchvision::nms does not exist",
        ),
        ("torchmetrics", "missing", "rtil.cli.train", [*SMALL, "--kimg", "0.004"], "No module named 'torchmetrics'"),
        ("torchvision", "broken", "rtil.cli.doctor", [], ""),
    ],
)
def test_53_packages_that_cannot_be_imported(
    name: str, how: str, module: str, words: list[str], line: str, here: Path
) -> None:
    models.snapshot(here / "a.safetensors")
    code = BREAK.format(name=name, how=how, module=module, words=words)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here, timeout=200)
    if module == "rtil.cli.doctor":
        assert done.returncode == 1, done.stderr
        assert "torchvision: RuntimeError: operator torchvision::nms does not exist; pip install" in done.stdout
        return
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"the package {name} cannot be imported ({line}): pip install" in done.stderr


@pytest.mark.parametrize("name", ["lpips", "matplotlib"])
def test_53_packages_that_are_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError) as caught:
        importlib.import_module(name)
    said = str(broken_package(caught.value))
    assert said.startswith(f"the package {name} cannot be imported (")
    assert f"pip install {name}; rtil doctor tells of all" in said


def test_53_a_bug_of_ours_stays_one() -> None:
    with pytest.raises(ImportError) as caught:
        from rtil.errors import no_such_name  # noqa: F401
    assert broken_package(caught.value) is None
    assert broken_package(ValueError("bug")) is None


# pickles


def test_40_no_pickle_runs_anything_wherever_a_model_is_read(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, touched = tmp_path / "pickles", tmp_path / "touched"
    folder.mkdir()
    written = models.canaries(folder, touched)
    tried, library, each = 0, 3, 8

    def command(main: Callable[..., int], *words: str) -> Callable[[Path], None]:
        def door(path: Path) -> None:
            assert main([word.replace("PATH", str(path)) for word in words]) == 2
            assert path.name in capsys.readouterr().err

        return door

    photo = ("--input", "faces/0.png", "--fit", "--task", "cs", "--rate", "0.1")
    doors: list[Callable[[Path], object]] = [
        load_snapshot,
        read_weights,
        inception,
        command(sample, "--snapshot", "PATH"),
        command(quality, "--snapshot", "PATH"),
        command(convert, "PATH", "--out", "x.safetensors"),
        command(convert, "PATH", "--to", "rosinality", "--out", "x.pt"),
        command(measure, *photo, "--out", "y.safetensors", "--snapshot", "PATH"),
        command(reconstruct, *photo, "--snapshot", "PATH"),
        command(evaluate, "--task", "inversion", "--checkpoints", "a=PATH"),
        command(train, "--out", "run", "--resume", "PATH"),
    ]
    for n, path in enumerate(written):
        for m, door in enumerate(doors):
            if m >= library and (n + m) % each and TRIES < 500:
                continue  # commands take their time; each sees some of the pickles, all of them where many are tried
            with contextlib.suppress(UserError):
                door(path)
            tried += 1
    assert not touched.exists()
    assert tried >= 120
    with capsys.disabled():
        print(f"\ncanaries: {tried} times read by {len(doors)} doors, executed {int(touched.exists())}")


def test_40_the_canaries_sing_where_they_are_unpickled(tmp_path: Path) -> None:
    """So that the test above can fail."""
    import pickle

    (tmp_path / "pickles").mkdir()
    for path in models.canaries(tmp_path / "pickles", tmp_path / "touched"):
        if path.suffix == ".pkl" and "nested" not in path.name:
            pickle.loads(path.read_bytes())  # noqa: S301
            assert (tmp_path / "touched").exists(), path
            (tmp_path / "touched").unlink()


def test_12_a_pickle_that_asks_for_memory_gets_none(tmp_path: Path) -> None:
    bomb = b"\x80\x04N" + b"r" + struct.pack("<I", 2**31) + b"."  # LONG_BINPUT: the unpickler in C takes 16 GB
    (tmp_path / "a.pkl").write_bytes(bomb)
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError):
        load_snapshot(tmp_path / "a.pkl")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize("count", range(2, 8))
def test_1_few_training_pictures(count: int, here: Path, make_pictures: Callable[..., Path]) -> None:
    make_pictures(here / "few", count, 8)
    assert train([*SMALL, "--data", "few", "--kimg", "0.004", "--out", "out"]) == 0


def test_a_snapshot_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = models.snapshot(tmp_path / "a.safetensors")
    before = path.read_bytes()
    G = models.generator()
    with torch.no_grad():
        G.w_mean.fill_(float("inf"))
    with pytest.raises(RunError, match="w_mean"):
        save_snapshot(path, G, {})
    assert path.read_bytes() == before


def test_doctor_tells_of_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(["--dry_run"]) == 0
