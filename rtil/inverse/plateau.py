"""When the loss of an image has flattened: ILO's sign for the next round (Dean et al. 2020, section 1).

The paper names no rule. Here an image is flat from the first step t at which the lowest score so far is less than a
fraction ``threshold`` below what it was ``window`` steps before,

    min_{s <= t} score_s >= (1 - threshold) min_{s <= t - window} score_s,    t >= window,

the score being the error by which iterates are selected. It stays flat for the rest of the round. Each image is judged
by itself, in tensors on its device.
"""

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Plateau:
    """The rule.

    Args:
        window: Steps over which the score must fall, 1 or more.
        threshold: By which fraction, between 0 and 1.
    """

    window: int
    threshold: float


class PlateauWatch:
    """Follows the images of one round.

    Args:
        rule: When an image is flat.
        images: Their number.
        device: Where scores come from.

    Attributes:
        flat: bool [N].
    """

    def __init__(self, rule: Plateau, images: int, device: torch.device) -> None:
        self.rule = rule
        self.flat = torch.zeros(images, dtype=torch.bool, device=device)
        self._lowest: deque[Tensor] = deque(maxlen=rule.window + 1)

    def update(self, score: Tensor) -> Tensor:
        """Take the scores [N] of the next step and return :attr:`flat`; what is not finite never is the lowest."""
        now = torch.where(score.isfinite(), score, torch.inf)
        self._lowest.append(torch.minimum(self._lowest[-1], now) if self._lowest else now)
        if len(self._lowest) > self.rule.window:
            self.flat = self.flat | (self._lowest[-1] >= (1 - self.rule.threshold) * self._lowest[0])
        return self.flat
