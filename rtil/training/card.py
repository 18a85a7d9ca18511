"""What was trained, on what and with what, as a page of text in TensorBoard."""

from collections.abc import Mapping
from typing import Any, cast

import pytorch_lightning as pl

from rtil.data.base import ImageDataset
from rtil.machine import gpus, processor, short, versions
from rtil.training.config import TrainingConfig
from rtil.training.loggers import show_text

TITLE = "card"


class Card(pl.Callback):
    """Shows the page once, when a training starts or goes on."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Show it."""
        text = card(pl_module.config, cast(Any, trainer).datamodule.dataset, str(pl_module.device))
        show_text(trainer, TITLE, text, pl_module.seen)


def card(config: TrainingConfig, dataset: ImageDataset, device: str) -> str:
    """Return settings, versions, machine and data as Markdown; paths as :func:`rtil.machine.short` tells them."""
    data = {
        "name": dataset.name,
        "pictures": len(dataset),
        "side in pixels": dataset.resolution,
    }
    graphics = {f"GPU {i}": f"{gpu['name']}, {gpu['memory_gib']} GiB" for i, gpu in enumerate(gpus())}
    sections = {
        "Settings": config.to_json() | {"data": short(config.data)},
        "Data": data,
        "Machine": {"device": device, **processor(), **graphics},
        "Versions": versions(),
    }
    return "\n\n".join(table(title, values) for title, values in sections.items())


def table(title: str, values: Mapping[str, Any]) -> str:
    """Return names and values as a table in Markdown."""
    rows = [f"| {name} | {value} |" for name, value in values.items()]
    return "\n".join([f"| {title} | |", "| --- | --- |", *rows])
