"""When a training has diverged, and what to try then.

Steps whose gradients are not finite are skipped; many in a row, or a weight that is not finite, are the end. Losses can
also grow without end while all is finite: D then scores pictures by numbers beside which a difference of one, all that
its loss looks at, is lost in float32.
"""

from collections.abc import Mapping, Sequence

from rtil.errors import RunError
from rtil.training.config import TrainingConfig

MAX_BAD_STEPS = 20
MAX_SCORE = 1e6
"""D's mean score: at 16 px StyleGAN2's stayed below 7 at the usual lr, met 361 at 50 times that, and 1e17 at 500."""


class TrainingDivergedError(RunError):
    """Gradients stayed non-finite for many steps in a row, weights are not finite, or scores are beyond all bounds."""


def raise_if_diverged(
    config: TrainingConfig,
    kimg: float,
    bad_steps: Mapping[str, int],
    bad_weights: Sequence[str],
    scores: Mapping[str, float],
) -> None:
    """Give up a training that has diverged.

    Args:
        config: Its settings.
        kimg: Thousands of images it has seen.
        bad_steps: Steps in a row that were skipped, by phase.
        bad_weights: Names of weights that are not finite.
        scores: D's mean scores of the last step, by what they are of.

    Raises:
        TrainingDivergedError: If so.
    """
    found = [f"the last {n} {phase} steps were not finite" for phase, n in bad_steps.items() if n >= MAX_BAD_STEPS]
    if bad_weights:
        found.append(f"{len(bad_weights)} weights are not finite, {bad_weights[0]} the first")
    found += [f"D scores {of} pictures {value:.1e}" for of, value in scores.items() if abs(value) > MAX_SCORE]
    if found:
        penalty = "r1_gamma" if hasattr(config, "r1_gamma") else "gp_weight"
        raise TrainingDivergedError(
            f"diverged at {kimg:g} kimg: {found[0]}; in a new run try a lower lr (here {config.lr:g}), a higher "
            f"{penalty} (here {getattr(config, penalty):g}) or larger batches; the checkpoints are of before"
        )
