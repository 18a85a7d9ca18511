"""Training pictures to which an evaluation fits what it needs: the first of permutations of the set."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from rtil.data import ImageDataset
from rtil.errors import UserError
from rtil.evaluation.held_out import open_linear_prior_data
from rtil.seeds import generator


class TrainingPictures:
    """The training pictures of a set.

    Args:
        data: The set.
        resolution: Side of the pictures.
    """

    def __init__(self, data: str, resolution: int) -> None:
        self.data, self.resolution = data, resolution

    @cached_property
    def opened(self) -> ImageDataset:
        """The set."""
        return open_linear_prior_data(self.data, self.resolution)

    @property
    def identity(self) -> str:
        """What changes whenever any picture may have changed."""
        return repr(self.opened.identity())

    def check(self, name: str, count: int) -> None:
        """Raise UserError unless there are more of them than an option wants."""
        if count >= len(self.opened):
            raise UserError(
                f"{name} is {count}: valid is fewer than the {len(self.opened)} training pictures of {self.data}"
            )

    def places(self, count: int, purpose: str) -> list[int]:
        """Return where so many pictures stand, always the same for a purpose."""
        order = torch.randperm(len(self.opened), generator=generator(0, purpose))
        return list(order[:count].tolist())

    def drawn(self, count: int, purpose: str, device: torch.device) -> tuple[Tensor, Sequence[str]]:
        """Return those pictures, [N, 3, R, R] in [0, 1], and their ids."""
        places = self.places(count, purpose)
        return (self.opened.load(places).float() / 255).to(device), [f"train/{self.opened.key(i)}" for i in places]
