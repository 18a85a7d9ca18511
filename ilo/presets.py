"""Settings that the papers name: steps of the rounds, and radii of the l1 balls.

The l1 norm of a deviation grows with its number of entries, so a radius for another generator than the paper's is

    radius * entries of what moves here / entries of what moves in the paper's 256 px StyleGAN2,

which allows the same mean deviation per entry. There the features had 256 channels (RTIL's code), and 14 style rows of
512 entries, of which 14, 13, 11, 9, 7 act in rounds 0..4. Noise maps have the same sides everywhere: no change.
"""

import logging
import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from rtil.errors import UserError, unknown

if TYPE_CHECKING:
    from rtil.generators.base import LayeredGenerator

log = logging.getLogger(__name__)

StepsPreset = Literal[
    "icml-quick", "icml-speed", "rtil", "exp1", "exp2", "exp3", "exp4", "exp5", "z0", "z1", "z2", "z3", "z4"
]
STEPS_PRESETS: Mapping[str, tuple[int, ...]] = {
    "icml-quick": (50, 50, 50, 50),  # ILO section 4.3: beats CSGM's 300-1000
    "icml-speed": (300, 300, 300, 300),  # ILO figures 6 and 7
    "rtil": (2000, 1000, 1000, 1000, 2000),
    "exp1": (100,) * 5,  # exp: RTIL figure 20
    "exp2": (300,) * 5,
    "exp3": (1000,) * 5,
    "exp4": (2000, 1000, 1000, 1000, 2000),
    "exp5": (2000,) * 5,
    "z0": (2000,),  # z: RTIL figure 6, how deep ILO goes
    "z1": (2000, 2000),
    "z2": (2000, 1000, 2000),
    "z3": (2000, 1000, 1000, 2000),
    "z4": (2000, 1000, 1000, 1000, 2000),
}

RadiiPreset = Literal["none", "a61-1", "a61-2", "a61-3", "a61-4"]


class Radii(NamedTuple):
    """Radii of the l1 balls of every round: of each noise map, all latents that move, and the feature (not round 0)."""

    radius_noise: tuple[float, ...]
    radius_latent: tuple[float, ...]
    radius_feature: tuple[float, ...]


RADII_PRESETS: Mapping[str, Radii] = {
    "a61-1": Radii((100, 200, 500, 1000, 2000), (100, 200, 300, 800, 1000), (100, 200, 300, 800, 1000)),
    # the third noise radius is printed so; it looks like a slip
    "a61-2": Radii((200, 1000, 100, 2000, 4000), (200, 400, 800, 1600, 3200), (200, 400, 800, 1600, 3200)),
    "a61-3": Radii((1500, 1500, 2500, 4000, 5000), (300, 500, 1000, 2000, 3000), (300, 1200, 2000, 3000, 5000)),
    "a61-4": Radii((500, 1500, 2500, 4000, 5000), (500, 750, 1500, 2500, 4000), (500, 750, 1500, 2500, 5000)),
}
"""RTIL, appendix A.6.1 and figure 21, as printed."""

PAPER_CHANNELS, PAPER_ROWS, PAPER_W_DIM = 256, 14, 512


@cache
def preset_steps(name: str, num_blocks: int) -> tuple[int, ...]:
    """Return the steps of a preset's rounds, without those for which a generator of so many blocks has no cut.

    What is left out is logged, once per process.

    Raises:
        UserError: An unknown preset.

    Example:
        >>> preset_steps("z2", 4)
        (2000, 1000, 2000)
    """
    if name not in STEPS_PRESETS:
        raise unknown("steps preset", name, STEPS_PRESETS)
    steps = STEPS_PRESETS[name]
    if len(steps) > num_blocks:
        log.warning(
            "steps preset '%s' has %d rounds, a generator of %d blocks allows %d: its last steps, %s, are left out",
            *(name, len(steps), num_blocks, num_blocks, ", ".join(map(str, steps[num_blocks:]))),
        )
    return steps[:num_blocks]


def preset_radii(name: str, generator: "LayeredGenerator", rounds: int) -> Radii:
    """Return a preset's radii for the first rounds of a generator, scaled as the module says.

    Raises:
        UserError: An unknown preset, or it has fewer rounds.
    """
    if name not in RADII_PRESETS:
        raise unknown("radii", name, ["none", *RADII_PRESETS])
    printed = RADII_PRESETS[name]
    if rounds > len(printed.radius_noise):
        raise UserError(f"radii '{name}' are for {len(printed.radius_noise)} rounds, not {rounds}: give fewer rounds")
    from rtil.inverse.starts import row_shape  # which imports torch: settings name presets without it

    rows, w_dim = row_shape(generator)
    latent, feature = [], list(printed.radius_feature[:1])
    for k in range(rounds):
        behind, paper_behind = rows - (generator.first_row_behind(k) if k else 0), PAPER_ROWS - max(0, 2 * k - 1)
        latent.append(printed.radius_latent[k] * behind * w_dim / (paper_behind * PAPER_W_DIM))
        if k:
            paper_entries = PAPER_CHANNELS * (4 * 2 ** (k - 1)) ** 2
            feature.append(printed.radius_feature[k] * math.prod(generator.cut_shape(k)) / paper_entries)
    return Radii(printed.radius_noise[:rounds], tuple(latent), tuple(feature))
