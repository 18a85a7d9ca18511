"""Trainings of two processes as users start them, and how they end."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
import yaml

from benchmarks.ranks_members import tensors_of_checkpoint, worst_difference
from rtil.errors import RunError, UserError
from rtil.training import processes
from rtil.training.checkpoint import checkpoints, resume_point
from rtil.training.config import config_of
from rtil.training.processes import RanksStrategy, devices_of, is_first_process
from rtil.training.ranks import LostProcessError, Ranks, losses_told
from rtil.training.run import train
from rtil.training.stylegan2 import StyleGAN2Training

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[3]
SECONDS = 240
SETTINGS = {"resolution": 16, "channels": {4: 8, 8: 8, 16: 8}, "z_dim": 16, "w_dim": 16, "mapping_layers": 2}
SETTINGS |= {"rtil": True, "batch": 8, "path_weight": 2.0, "style_mixing": 0.9, "precision": "float32", "kimg": 0.08}
SETTINGS |= {"log_kimg": 0.016, "grid_kimg": 0.08, "snapshot_kimg": 0.08, "checkpoint_kimg": 0.016}


@pytest.fixture
def settings(tmp_path, make_pictures):
    return SETTINGS | {"data": str(make_pictures(tmp_path / "faces", 24, 16))}


def command(tmp_path, settings, *options, launcher=()):
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(settings))
    return [sys.executable, *launcher, str(ROOT / "train.py"), "--config", str(file), *options]


def started(words, **environment):
    """Start a command as its own group of processes, so that all of it can be ended."""
    variables = {
        k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_PORT")
    }
    variables |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    pipe = subprocess.PIPE
    return subprocess.Popen(words, env=variables, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def finished(process):
    """Return what a command printed; whatever is left of it is killed."""
    try:
        return process.communicate(timeout=SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def children(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def is_running(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition):
    deadline = time.monotonic() + SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


@pytest.mark.slow
def test_two_one_two_devices_equal_one(settings, tmp_path):
    """Each goes on where the other stopped; the first process alone writes and tells."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    out, err = finished(started([*command(tmp_path, settings, "--out", str(run), "--devices", "2", "--kimg", "0.032")]))
    assert out.count("done: ") == out.count(" kimg into ") == 1, err
    assert len(out.splitlines()) == 4  # two lines of the log
    train(config_of(settings | {"kimg": 0.048}), run, resume="latest")
    words = ("--out", str(run), "--devices", "2", "--resume", "--kimg", "0.08")
    out, err = finished(started(command(tmp_path, settings, *words)))
    assert "done: " in out, err
    train(config_of(settings), whole)
    a, b = (tensors_of_checkpoint(checkpoints(folder)[-1]) for folder in (whole, run))
    assert int(b["images_seen"]) == 80
    difference, name = worst_difference(a, b)
    assert difference < 1e-2, name
    assert {path.name for path in run.iterdir() if "tfevents" not in path.name} == {
        *(path.name for path in whole.iterdir() if "tfevents" not in path.name),
        *(".lock", ".owner", "settings.json", "snapshot-000000.safetensors", "fakes-000000.png"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["first", "second"])
def test_when_one_process_is_killed_the_others_end(killed, settings, tmp_path):
    process = started(command(tmp_path, settings, "--out", str(tmp_path / "run"), "--devices", "2", "--kimg", "100"))
    wait_for(lambda: len(checkpoints(tmp_path / "run")) == 2 or process.poll() is not None)
    (second,) = children(process)
    os.kill(second if killed == "second" else process.pid, signal.SIGKILL)
    _, err = process.communicate(timeout=SECONDS)
    wait_for(lambda: not is_running(second))
    assert process.returncode == (2 if killed == "second" else -signal.SIGKILL)
    if killed == "second":
        assert "error: a process of this training ended or does not answer (" in err
        assert "Traceback" not in err
        assert len(err.splitlines()) == 1
    kept = checkpoints(tmp_path / "run")[-1]
    assert resume_point(tmp_path / "run", "latest") == kept
    if killed == "second":
        kimg = int(tensors_of_checkpoint(kept)["images_seen"]) / 1000 + 0.016
        words = ("--out", str(tmp_path / "run"), "--devices", "2", "--resume", "--kimg", f"{kimg:g}")
        out, err = finished(started(command(tmp_path, settings, *words)))
        assert "done: " in out, err
        train(config_of(settings | {"kimg": kimg}), tmp_path / "whole")
        a, b = (tensors_of_checkpoint(checkpoints(tmp_path / folder)[-1]) for folder in ("whole", "run"))
        difference, name = worst_difference(a, b)
        assert difference < 1e-2, name


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_all_stop_between_two_steps_when_the_first_is_asked_to(number, code, settings, tmp_path):
    calm = settings | {"checkpoint_kimg": 100, "log_kimg": 0.008}
    process = started(command(tmp_path, calm, "--out", str(tmp_path / "run"), "--devices", "2", "--kimg", "100"))
    assert process.stdout is not None
    assert "into" in process.stdout.readline()
    process.stdout.readline()  # a step is done
    process.send_signal(number)
    _, err = finished(process)
    assert process.returncode == code, err
    assert f"a checkpoint is kept, go on with --out {tmp_path / 'run'} --resume" in err
    assert len(err.splitlines()) == 1
    assert len(checkpoints(tmp_path / "run")) == 1


@pytest.mark.slow
def test_torchrun_starts_the_processes(settings, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2")
    words = command(tmp_path, settings | {"devices": "auto"}, "--out", str(tmp_path / "run"), launcher=torchrun)
    process = started(words)
    out, err = finished(process)
    assert process.returncode == 0, err
    assert out.count("done: ") == 1
    assert int(tensors_of_checkpoint(checkpoints(tmp_path / "run")[-1])["images_seen"]) == 80


@pytest.mark.slow
def test_slurm_starts_the_processes(settings, tmp_path):
    """As ``srun --ntasks-per-node 2`` does: the same command twice, told apart by variables."""
    job = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0"}
    job |= {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NAME": "rtil", "SLURM_NODELIST": "127.0.0.1"}
    words = command(tmp_path, settings, "--devices", "auto", "--out", str(tmp_path / "run"))
    tasks = [started(words, **job, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)) for rank in range(2)]
    told = [finished(task) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], told
    assert "done: " in told[0][0]
    assert told[1][0] == ""


@pytest.mark.slow
def test_lightnings_own_strategies_are_refused(settings, tmp_path):
    script = tmp_path / "own.py"
    script.write_text(
        "import pytorch_lightning as pl\n"
        "from rtil.data.batches import FacesDataModule\n"
        "from rtil.training.config import config_of\n"
        "from rtil.training.stylegan2 import StyleGAN2Training\n"
        f"module = StyleGAN2Training(config_of({settings!r}))\n"
        f"data = FacesDataModule({settings['data']!r}, 16, 8)\n"
        "pl.Trainer(accelerator='cpu', devices=2, strategy='ddp_fork_find_unused_parameters_true', max_steps=2,\n"
        "    logger=False, enable_checkpointing=False).fit(module, data)\n"
    )
    process = started([sys.executable, str(script)])
    _, err = finished(process)
    assert process.returncode != 0
    assert "UserError: DDPStrategy with 2 processes would train on the same draws" in err


def test_a_module_asks_its_trainer_for_our_strategy(settings):
    module = StyleGAN2Training(config_of(settings))
    module.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=CPU), world_size=2, precision="32-true")
    with pytest.raises(
        UserError, match=r"SimpleNamespace with 2 processes .* strategy=rtil.training.processes.RanksSt"
    ):
        module.setup("fit")


def test_a_process_with_other_settings_is_refused(settings):
    module = StyleGAN2Training(config_of(settings))
    module.trainer = SimpleNamespace(strategy=SimpleNamespace(broadcast=lambda own: own | {"lr": 0.1}))
    module.ranks = Ranks(1, 2)
    with pytest.raises(RunError, match=r"process 1 has lr 0.002, the first one 0.1: start all with the same command"):
        module.on_fit_start()


def test_batches_of_other_rows_are_refused(settings):
    module = StyleGAN2Training(config_of(settings))
    module.ranks = Ranks(0, 2)
    with pytest.raises(UserError, match="got 16 pictures from 2 processes for a batch of 8"):
        module.training_step(torch.zeros(8, 3, 16, 16, dtype=torch.uint8), 0)


TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "0"}
SRUN = {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4", "SLURM_PROCID": "3", "SLURM_JOB_NAME": "rtil"}


@pytest.mark.parametrize(
    ("variables", "changes", "devices", "is_first"),
    [
        ({}, {}, 1, True),
        ({}, {"devices": "auto"}, 1, True),
        ({}, {"devices": 2}, 2, True),
        ({"LOCAL_RANK": "1"}, {"devices": 2}, 2, False),
        ({"NODE_RANK": "1"}, {"devices": 2, "num_nodes": 2}, 2, False),
        ({"LOCAL_RANK": "1"}, {}, 1, True),  # started by something else: this one trains alone
        (TORCHRUN, {"devices": "auto", "num_nodes": 2}, 2, False),
        (TORCHRUN | {"RANK": "0"}, {"devices": 2, "num_nodes": 2}, 2, True),
        (SRUN, {"devices": "auto"}, 4, False),
        (SRUN | {"SLURM_PROCID": "0"}, {"devices": "auto"}, 4, True),
        (SRUN, {}, 1, True),
    ],
)
def test_who_is_the_first(variables, changes, devices, is_first, monkeypatch):
    for name in {*TORCHRUN, *SRUN, "NODE_RANK"}:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = config_of(SETTINGS | changes)
    assert devices_of(config, CPU) == devices
    assert is_first_process(config, CPU) is is_first


@pytest.mark.parametrize(
    ("variables", "changes", "device", "message"),
    [
        (TORCHRUN, {}, "cpu", "torchrun started 2 processes here and 4 in all, which is not --devices 1 --num_nodes 1"),
        (TORCHRUN, {"devices": 2}, "cpu", "not --devices 2 --num_nodes 1: give its numbers"),
        ({}, {"devices": 2}, "cuda:1", "device 'cuda:1' is one device: with --devices 2 use --device cuda or cpu"),
        ({}, {"devices": 2}, "mps", "device 'mps' is one device"),
        ({}, {"devices": 2}, "cuda", r"--devices 2 are not there \(0 GPUs found\)"),
    ],
)
def test_devices_that_cannot_be_used_are_refused(variables, changes, device, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message) as caught:
        devices_of(config_of(SETTINGS | changes), torch.device(device))
    assert "\n" not in str(caught.value)


def test_what_torch_says_of_a_lost_process_is_told_in_one_line():
    said = "[/src/gloo/pair.cc:5] Read error [10.0.0.1]:1: Connection reset by peer. This may be\nmore"
    with (
        pytest.raises(LostProcessError, match=r"\(Read error \[10.0.0.1\]:1: Connection reset by peer\): go on"),
        losses_told(),
    ):
        raise RuntimeError(said)


def test_a_process_that_hangs_is_ended_some_time_after_another_has_died(monkeypatch):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.1)
    killed, kill, us = [], os.kill, os.getpid()
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(number) if pid == us else kill(pid, number))
    with subprocess.Popen([sys.executable, "-c", "exit(3)"]) as dead, subprocess.Popen(["sleep", "60"]) as hangs:
        dead.wait()
        processes._end_if_one_has_died([hangs, dead], threading.Event())
        assert hangs.wait(10) == -signal.SIGKILL
    assert killed == [signal.SIGKILL]


def test_nobody_is_ended_once_the_training_is_over(monkeypatch):
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("killed"))
    over = threading.Event()
    over.set()
    with subprocess.Popen([sys.executable, "-c", "exit(0)"]) as child:
        processes._end_if_one_has_died([child], over)
    processes._end_without(os.getppid(), over)


def test_a_process_ends_without_the_one_that_started_it(monkeypatch):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0)
    codes, parents = [], iter([7, 7, 1])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "_exit", codes.append)
    processes._end_without(7, threading.Event())
    assert codes == [1]


def test_a_group_of_one_process_trains_as_one(settings, tmp_path):
    """``--strategy ddp`` with one device, the same numbers to the last bit."""
    train(config_of(settings | {"kimg": 0.016}), tmp_path / "auto")
    try:
        train(config_of(settings | {"kimg": 0.016, "strategy": "ddp"}), tmp_path / "ddp")
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    a, b = (tensors_of_checkpoint(checkpoints(tmp_path / name)[-1]) for name in ("auto", "ddp"))
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_our_strategy_is_lightnings_but_for_the_wrapper():
    trainer = pl.Trainer(accelerator="cpu", devices=2, strategy=RanksStrategy(), logger=False)
    assert (trainer.world_size, trainer.global_rank) == (2, 0)
    assert trainer.strategy.launcher is not None
