"""How the processes of a training come to be, find each other, and end together: Lightning's launch, our averages.

Lightning starts a command once for each device of a machine, or finds itself started so by ``torchrun`` or SLURM. Its
``ddp`` would wrap the whole module to average what a single backward pass leaves; a step here has several, of parts of
the module, and averages by itself (:mod:`rtil.training.ranks`).

No process outlives another for long. Where sockets connect them (gloo), the next sum of gradients fails at once. A GPU
may wait inside such a sum (NCCL), where nothing reaches Python: then the first process ends all of its machine, and
those that it started end when it is gone.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from rtil.errors import RunError, UserError
from rtil.training.config import TrainingConfig
from rtil.training.ranks import Ranks, losses_told

TIMEOUT = timedelta(minutes=30)
"""How long processes wait for one that still lives: the first may measure quality meanwhile, or decode a data set."""
GRACE_SECONDS = 30
"""How long after the end of one process the others of a machine may take to say so and end by themselves."""


def devices_of(config: TrainingConfig, device: torch.device) -> int:
    """Return the number of devices of each machine, each for a process of its own.

    Args:
        config: The settings. ``auto`` is as many as ``torchrun`` or SLURM started processes, else all GPUs, else one.
        device: The kind of device.

    Raises:
        UserError: They are not there, or not as many as there are processes.
    """
    started = os.environ.get("LOCAL_WORLD_SIZE") if TorchElasticEnvironment.detect() else None
    if config.devices == "auto":
        in_job = os.environ.get("SLURM_NTASKS_PER_NODE") if _under_slurm() else None
        count = int(started or in_job or (torch.cuda.device_count() if device.type == "cuda" else 1))
    else:
        count = int(config.devices)
    if started and (count, count * config.num_nodes) != (int(started), int(os.environ["WORLD_SIZE"])):
        raise UserError(
            f"torchrun started {started} processes here and {os.environ['WORLD_SIZE']} in all, which is not "
            f"--devices {config.devices} --num_nodes {config.num_nodes}: give its numbers"
        )
    if count * config.num_nodes > 1 and (device.type == "mps" or device.index is not None):
        raise UserError(f"device '{device}' is one device: with --devices {count} use --device cuda or cpu")
    if device.type == "cuda" and count > torch.cuda.device_count():
        raise UserError(f"--devices {count} are not there ({torch.cuda.device_count()} GPUs found): use fewer")
    return count


def is_first_process(config: TrainingConfig, device: torch.device) -> bool:
    """Return whether this is the process that owns the run folder, before all have found each other."""
    devices, variables = devices_of(config, device), os.environ
    if devices * config.num_nodes == 1:
        return True
    if TorchElasticEnvironment.detect():
        return variables["RANK"] == "0"
    if _under_slurm():
        return variables["SLURM_PROCID"] == "0"
    return int(variables.get("NODE_RANK", 0)) == int(variables.get("LOCAL_RANK", 0)) == 0


def _under_slurm() -> bool:
    """Return whether SLURM started each process; Lightning's children have a rank of their own instead."""
    return SLURMEnvironment.detect() and "SLURM_PROCID" in os.environ


def trainer_options(config: TrainingConfig, device: torch.device) -> dict[str, Any]:
    """Return what Lightning's ``Trainer`` is told about devices and processes.

    Raises:
        UserError: As :func:`devices_of` and :meth:`TrainingConfig.check_processes`.
    """
    devices = devices_of(config, device)
    processes = devices * config.num_nodes
    config.check_processes(processes)
    if processes == 1 and config.strategy == "auto":
        return {"accelerator": device.type, "devices": [device.index or 0] if device.type == "cuda" else 1}
    return {
        "accelerator": device.type,
        "devices": devices,
        "num_nodes": config.num_nodes,
        "strategy": RanksStrategy(),
        "use_distributed_sampler": False,
    }


class RanksStrategy(DDPStrategy):
    """Lightning's launch, ranks and process group for a module that averages its gradients itself.

    Args:
        timeout: How long processes wait for one that still lives.
    """

    def __init__(self, timeout: timedelta = TIMEOUT) -> None:
        super().__init__(timeout=timeout)
        self.control: Any = None

    def ranks(self, accumulate: int) -> Ranks:
        """Return the place of this process among all, found each other."""
        return Ranks(self.global_rank, self.world_size, accumulate, self.control)

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None  # noqa: S101
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def setup_distributed(self) -> None:
        """Find the other processes."""
        with losses_told():
            super().setup_distributed()
            if dist.get_backend() != "gloo":
                self.control = dist.new_group(timeout=self._timeout, backend="gloo")

    def configure_ddp(self) -> None:
        """Leave the module as it is."""

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        """Wait for all processes."""
        with losses_told():
            super().barrier(*args, **kwargs)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Return the object of one process."""
        with losses_told():
            return super().broadcast(obj, src)


class _Launcher(_SubprocessScriptLauncher):
    """Lightning's, but for who ends whom: its own observer kills all within seconds, whatever they still had to say."""

    def launch(self, function: Callable[..., Any], *args: Any, trainer: pl.Trainer | None = None, **kwargs: Any) -> Any:
        """Start the other processes of this machine, unless somebody else did, then call a function."""
        try:
            self.cluster_environment.validate_settings(self.num_processes, self.num_nodes)
        except ValueError as error:
            raise RunError(str(error)) from error
        over = threading.Event()
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            _in_background(_end_if_one_has_died, self.procs, over)
        elif self.cluster_environment.local_rank():
            _in_background(_end_without, os.getppid(), over)
        _set_num_threads_if_needed(self.num_processes)
        try:
            return function(*args, **kwargs)
        finally:
            over.set()


def _in_background(watch: Callable[..., None], *args: Any) -> None:
    threading.Thread(target=watch, args=args, daemon=True).start()


def _end_if_one_has_died(children: list[subprocess.Popen[bytes]], over: threading.Event) -> None:
    """End all processes of this machine some time after one that failed, should they still be training."""
    while not any(child.poll() for child in children):
        if over.wait(1):
            return
    if over.wait(GRACE_SECONDS):
        return
    for child in children:
        child.kill()
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def _end_without(parent: int, over: threading.Event) -> None:
    """End this process some time after the one that started it, should it still be training."""
    while os.getppid() == parent:
        if over.wait(1):
            return
    if not over.wait(GRACE_SECONDS):
        os._exit(1)
