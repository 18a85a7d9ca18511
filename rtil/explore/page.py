"""The page itself, of gradio: what is on it, and what happens when something is changed.

Pictures that come out are part of the answer's text, so none of them is written to a file. What is uploaded or drawn
lies in a folder of its own that goes with the process.
"""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from PIL import Image
from torch import Tensor

from rtil.data.images import fit
from rtil.errors import UserError
from rtil.evaluation.figures import show_measurement
from rtil.evaluation.levels import scale_of
from rtil.explore.live import METHODS, Frame, face, moved, operator_of, uploaded, watch
from rtil.inverse.operators import OPERATORS
from rtil.pictures import to_pillow
from rtil.snapshot import Snapshot

DRAWN = "hide what I draw"
STARTS = {"rate": 0.1, "factor": 4, "sigma": 25, "width": 2, "length": 9, "exposures": 4}
"""Level of each kind of task at first."""
CANVAS_PIXELS = 256
Z1_CUTS = 3
FACES = 999
TILE = Markup(
    '<figure style="margin:0;width:11rem"><img src="data:image/png;base64,{}" alt="{}" '
    'style="width:100%;aspect-ratio:1;image-rendering:pixelated;border-radius:4px">'
    '<figcaption style="font-size:.9rem;line-height:1.35">{}<br><b>{}</b></figcaption></figure>'
)
ROW = Markup('<div style="display:flex;flex-wrap:wrap;gap:1rem">{}</div>')


def build(priors: Mapping[str, Snapshot], most_seconds: float, most_bytes: int) -> Any:
    """Return the page.

    Args:
        priors: Snapshots of one resolution, by name.
        most_seconds: Of one inversion.
        most_bytes: Of an upload.

    Returns:
        Blocks of gradio, which the extra ``demo`` brings.
    """
    import gradio as gr

    generators = {name: snapshot.generator for name, snapshot in priors.items()}
    side = next(iter(generators.values())).resolution

    def given(number: float, path: str | None) -> Tensor:
        return face(int(number), side) if path is None else uploaded(path, side, most_bytes)

    def to_draw_on(number: float, path: str | None) -> Any:
        try:
            picture = to_pillow(given(number, path).float() / 255).resize(
                (CANVAS_PIXELS,) * 2, Image.Resampling.NEAREST
            )
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return {"background": np.asarray(picture), "layers": [], "composite": np.asarray(picture)}

    def invert(
        number: float, path: str | None, drawing: Any, task: str, level: float, method: str, effort: float,
        chosen: Sequence[str], seed: float,
    ) -> Iterator[str]:  # fmt: skip
        try:
            if not chosen:
                raise UserError("no prior is chosen: choose one or more")
            truth, hidden = given(number, path), hidden_by(drawing, side) if task == DRAWN else None
            operator = operator_of(task, level, side, int(seed), hidden)
            measured = show_measurement(operator((truth.float() / 255)[None], ["explored"]), operator)[0]
            before = tile("truth", "", truth.float() / 255) + tile("measurement", "", measured)
            own = {name: generators[name] for name in chosen}
            for frames in watch(own, method, effort, truth, operator, seed=int(seed), most_seconds=most_seconds):
                yield ROW.format(before + Markup("").join(map(of_frame, frames)))
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def move(seed: float, *of_cuts: float) -> str:
        sigmas, seeds = of_cuts[:Z1_CUTS], [int(own) for own in of_cuts[Z1_CUTS:]]
        shown = {
            name: moved(G, int(seed), sigmas[: G.num_blocks], seeds[: G.num_blocks]) for name, G in generators.items()
        }
        return ROW.format(Markup("").join(tile(name, "", picture) for name, picture in shown.items()))

    def first_level(task: str) -> Any:
        parameters = OPERATORS[task].parameters if task in OPERATORS else ()
        if not parameters:
            return gr.Number(visible=False)
        return gr.Number(STARTS[parameters[0]], label=f"{parameters[0]} ({scale_of(task).text(1)} is 1)", visible=True)

    with gr.Blocks(title="RTIL: explore", analytics_enabled=False, delete_cache=(60, 600)) as page:
        gr.Markdown("# Explore priors\nMeasure a picture, watch every prior explain the measurements, and move z1.")
        with gr.Tab("Invert"), gr.Row():
            with gr.Column(scale=1):
                number = gr.Slider(0, FACES, value=3, step=1, label="held-out synthetic face")
                upload = gr.Image(type="filepath", sources=["upload"], label="or a picture of your own", height=160)
                task = gr.Dropdown([DRAWN, *OPERATORS], value="cs", label="task")
                level = gr.Number(STARTS["rate"], label="rate (100 % is 1)")
                drawing = gr.ImageEditor(
                    label="hide pixels: draw on it", type="numpy", sources=(), transforms=(), visible=False,
                    canvas_size=(CANVAS_PIXELS, CANVAS_PIXELS), brush=gr.Brush(default_size=24, colors=["#e6336f"]),
                )  # fmt: skip
                method = gr.Dropdown(list(METHODS), value="ilo", label="method")
                effort = gr.Slider(0.05, 2, value=0.5, step=0.05, label="effort (1 is 200 steps)")
                chosen = gr.CheckboxGroup(list(generators), value=list(generators), label="priors")
                seed = gr.Number(0, precision=0, label="seed")
                with gr.Row():
                    go, stop = gr.Button("Reconstruct", variant="primary"), gr.Button("Stop")
            with gr.Column(scale=2):
                seen = gr.HTML(elem_id="seen")
        with gr.Tab("Move z1"):
            z0 = gr.Slider(0, 999, value=0, step=1, label="seed of z0")
            sigmas, seeds = [], []
            for cut in range(1, Z1_CUTS + 1):
                with gr.Row():
                    sigmas.append(gr.Slider(0, 4, value=0, step=0.05, label=f"sigma of z1 at cut {cut}"))
                    seeds.append(gr.Slider(0, 999, value=0, step=1, label=f"seed of z1 at cut {cut}"))
            z1 = [z0, *sigmas, *seeds]
            sampled = gr.HTML(elem_id="moved")
        inputs = [number, upload, drawing, task, level, method, effort, chosen, seed]
        running = go.click(invert, inputs, seen, concurrency_limit=1, show_progress="hidden", api_name=False)
        stop.click(None, cancels=[running], api_name=False)
        task.change(first_level, task, level, api_name=False)
        task.change(lambda name: gr.ImageEditor(visible=name == DRAWN), task, drawing, api_name=False)
        for source in (number, upload):
            source.change(to_draw_on, [number, upload], drawing, api_name=False)
        page.load(to_draw_on, [number, upload], drawing, api_name=False)
        for slider in z1:
            slider.change(move, z1, sampled, show_progress="hidden", api_name=False)
        page.load(move, z1, sampled, api_name=False)
    return page


def hidden_by(drawing: Any, side: int) -> Tensor:
    """Return which pixels a drawing covers, bool [side, side].

    Raises:
        UserError: Nothing is drawn.
    """
    layers = [np.asarray(layer) for layer in (drawing or {}).get("layers", [])]
    covered = [layer[..., 3] for layer in layers if layer.ndim == 3 and layer.shape[2] == 4]
    alpha = np.maximum.reduce(covered) if covered else np.zeros((side, side), np.uint8)
    hidden = fit(torch.from_numpy(alpha.copy()).expand(3, -1, -1), side)[0] > 127
    if not bool(hidden.any()):
        raise UserError("nothing is hidden: draw on the picture first")
    return hidden


def of_frame(frame: Frame) -> Markup:
    """Return what is shown of a prior."""
    picture = torch.full((3, 8, 8), 0.5) if frame.picture is None else frame.picture
    value = "" if np.isnan(frame.psnr) else f"{frame.psnr:.2f} dB, "
    return tile(frame.prior, frame.error or f"{value}{frame.where}", picture)


def tile(name: str, text: str, picture: Tensor) -> Markup:
    """Return a picture [3, R, R] in [0, 1] with its name and what is said of it."""
    data = io.BytesIO()
    to_pillow(picture).save(data, format="PNG")
    return TILE.format(base64.b64encode(data.getvalue()).decode("ascii"), f"{name} {text}".strip(), name, text)
