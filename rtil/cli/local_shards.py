"""Shards of one machine: a process for each of its GPUs, started and waited for.

The work is a list of independent inversions, so the processes are independent too: no process group, no barrier. They
are the shards that other machines would run, with the settings from the folder that they share; one that dies takes
nothing from the others with it, and is gone on with like any shard.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

import rtil
from rtil.devices import pick_device
from rtil.errors import RunError, UserError
from rtil.evaluation.shards import Shard

END_SECONDS = 60
"""How long a process that was asked to end may take before it is killed."""
FEWER_THREADS = "OMP_NUM_THREADS"


def local_devices(devices: int | Literal["auto"], device: str) -> list[str]:
    """Return the device of each process.

    Args:
        devices: How many; ``auto`` is one for each GPU, and one where there is none.
        device: Device as the user gave it: with several processes ``auto``, ``cuda`` or ``cpu``.

    Raises:
        UserError: There are not as many GPUs, or the device is one alone.

    Example:
        >>> local_devices(2, "cpu")
        ['cpu', 'cpu']
    """
    if devices == 1 or (devices == "auto" and device not in ("auto", "cuda")):
        return [device]
    if device not in ("auto", "cuda", "cpu"):
        raise UserError(f"device is {device}, which one process uses: valid with devices {devices} are auto, cuda, cpu")
    kind = pick_device(device).type
    if kind == "cpu":
        return ["cpu"] * (1 if devices == "auto" else devices)
    there = torch.cuda.device_count()
    count = there if devices == "auto" else devices
    if count > there:
        raise UserError(f"devices is {devices}: {there} GPUs found, so valid is auto, or 1 to {there}")
    return [device] if count == 1 else [f"cuda:{index}" for index in range(count)]


def run_shards(folder: Path, shards: Sequence[Shard], devices: Sequence[str]) -> None:
    """Run shards, each in a process, with the settings of the folder.

    Args:
        folder: The run folder.
        shards: Which.
        devices: Of each.

    Raises:
        RunError: One failed; all others have done their work before this is raised.
    """
    variables = environment(len(shards))
    processes: dict[Shard, subprocess.Popen[bytes]] = {}
    try:
        for shard, device in zip(shards, devices, strict=True):
            words = ["--out", str(folder), "--resume", "--shard", str(shard), "--device", device]
            command = [sys.executable, "-m", "rtil", "eval", *words]
            # a session of its own: Ctrl-C comes to this process alone, which hands it on, once
            processes[shard] = subprocess.Popen(command, env=variables, start_new_session=True)  # noqa: S603
        codes = {shard: process.wait() for shard, process in processes.items()}
    finally:
        end(list(processes.values()))
    failed = [f"{shard} (exit code {code})" for shard, code in codes.items() if code]
    if failed:
        raise RunError(
            f"shards {', '.join(failed)} did not finish; finished rows are kept: go on with the same options and "
            f"--out {folder} --resume"
        )


def environment(processes: int) -> Mapping[str, str]:
    """Return the variables of the processes: the package is found as here, and they share the processor's cores."""
    here = str(Path(rtil.__file__).parents[1])
    paths = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    threads = str(max(1, torch.get_num_threads() // processes))
    return {FEWER_THREADS: threads, **os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask what still runs to end, as after Ctrl-C, and wait for it."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
