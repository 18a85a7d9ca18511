"""What a prior expects beside what was prepared for it: means show where faces are, pictures what they look like."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from rtil.data.images import read_image
from rtil.errors import UserError
from rtil.evaluation.sheets import Panel, write_sheet
from rtil.pictures import image_grid
from rtil.sampling import samples
from rtil.snapshot import Snapshot, load_snapshot

PICTURES, ROW = 16, 4


def open_prior(path: Path, resolution: int | None) -> Snapshot:
    """Return the prior that pictures of a resolution are prepared for."""
    snapshot = load_snapshot(path)
    side = snapshot.generator.resolution
    if side != resolution:
        raise UserError(
            f"{path} makes pictures of {side} pixels but resolution is {resolution}: add --resolution {side}"
        )
    return snapshot


def write_framing(packed: Path, prior: Snapshot | None, called: str) -> None:
    """Write NAME-framing.png beside NAME.zip, and say so: the first 16 prepared pictures, and 16 samples of a prior.

    Args:
        packed: The zip of pictures of one resolution, with its manifest.
        prior: Of the same resolution, or none.
        called: Its name.
    """
    with zipfile.ZipFile(packed) as archive:
        names = [entry["name"] for entry in json.loads(archive.read("manifest.json"))["images"]][:PICTURES]
        prepared = torch.stack([read_image(archive.read(name), name) for name in names]).float() / 255
    panels = list(_panels("prepared", prepared))
    subtitle = "are faces upright and whole?"
    if prior is not None:
        panels = [*_panels("the prior", samples(prior.generator, PICTURES, 1.0, 0).clamp(0, 1)), *panels]
        subtitle = f"the prior {called}: do faces have the same size and place in both means?"
    sheet = packed.with_name(f"{packed.stem}-framing.png")
    write_sheet(sheet, packed.name, subtitle, panels)
    print(f"{sheet.as_posix()}: {'what is expected beside ' if prior is not None else ''}what was prepared")


def _panels(what: str, pictures: Tensor) -> Iterator[Panel]:
    yield Panel(f"{what}: mean", pictures.mean(0), f"of {len(pictures)}")
    blank = torch.ones(-len(pictures) % ROW, *pictures.shape[1:])
    yield Panel(f"{what}: pictures", image_grid(torch.cat([pictures, blank]), ROW))
