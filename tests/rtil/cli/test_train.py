import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from rtil.cli.train import TrainOptions, main, resumed
from rtil.errors import UserError
from rtil.training.checkpoint import checkpoints
from rtil.training.config import CONFIGS as ARCHITECTURES
from rtil.training.config import PGGANConfig, StyleGAN2Config, config_of

CONFIGS = sorted((Path(__file__).resolve().parents[3] / "configs" / "train").glob("*.yaml"))
SMALL = ["--resolution", "8", "--channels", "{4:8,8:8}", "--mapping_layers", "1", "--z_dim", "8", "--w_dim", "8"]
SMALL += ["--batch", "4", "--device", "cpu"]


@pytest.fixture
def here(tmp_path, monkeypatch, make_pictures):
    monkeypatch.chdir(tmp_path)
    make_pictures(tmp_path / "faces", 12, 8)
    return tmp_path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_config_parses(path, capsys):
    assert main(["--config", str(path), "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    for name, value in yaml.safe_load(path.read_text()).items():
        assert printed[name] == value


def test_the_default_config_says_what_the_defaults_are():
    default = next(path for path in CONFIGS if path.stem == "default")
    assert config_of(yaml.safe_load(default.read_text())) == StyleGAN2Config()


def test_configs_come_in_pairs_that_differ_in_rtil_only():
    for path in [p for p in CONFIGS if "vanilla" in p.stem]:
        vanilla = yaml.safe_load(path.read_text())
        rtil = yaml.safe_load(path.with_name(path.name.replace("vanilla", "rtil")).read_text())
        assert vanilla | {"rtil": True} == rtil


@pytest.mark.parametrize("arch", ["stylegan2", "pggan"])
def test_every_option_is_explained(arch, capsys):
    assert main(["--arch", arch, "--print_config"]) == 0
    printed = capsys.readouterr().out
    assert main(["--arch", arch, "--help"]) == 0
    text = capsys.readouterr().out
    for name in {*TrainOptions.__dataclass_fields__, *ARCHITECTURES[arch].__dataclass_fields__} - {"settings"}:
        assert f"--{name} " in text
        assert re.search(rf"^# \S.*\n{name}: ", printed, re.MULTILINE), name
    assert "half-life" in text.lower()
    assert ("--stages" in text) == (arch == "pggan")


def test_numbered_runs_then_resume(here, capsys):
    assert main([*SMALL, "--data", "faces", "--kimg", "0.008", "--rtil"]) == 0
    run = here / "runs" / "train" / "00000-stylegan2-rtil-faces-8"
    assert json.loads((run / "settings.json").read_text())["rtil"] is True
    assert main(["--resume", "latest", "--kimg", "0.012"]) == 0
    assert (run / "checkpoint-00000000012.ckpt").exists()
    assert main([*SMALL, "--data", "faces", "--kimg", "0.004"]) == 0
    assert (here / "runs" / "train" / "00001-stylegan2-vanilla-faces-8").is_dir()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_keeps_the_last_step(here, number, code):
    script = Path(__file__).resolve().parents[3] / "train.py"
    command = [
        sys.executable,
        str(script),
        *SMALL,
        "--data",
        "faces",
        "--kimg",
        "1000",
        "--log_kimg",
        "0.02",
        "--out",
        "run",
    ]
    with (here / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 250
    while (here / "log").read_text().count("s/kimg") < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait() == code
    (checkpoint,) = checkpoints(here / "run")
    seen = int(checkpoint.stem.removeprefix("checkpoint-"))
    assert seen >= 40
    assert main(["--out", "run", "--resume", "latest", "--kimg", str((seen + 4) / 1000)]) == 0


def test_out_that_holds_a_run_is_refused(here, capsys):
    command = [*SMALL, "--data", "faces", "--kimg", "0.004", "--out", "mine"]
    assert main(command) == 0
    assert main(command) == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--archs", "stylegan2"], "did you mean '--arch'"),
        (["--arch", "stylegan"], "did you mean 'stylegan2'"),
        (["--kimg", "0"], "above 0"),
        (["--kimg", "many"], "a number"),
        (["--resolution", "33"], "power of two"),
        (["--data", "nowhere"], "nowhere"),
        (["--device", "tpu0"], "device"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--resume", "latest"], "nothing to resume"),
        (["--arch", "pggan", "--batch", "4"], "--batches"),
        (["--arch", "pggan", "--stages", "{4:1,8:2}"], "32"),
        (["--arch", "pggan", "--stages", "{4:1,8:2,16:0,32:2}", "--kimg", "5"], "above 0"),
        (["--arch", "pggan", "--stages", "{4:1,8:2,16:2,32:2}", "--kimg", "9"], "7"),
        (["--arch", "pggan", "--mixture_side", "5"], "[4, 8, 16, 32]"),
        (["--arch", "pggan", "--growth", "slow"], "karras"),
        (["--trainer.max_epochs", "3"], "--trainer.max_epochs is not to be set here: the length is --kimg"),
        (["--trainer.precision", "16"], "--trainer.precision is not to be set here: use --precision"),
        (["--trainer.profilr", "simple"], "did you mean '--trainer.profiler'"),
        (["--trainer.max_time", "3 h"], "DD:HH:MM:SS"),
        (["--logger", "tensorbord"], "did you mean 'tensorboard'"),
        (["--logger", "tensorboard,nowhere.Logger"], "No module named 'nowhere'"),
        (["--callbacks", "pytorch_lightning.callbacks.EarlyStopping"], "required: monitor"),
        (["--callbacks", "collections.OrderedDict"], "not correspond to a subclass of Callback"),
    ],
)
def test_mistakes_end_in_one_line_and_code_2(here, capsys, arguments, message):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (here / "runs").exists()


def test_dry_run_writes_nothing(here, capsys):
    assert main([*SMALL, "--dry_run", "--rtil"]) == 0
    assert "stylegan2-rtil-synthetic-8" in capsys.readouterr().out
    assert not (here / "runs").exists()


def test_dry_run_of_a_resume_tells_of_the_run(here, capsys):
    assert main([*SMALL, "--data", "faces", "--kimg", "0.004", "--rtil", "--out", "mine"]) == 0
    capsys.readouterr()
    assert main(["--out", "mine", "--resume", "--dry_run", "--kimg", "0.008"]) == 0
    assert "# go on in mine with stylegan2-rtil-faces-8 to 0.008 kimg" in capsys.readouterr().out


@pytest.mark.parametrize("folder", [["--out", "mine"], []])
def test_the_options_of_a_resume_are_those_of_the_run(here, capsys, folder):
    network = "--arch pggan --resolution 8 --channels {4:8,8:8} --z_dim 8 --batches {4:4,8:4} --kimg 2"
    assert main([*network.split(), "--data", "faces", "--seed", "3", "--print_config"]) == 0
    asked = yaml.safe_load(capsys.readouterr().out)
    run = here / (folder[-1] if folder else "runs/train/00000-x")
    run.mkdir(parents=True)
    settings = {"resolution": 8, "channels": {4: 8, 8: 8}, "z_dim": 8, "batches": {4: 4, 8: 4}, "kimg": 2}
    (run / "settings.json").write_text(json.dumps(PGGANConfig(**settings, data="faces", seed=3).to_json()))
    assert main([*folder, "--resume", "--log_kimg", "7", "--print_config"]) == 0
    where = {"out": str(run.relative_to(here)), "resume": "latest", "log_kimg": 7}
    assert yaml.safe_load(capsys.readouterr().out) == asked | where


def test_an_architecture_that_is_not_the_runs_is_refused(here, capsys):
    Path("mine").mkdir()
    Path("mine/settings.json").write_text(json.dumps(StyleGAN2Config().to_json()))
    assert main(["--out", "mine", "--resume", "--arch", "pggan", "--print_config"]) == 2
    assert "--arch pggan differs from this run's stylegan2" in capsys.readouterr().err


def test_loggers_callbacks_and_trainer_options_of_a_file(here, capsys):
    """They are no part of the run: a resumed one has none of them, and writes a table by its own option."""
    stop = {"class_path": "pytorch_lightning.callbacks.Timer", "init_args": {"duration": "00:00:00:00"}}
    watch = {"logger": ["csv"], "callbacks": [stop], "trainer": {"profiler": "simple", "enable_model_summary": True}}
    (here / "watch.yaml").write_text(yaml.safe_dump(watch))
    train = [*SMALL, "--data", "faces", "--kimg", "0.008", "--log_kimg", "0.004", "--out", "mine"]
    assert main([*train, "--config", "watch.yaml"]) == 0
    assert "stopped: go on with --out mine --resume" in capsys.readouterr().out
    assert not list((here / "mine").glob("events*"))
    assert main(["--out", "mine", "--resume", "--logger", "csv", "--trainer.profiler", "simple"]) == 0
    assert "done: mine" in capsys.readouterr().out
    assert (here / "mine" / "metrics.csv").read_text().count("\n") == 3
    assert (here / "mine" / "fit-profile.txt").exists()
    assert not {"logger", "callbacks", "trainer"} & json.loads((here / "mine/settings.json").read_text()).keys()


def test_a_file_cannot_set_what_is_not_to_be_set(here, capsys):
    (here / "a.yaml").write_text("trainer: {max_steps: 3}")
    assert main(["--config", "a.yaml"]) == 2
    assert capsys.readouterr().err == (
        "error: key 'trainer.max_steps' in a.yaml is not to be set here: the length is --kimg\n"
    )


@pytest.mark.parametrize(("content", "word"), [(b"\xff\xfe", "text file"), (b"a: [", "bad.yaml"), (b"- 1", "bad.yaml")])
def test_a_bad_config_is_one_line(here, capsys, content, word):
    (here / "bad.yaml").write_bytes(content)
    assert main(["--config", "bad.yaml"]) == 2
    error = capsys.readouterr().err
    assert word in error
    assert error.count("\n") == 1


def test_resume_refuses_what_cannot_change(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps(StyleGAN2Config(seed=3, kimg=10).to_json()))
    assert resumed(StyleGAN2Config(), tmp_path, []).kimg == 10
    assert resumed(StyleGAN2Config(kimg=200), tmp_path, ["kimg"]).kimg == 200  # given, though it is the default
    with pytest.raises(UserError, match="--seed 0 differs"):
        resumed(StyleGAN2Config(seed=0), tmp_path, ["seed"])


def test_resume_takes_the_architecture_from_the_run_whose_stages_follow_from_kimg(tmp_path):
    own = PGGANConfig(stages={4: 2, 8: 3}, resolution=8, kimg=5)
    (tmp_path / "settings.json").write_text(json.dumps(own.to_json()))
    assert resumed(StyleGAN2Config(), tmp_path, []) == own
    with pytest.raises(UserError, match="--kimg 9 differs"):
        resumed(StyleGAN2Config(kimg=9), tmp_path, ["kimg"])


def test_a_mistake_with_out_leaves_it_usable(here, capsys):
    assert main([*SMALL, "--data", "nowhere", "--out", "mine"]) == 2
    assert main([*SMALL, "--data", "faces", "--kimg", "0.004", "--out", "mine"]) == 0


def test_a_resume_that_is_refused_leaves_the_settings(here, capsys):
    assert main([*SMALL, "--data", "faces", "--kimg", "0.004", "--out", "mine"]) == 0
    before = Path("mine/settings.json").read_text()
    assert main(["--out", "mine", "--resume", "nope.ckpt", "--kimg", "999"]) == 2
    assert "no checkpoint nope.ckpt" in capsys.readouterr().err
    assert Path("mine/settings.json").read_text() == before


def test_an_out_below_a_file_is_one_line(here, capsys):
    Path("file").touch()
    assert main([*SMALL, "--data", "faces", "--kimg", "0.004", "--out", "file/run"]) == 2
    assert capsys.readouterr().err == (
        "error: file/run cannot be written (a file is in the way): mend that, or name another place\n"
    )


def test_a_corrupt_picture_is_named(here, capsys):
    (here / "faces" / "broken.png").write_bytes((here / "faces" / "0.png").read_bytes()[:60])
    assert main([*SMALL, "--data", "faces", "--kimg", "0.004", "--out", "mine"]) == 2
    assert "broken.png" in capsys.readouterr().err


def test_a_run_killed_before_its_first_checkpoint_starts_again(here):
    assert main([*SMALL, "--data", "faces", "--kimg", "0.004", "--out", "mine"]) == 0
    for checkpoint in checkpoints(here / "mine"):
        checkpoint.unlink()
    assert main(["--out", "mine", "--resume", "latest"]) == 0
    assert len(checkpoints(here / "mine")) == 1


def test_too_few_pictures_to_measure_quality_leave_nothing_behind(make_pictures, tmp_path, monkeypatch, capsys):
    make_pictures(tmp_path / "few", 7, 8)
    monkeypatch.chdir(tmp_path)
    assert main(["--data", "few", "--resolution", "8", "--quality_kimg", "1", "--out", "o", "--device", "cpu"]) == 2
    assert "at least 16 training pictures, few has 6" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
