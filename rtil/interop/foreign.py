"""Generators in other projects' files: which of a file's networks it is, and ours with its weights.

A file may hold several networks (the trained generator and its average, discriminators, encoders, optimisers) at any
depth. A generator is found by keys that only its project's have, and the place before them is its name: ``g_ema``,
``state_dict.decoder``, ``module``. Of several the averaged one is taken. All of its weights must find a place in ours.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from rtil.errors import UserError
from rtil.generators import LayeredGenerator, StyleGAN2Generator
from rtil.interop import pggan_layouts, stylegan2_layouts
from rtil.interop.checkpoint_files import Content, read_checkpoint_file
from rtil.interop.layouts import Layout

LAYOUTS: Sequence[Layout] = (*stylegan2_layouts.LAYOUTS, *pggan_layouts.LAYOUTS)
AVERAGED = {"g_ema", "G_ema", "avgG", "g_running", "generator_smooth", "netG_ema", "params_ema", "ema"}
"""Names of moving averages."""
STYLEGAN3 = r"(.*\.)?synthesis\.input\.(freqs|phases|transform)"
SHOWN_NAMES = 3
OUR_TRAININGS = "rtil_settings."


@dataclass(frozen=True)
class Foreign:
    """A generator from another project's file.

    Attributes:
        generator: Ours, with its weights; in eval mode, float32, frozen.
        path: The file.
        layout: Whose it is.
        network: Where in the file it lies; "" where the file is the network.
        w_mean: Where the mean style comes from: ``stored``, ``estimated from N draws``, or ``none``.
        notes: What it does otherwise than the network in the file.
        left_aside: What else the file holds.
    """

    generator: LayeredGenerator
    path: Path
    layout: str
    network: str
    w_mean: str
    notes: Sequence[str]
    left_aside: Sequence[str]

    @property
    def info(self) -> dict[str, Any]:
        """What a snapshot of it can say of itself: nothing of its training."""
        G = self.generator
        own = {"arch": G.arch, "resolution": G.resolution, "layout": self.layout, "file": self.path.name}
        return own | {"network": self.network, "w_mean": self.w_mean}

    def lines(self) -> list[str]:
        """Say what was found."""
        G = self.generator
        place = f" ({self.network})" if self.network else ""
        aside = f"; left aside: {', '.join(self.left_aside)}" if self.left_aside else ""
        text = f"{G.arch}, {G.resolution} px, z of {G.z_dim}"
        if isinstance(G, StyleGAN2Generator):
            text += f", w of {G.w_dim}, {len(G.mapping_layers)} mapping layers, mean w {self.w_mean}"
        widths = " ".join(f"{side}:{width}" for side, width in G.channels.items())
        found = [f"{self.path}: {self.layout}{place}{aside}", text, f"channels by side: {widths}"]
        return found + [f"note: {note}" for note in self.notes]


def read_foreign(path: Path) -> Foreign:
    """Open another project's file and return the generator in it.

    Raises:
        UserError: It cannot be read, or holds no generator that ours can be; nothing of it has run.
    """
    whole = read_checkpoint_file(path)
    try:
        layout, place = _find(whole)
        generator, w_mean, notes = layout.build(whole.below(place), whole)
    except UserError as error:
        raise UserError(f"{path} cannot be converted: {error}") from error
    generator.eval().requires_grad_(False)
    aside = [_beside(key, place) for key in whole.tensors if not key.startswith(place)]
    others = [name for name in dict.fromkeys(aside) if not name.endswith(stylegan2_layouts.LATENT_AVG)]
    return Foreign(generator, path, layout.name, place.removesuffix("."), w_mean, notes, others)


def _find(whole: Content) -> tuple[Layout, str]:
    """Return the layout of the file's generator, and the place below which it lies."""
    found: dict[str, Layout] = {}
    for layout in LAYOUTS:
        for signature in layout.signatures:
            for key in whole.tensors:
                if f".{key}".endswith(f".{signature}"):
                    found[key.removesuffix(signature)] = layout
    if not found:
        raise UserError(_what_instead(whole))
    averaged = [place for place in found if AVERAGED & set(place.split("."))]
    chosen = averaged or list(found)
    if len(chosen) > 1:
        names = ", ".join(place.removesuffix(".") or "(the file itself)" for place in chosen)
        raise UserError(f"it holds several generators ({names}): save the one that is wanted on its own")
    return found[chosen[0]], chosen[0]


def _what_instead(whole: Content) -> str:
    if any(re.fullmatch(STYLEGAN3, key) for key in whole.tensors):
        return "it is StyleGAN3, whose layers ours cannot be"
    if any(place.startswith(OUR_TRAININGS) for place in whole.facts):
        return "it is a checkpoint of a training: give its run folder, or a snapshot of it"
    if not whole.tensors:
        return "it holds no tensors"
    names = ", ".join(list(whole.tensors)[:SHOWN_NAMES])
    known = "; ".join(layout.name for layout in LAYOUTS)
    return f"it holds no generator that is known here (its tensors are {names}, ...; known are {known})"


def _beside(key: str, place: str) -> str:
    """Return the beginning of a key, up to where it leaves a place.

    Example:
        >>> _beside("state_dict.encoder.body.0.weight", "state_dict.decoder.")
        'state_dict.encoder'
    """
    words = key.split(".")
    same = takewhile(lambda pair: pair[0] == pair[1], zip(words, place.split("."), strict=False))
    return ".".join(words[: len(list(same)) + 1])
