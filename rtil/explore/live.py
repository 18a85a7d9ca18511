"""Inversions that are watched while they run, one thread for each prior, within a limit of time.

A solver shows its iterates to a callback; each thread's puts some of them where :func:`watch` takes them from. Who
stops to look, or whose time is over, ends the inversions at their next step.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from queue import Empty, Queue

import torch
from torch import Tensor

from rtil.data.images import fit, read_image
from rtil.data.synthetic_faces import SyntheticFaces
from rtil.errors import UserError
from rtil.evaluation.conditions import conditions
from rtil.evaluation.metrics import psnr
from rtil.generators.base import LayeredGenerator
from rtil.inverse.operators import OPERATORS, Operator
from rtil.inverse.operators.masks import Inpainting
from rtil.inverse.registry import settings_class, solver_class
from rtil.inverse.settings import SolverSettings
from rtil.ranges import to_unit
from rtil.reading import read_file
from rtil.seeds import generator

METHODS = ("ilo", "csgm", "mganprior")
ILO_STEPS, OTHER_STEPS = (60, 40, 40, 60), 200
"""With effort 1: of ILO's rounds, and of methods with one."""
TRUNCATION = 0.7
NAME = "explored"


@dataclass(frozen=True)
class Frame:
    """What is known of a prior's inversion.

    Attributes:
        prior: Its name.
        picture: [3, R, R] in [0, 1]; None before the first iterate.
        psnr: dB against the truth, which the solver does not know.
        where: Round and step, or what came of it.
        is_done: Whether it has ended.
        error: Why it failed; "" if it did not.
    """

    prior: str
    picture: Tensor | None = None
    psnr: float = float("nan")
    where: str = "waits"
    is_done: bool = False
    error: str = ""


class _StoppedError(Exception):
    """Nobody looks any more, or the time is over."""


def face(number: int, resolution: int) -> Tensor:
    """Return a held-out synthetic face, uint8 [3, R, R]."""
    return SyntheticFaces(resolution, "test")[number]


def uploaded(path: str, resolution: int, most_bytes: int) -> Tensor:
    """Return the central square of a picture file, uint8 [3, R, R].

    Raises:
        UserError: It is larger than so many bytes, or no picture.
    """
    return fit(read_image(read_file(path, "picture", most_bytes), "the upload"), resolution)


def operator_of(task: str, level: float, resolution: int, seed: int, hidden: Tensor | None = None) -> Operator:
    """Return what measures.

    Args:
        task: A name of :data:`rtil.inverse.operators.OPERATORS`.
        level: Of the task, in its own unit; of no account for tasks without one.
        resolution: Side of the pictures.
        seed: Root seed of what is drawn.
        hidden: bool [R, R], which pixels to hide; in place of the task.

    Raises:
        UserError: The level is not valid, or nothing is left to observe.
    """
    if hidden is not None:
        return Inpainting((3, resolution, resolution), ~hidden)
    (condition,) = conditions([f"{task}:{level:g}" if OPERATORS[task].parameters else task], [], [], [])
    return condition.operator(resolution, seed)


def settings_of(method: str, effort: float, blocks: int) -> SolverSettings:
    """Return a method's settings, with its usual steps times an effort.

    Args:
        method: One of METHODS.
        effort: 1 is ILO with 60, 40, 40, 60 steps, and 200 of the others.
        blocks: Of the generator, which has no more rounds.
    """
    steps: object = max(1, round(OTHER_STEPS * effort))
    if method == "ilo":
        steps = tuple(max(1, round(number * effort)) for number in ILO_STEPS[:blocks])
    return settings_class(method)(steps=steps)  # type: ignore[call-arg]


def watch(
    priors: Mapping[str, LayeredGenerator],
    method: str,
    effort: float,
    truth: Tensor,
    operator: Operator,
    *,
    seed: int = 0,
    every_steps: int = 5,
    most_seconds: float = 120.0,
) -> Iterator[list[Frame]]:
    """Invert the measurements of a picture with several priors side by side, and yield what there is to see.

    Args:
        priors: Generators of one resolution R, by name.
        method: One of METHODS.
        effort: See :func:`settings_of`.
        truth: uint8 [3, R, R].
        operator: What measures it.
        seed: Root seed of noise and solvers.
        every_steps: Steps between two looks.
        most_seconds: After so many an inversion ends with what it shows.

    Yields:
        A frame for each prior; the last time all are done.
    """
    x = (truth.float() / 255)[None]
    y = operator(x, [NAME])
    frames = {name: Frame(name) for name in priors}
    news: Queue[Frame] = Queue()
    stop, until = threading.Event(), time.monotonic() + most_seconds

    def run(name: str, G: LayeredGenerator) -> None:
        last = Frame(name)

        def look(round_number: int, step: int, iterate: Tensor) -> None:
            nonlocal last
            if stop.is_set() or time.monotonic() > until:
                raise _StoppedError
            if step % every_steps == 0:
                shown = iterate.detach().clamp(0, 1).cpu()
                value = psnr(shown, x).item()
                last = Frame(name, shown[0].clone(), value, f"round {round_number + 1}, step {step}")
                news.put(last)

        try:
            own = solver_class(method)(G, settings_of(method, effort, G.num_blocks), seed=seed)
            found = own.invert(y, operator, [NAME], callback=look).x.cpu()
            news.put(Frame(name, found[0], psnr(found, x).item(), "done", is_done=True))
        except _StoppedError:
            news.put(replace(last, where=f"stopped at {last.where}", is_done=True))
        except UserError as error:
            news.put(replace(last, where="failed", is_done=True, error=str(error)))
        except Exception:
            news.put(replace(last, where="failed", is_done=True, error="an error of the program; its log says more"))
            raise

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in priors.items()]
    for thread in threads:
        thread.start()
    try:
        yield list(frames.values())
        while not all(frame.is_done for frame in frames.values()):
            frame = news.get()
            frames[frame.prior] = frame
            with_more = True
            while with_more:  # a slow onlooker gets the newest
                try:
                    frame = news.get_nowait()
                    frames[frame.prior] = frame
                except Empty:
                    with_more = False
            yield list(frames.values())
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@torch.no_grad()
def moved(G: LayeredGenerator, seed: int, sigmas: Sequence[float], z1_seeds: Sequence[int]) -> Tensor:
    """Return a sample [3, R, R] in [0, 1] with z1 added at the first cuts.

    Args:
        G: The prior.
        seed: Of z0 and the noise maps.
        sigmas: Standard deviations of z1 at cuts 1, 2, ...
        z1_seeds: Of its direction there, which stays when sigma changes.
    """
    rng = generator(seed, "explore/z0")
    ws = G.truncate(G.mapping(G.draw_z(1, rng)), TRUNCATION)
    noise = G.draw_noise(1, rng)
    z1 = {
        cut: sigma * torch.randn(1, *G.cut_shape(cut), generator=generator(own_seed, "explore/z1", cut)).to(G.device)
        for cut, (sigma, own_seed) in enumerate(zip(sigmas, z1_seeds, strict=True), start=1)
        if sigma
    }
    return to_unit(G(ws, noise, z1)).clamp(0, 1)[0].cpu()
