"""The built-in data set: procedural faces that need no download, at any resolution.

A face is a function of (seed, split, index) alone. Pose, light and the many occlusions make the set strongly
non-linear: a Gaussian prior over its pixels is a poor model of it.
"""

from collections.abc import Sequence

from torch import Tensor

from rtil.data.base import ImageDataset, Split
from rtil.data.face_parameters import draw_parameters
from rtil.data.face_renderer import render_faces
from rtil.ranges import to_uint8

SIZES = {"train": 20000, "validation": 1000, "test": 1000}
VERSION = 1  # raise it whenever a picture changes


class SyntheticFaces(ImageDataset):
    """Procedural faces; the test split is shifted in distribution (see ``face_parameters``).

    Args:
        resolution: Side R in pixels; the same faces at every resolution.
        split: ``train`` (20000), ``validation`` (1000, distributed like train) or ``test`` (1000, shifted).
        seed: Another seed gives other faces.

    Example:
        >>> SyntheticFaces(16, "train")[3].shape
        torch.Size([3, 16, 16])
    """

    def __init__(self, resolution: int, split: Split, seed: int = 0) -> None:
        super().__init__("synthetic", resolution, split)
        self.seed = seed

    def __len__(self) -> int:
        return SIZES[self.split]

    def key(self, index: int) -> str:
        """Return a name such as ``synthetic-test-17``."""
        return f"synthetic-{self.split}-{range(len(self))[index]}"

    def identity(self) -> tuple[object, ...]:
        """Return what determines the pictures."""
        return "synthetic", VERSION, self.seed, self.split, len(self), self.resolution

    def load(self, indices: Sequence[int]) -> Tensor:
        """Render several faces at once; IndexError past the end of the split."""
        every = range(len(self))
        parameters = draw_parameters([every[index] for index in indices], self.split, self.seed)
        return to_uint8(render_faces(parameters, self.resolution))
