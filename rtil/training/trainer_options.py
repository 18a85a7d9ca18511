"""Options of Lightning's Trainer that a training here passes on, and what stands for those that it does not."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from rtil.errors import UserError

ProfilerName = Literal["simple", "advanced", "pytorch"]

LENGTH = "the length is --kimg"
QUALITY = "what is measured meanwhile, and when, is --quality_kimg"
DEVICES = "where it runs is --device"
STEPS = "the steps are Adam's as in the papers, and left out where a gradient is not finite"
OWN_OPTION = "the training has an option of that name"
OWN_LOOP = "from Python, any Trainer takes rtil's modules"


@dataclass(frozen=True)
class TrainerOptions:
    """Options of Lightning's Trainer; none of them changes what is trained.

    Args:
        profiler: Measure where time goes, into fit-profile.txt in the run folder: simple, advanced or pytorch.
        detect_anomaly: Name the operation whose gradient is not finite; slow.
        deterministic: Refuse operations of a GPU that do not give the same result each time.
        max_time: Stop after so long with a checkpoint, DD:HH:MM:SS; of a run that goes on its earlier time counts.
        enable_progress_bar: Show a bar where there is a terminal.
        enable_model_summary: Print the networks' layers and sizes first.
    """

    profiler: ProfilerName | None = None
    detect_anomaly: bool = False
    deterministic: bool = False
    max_time: str | None = None
    enable_progress_bar: bool = True
    enable_model_summary: bool = False

    ELSEWHERE: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            **dict.fromkeys(("max_epochs", "min_epochs", "max_steps", "min_steps", "fast_dev_run"), LENGTH),
            **dict.fromkeys(("limit_train_batches", "overfit_batches"), LENGTH),
            **dict.fromkeys(("limit_val_batches", "val_check_interval", "check_val_every_n_epoch"), QUALITY),
            **dict.fromkeys(("num_sanity_val_steps", "limit_test_batches", "limit_predict_batches"), QUALITY),
            **dict.fromkeys(("accelerator", "devices", "num_nodes", "strategy"), DEVICES),
            **dict.fromkeys(("gradient_clip_val", "gradient_clip_algorithm"), STEPS),
            **dict.fromkeys(("use_distributed_sampler", "reload_dataloaders_every_n_epochs", "plugins"), OWN_LOOP),
            **dict.fromkeys(("inference_mode", "barebones", "model_registry", "enable_autolog_hparams"), OWN_LOOP),
            "accumulate_grad_batches": "the images of a step are --batch",
            **dict.fromkeys(("precision", "logger", "callbacks"), OWN_OPTION),
            "log_every_n_steps": "the time from one line of the log to the next is --log_kimg",
            "enable_checkpointing": "the time from one checkpoint to the next is --checkpoint_kimg",
            "default_root_dir": "the run folder is --out",
            "benchmark": "on GPUs it is always on",
            "sync_batchnorm": "the networks have no batch norm",
        }
    )
    """What to say of the Trainer's other options."""

    def __post_init__(self) -> None:
        if self.max_time is not None and not re.fullmatch(r"\d+(:\d\d){3}", self.max_time):
            raise UserError(f"trainer.max_time '{self.max_time}' is not valid: write DD:HH:MM:SS, such as 00:08:00:00")


def trainer_arguments(options: TrainerOptions, run: Path, callbacks: Sequence[Any]) -> dict[str, Any]:
    """Return what the Trainer of a run gets by these options, and by the callbacks that a user brings."""
    from pytorch_lightning.callbacks import Checkpoint, ProgressBar
    from pytorch_lightning.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler

    profilers = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
    profiler = profilers[options.profiler](dirpath=run, filename="profile") if options.profiler else None
    has_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    return asdict(options) | {
        "profiler": profiler,
        "enable_progress_bar": has_bar or (options.enable_progress_bar and sys.stderr.isatty()),
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
    }
