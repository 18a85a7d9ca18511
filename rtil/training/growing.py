"""Progressive growing as a schedule on the clock of images seen (Karras et al. 2018, section 2).

A stage trains one side, with its own batch, until the next takes over at twice the side. At its beginning the new
block fades in: alpha rises from 0 to 1 over the first half of the stage, then the stage is stable. The first stage
has nothing to fade. What is shown, and how large the batch is, follows from the number of images seen alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rtil.errors import UserError
from rtil.generators.stylegan2 import resolutions

GrowthPreset = Literal["default", "rtil", "karras"]

SMALLEST_BATCH = 4  # where a preset's table ends
BATCHES: dict[str, dict[int, int]] = {
    "default": {4: 16, 8: 16, 16: 16, 32: 16, 64: 8, 128: 6, 256: 6},
    "rtil": {4: 32, 8: 32, 16: 32, 32: 16, 64: 8, 128: 6, 256: 6},
    "karras": {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8},
}
STAGES_TOLERANCE = 0.01  # of kimg, between it and the sum of explicit stages


@dataclass(frozen=True)
class Stage:
    """The time during which one side is trained.

    Args:
        side: Side of the pictures in pixels.
        blocks: Blocks shown, the one of this side included.
        batch: Images per step.
        first_image: Images seen when the stage begins.
        fade_images: Images over which the newest block fades in; 0 if it is there from the start.
        images: Length of the stage, a whole number of batches.
    """

    side: int
    blocks: int
    batch: int
    first_image: int
    fade_images: int
    images: int


@dataclass(frozen=True)
class GrowthSchedule:
    """The stages of a training, each beginning where the one before ends; see :func:`growth_schedule`.

    Example:
        >>> schedule = growth_schedule("rtil", 8, kimg=1.28)
        >>> schedule.total_images
        1280
        >>> [schedule.at(seen)[1] for seen in (0, 608, 640, 800, 960, 1248)]
        [1.0, 1.0, 0.0, 0.5, 1.0, 1.0]
        >>> schedule.at(640)[0]
        Stage(side=8, blocks=2, batch=32, first_image=640, fade_images=320, images=640)
    """

    stages: tuple[Stage, ...]

    @property
    def total_images(self) -> int:
        """Images until the end."""
        return self.stages[-1].first_image + self.stages[-1].images

    def at(self, images_seen: int) -> tuple[Stage, float]:
        """Return stage and alpha in [0, 1] of the step that starts at a position; after the end, the last stage's."""
        stage = next(stage for stage in reversed(self.stages) if stage.first_image <= images_seen)
        into = images_seen - stage.first_image
        return stage, min(1.0, into / stage.fade_images) if stage.fade_images else 1.0

    def batch_at(self, images_seen: int) -> int:
        """Return the number of images of the step that starts at a position; steps go on after the end.

        Raises:
            UserError: If no step of this schedule starts there.
        """
        stage, _ = self.at(images_seen)
        if (images_seen - stage.first_image) % stage.batch:
            raise UserError(
                f"no step of the growth schedule starts at image {images_seen} (batches of {stage.batch} from image "
                f"{stage.first_image}): go on with the schedule that the run began with"
            )
        return stage.batch


def growth_schedule(
    preset: GrowthPreset,
    resolution: int,
    kimg: float,
    batches: Mapping[int, int] | None = None,
    stages: Mapping[int, float] | None = None,
) -> GrowthSchedule:
    """Return the schedule of a training of ``kimg`` thousand images from 4 px to ``resolution``.

    Presets say how the images are shared out and, per side, the batch:

    * ``rtil``: as many iterations in every stage, as in the RTIL authors' code.
    * ``karras``: equally many images in every stage, half as many at 4 px, as in Karras et al.'s code (version 2).
    * ``default``: as ``karras``, but half as many images again in the last stage; small batches, for more steps.

    Every stage gets a whole number of batches, at least one. What one stage's rounding gives or takes, the next
    makes up for, so that the total is met to within half a last batch, unless ``kimg`` is too short for that.

    Args:
        preset: ``default``, ``rtil`` or ``karras``.
        resolution: Final side in pixels, that of the data; a power of two of at least 8.
        kimg: Length of the whole training in thousands of images, above 0.
        batches: {side: images per step} where it shall differ from the preset's.
        stages: {side: thousands of images} of every stage, in order, instead of the preset's shares. They add up to
            ``kimg`` within 1 %.

    Raises:
        UserError: An argument is not valid; ``stages`` do not lead from 4 to ``resolution`` or do not add up.

    Example:
        >>> schedule = growth_schedule("default", 16, kimg=10, batches={16: 20}, stages={4: 1, 8: 3, 16: 6})
        >>> [(stage.side, stage.batch, stage.images, stage.fade_images) for stage in schedule.stages]
        [(4, 16, 992, 0), (8, 16, 3008, 1504), (16, 20, 6000, 3000)]
    """
    sides = resolutions(resolution)
    batch_of = {side: BATCHES[preset].get(side, SMALLEST_BATCH) for side in sides} | _checked_batches(batches, sides)
    if stages is None:
        shares = _shares(preset, batch_of)
        lengths = {side: kimg * share / sum(shares.values()) for side, share in shares.items()}
    else:
        lengths = _checked_stages(stages, sides, kimg)
    return _in_whole_batches(lengths, batch_of)


def _shares(preset: GrowthPreset, batch_of: Mapping[int, int]) -> dict[int, float]:
    """Return how many images each stage has, up to a common factor."""
    if preset == "rtil":
        return dict(batch_of)
    if preset == "karras":
        return {side: 1 if side == 4 else 2 for side in batch_of}
    return {side: 1 if side == 4 else 3 if side == max(batch_of) else 2 for side in batch_of}


def _in_whole_batches(kimg_of: Mapping[int, float], batch_of: Mapping[int, int]) -> GrowthSchedule:
    stages: list[Stage] = []
    first, end = 0, 0.0
    for side, kimg in kimg_of.items():
        batch = batch_of[side]
        end += kimg * 1000
        images = max(1, round((end - first) / batch)) * batch
        stages.append(Stage(side, len(stages) + 1, batch, first, images // 2 if stages else 0, images))
        first += images
    return GrowthSchedule(tuple(stages))


def _checked_batches(batches: Mapping[int, int] | None, sides: list[int]) -> dict[int, int]:
    for side, batch in (batches or {}).items():
        if side not in sides:
            raise UserError(f"batches has the side {side}: valid are {_listed(sides)}")
        if batch < 1:
            raise UserError(f"batches has {batch} for side {side}: use a whole number of at least 1")
    return dict(batches or {})


def _checked_stages(stages: Mapping[int, float], sides: list[int], kimg: float) -> dict[int, float]:
    if list(stages) != sides:
        got = _listed(list(stages)) or "no side"
        raise UserError(f"stages list {got}, the data has {sides[-1]} px: list {_listed(sides)}, in this order")
    for side, length in stages.items():
        if length <= 0:
            raise UserError(f"stages has {length:g} kimg for side {side}: use a number above 0")
    total = sum(stages.values())
    if abs(total - kimg) > STAGES_TOLERANCE * kimg:
        raise UserError(
            f"stages add up to {total:g} kimg and kimg is {kimg:g}: give kimg {total:g}, or stages of {kimg:g} in all"
        )
    return dict(stages)


def _listed(sides: list[int]) -> str:
    return ", ".join(map(str, sides))
