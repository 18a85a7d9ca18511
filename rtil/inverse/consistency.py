"""Signs that measurements were not made by the operator that they are said to be from.

Where an operator is drawn from a seed, the prior's mean picture tells: measured by the right one it is nearer to y than
measured by those of other seeds, whatever the picture. Where only some entries are observed, measurements made with
others are 0 at many that should be observed and something where nothing should be. Neither needs a reconstruction.
"""

from dataclasses import replace

import torch
from torch import Tensor

from rtil.inverse.operators import Operator
from rtil.inverse.recipe import OperatorRecipe

OTHER_SEEDS = range(10)
TELLING = 0.25
"""How wrong the mean picture must look to other seeds' operators, relative to black, for them to tell anything."""
NEARER = 0.9
"""The right operator's error at the mean picture, relative to the least of the others, is below this."""
FITS = 0.5
"""Another seed whose error relative to the chosen one's is below this is named."""
MOST_ZEROS = 0.25
"""Of observed entries, in measurements that have values elsewhere."""


@torch.no_grad()
def doubt_of_seed(operator: Operator, recipe: OperatorRecipe, y: Tensor, mean: Tensor) -> str | None:
    """Return why measurements seem to be made with another seed, or None.

    Args:
        operator: As the user says.
        recipe: How it is made.
        y: Measurements [N, *measurement_shape].
        mean: The prior's mean picture [1, 3, R, R] in [0, 1].
    """
    if not operator.observed.all():
        return None
    y_of_mean, x = operator.A(mean), mean.expand(len(y), -1, -1, -1)
    black = operator.error(torch.zeros_like(mean), y_of_mean).item()
    errors: dict[int, float] = {}
    for seed in OTHER_SEEDS:
        if seed != recipe.seed:
            other = replace(recipe, seed=seed).make().to(mean.device)
            if other.error(mean, y_of_mean).item() < TELLING * black:
                return None
            errors[seed] = other.error(x, y).mean().item()
    chosen, best = operator.error(x, y).mean().item(), min(errors, key=errors.__getitem__)
    if chosen < NEARER * errors[best]:
        return None
    hint = f"; operator_seed {best} would fit" if errors[best] < FITS * chosen else ""
    return f"the operator of operator_seed {recipe.seed} does not seem to be the one that measured{hint}"


def doubt_of_observed(operator: Operator, raw: Tensor) -> str | None:
    """Return why a measurement seems to observe other entries than its operator, or None.

    Args:
        operator: As the user says.
        raw: One measurement [*measurement_shape], before what is not observed was set to 0.
    """
    observed = operator.observed.to(raw.device)
    if observed.all():
        return None
    zeros = (raw[observed] == 0).double().mean().item()
    if zeros <= MOST_ZEROS or not raw[~observed].any():
        return None
    return (
        f"{100 * zeros:.0f} % of the entries that {operator.label} observes are 0, and others are not: the operator "
        "does not seem to be the one that measured"
    )
