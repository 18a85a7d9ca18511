"""What every set of training or test pictures offers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from torch.utils.data import Dataset

from rtil.data.images import check_side

Split = Literal["train", "validation", "test"]


class ImageDataset(Dataset[Tensor], ABC):
    """Square RGB pictures of one resolution; item i is uint8 [3, R, R].

    Attributes:
        name: Short name for run folders and reports.
        resolution: Side R in pixels.
        split: Which part of the data this is.
    """

    name: str
    resolution: int
    split: Split

    def __init__(self, name: str, resolution: int, split: Split) -> None:
        check_side(resolution)
        self.name, self.resolution, self.split = name, resolution, split

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of pictures."""

    def __getitem__(self, index: int) -> Tensor:
        """Return picture ``index`` as uint8 [3, R, R]; raise IndexError past the end."""
        return self.load([index])[0]

    @abstractmethod
    def key(self, index: int) -> str:
        """Return a stable identifier of a picture, unique in the set."""

    @abstractmethod
    def identity(self) -> tuple[object, ...]:
        """Return values that change whenever any picture of the set may have changed."""

    @abstractmethod
    def load(self, indices: Sequence[int]) -> Tensor:
        """Return several pictures as uint8 [N, 3, R, R], each independent of the others."""
