"""The course of an inversion as an animated picture.

Animated PNG, since its frames are exactly the iterates: GIF has 256 colours, and Pillow's WebP is lossy unless told
otherwise and not in every build. Browsers play it; a program that cannot shows the first frame.
"""

import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from rtil.errors import UserError
from rtil.files import atomic_path
from rtil.ranges import to_uint8

READABLE_PIXELS = 96
FRAME_MS = 80
LAST_FRAME_MS = 1500


class FrameRecorder:
    """A :data:`rtil.inverse.problem.Callback` that keeps evenly spaced iterates, the first one always.

    It need not know how many come: where there are too many it drops every other one and goes on at twice the distance.
    So it ends with more than half of what it may keep, if there were so many.

    Args:
        most: Frames of the animation, the returned picture as its last one included.

    Raises:
        UserError: ``most`` is below 2.

    Example:
        >>> recorder = FrameRecorder(5)
        >>> for step in range(7):
        ...     recorder(0, step, torch.full((1, 3, 4, 4), step / 255))
        >>> [int(frame.max()) for frame in recorder.kept]
        [0, 2, 4, 6]
    """

    def __init__(self, most: int) -> None:
        if most < 2:
            raise UserError(f"frames is {most}: valid is a whole number of 2 or more, the start and the end included")
        self.most = most
        self.kept: list[Tensor] = []
        self._distance, self._seen = 1, 0

    def __call__(self, k: int, step: int, x: Tensor) -> None:
        """Keep the iterate x [N, 3, R, R] in [0, 1], if it is its turn, as bytes on the CPU."""
        if self._seen % self._distance == 0:
            self.kept.append(to_uint8(x).cpu())
            if len(self.kept) == self.most:
                self.kept = self.kept[::2]
                self._distance *= 2
        self._seen += 1

    def frames(self, x: Tensor) -> Tensor:
        """Return the frames [T, N, 3, R, R], bytes, that end with the pictures x [N, 3, R, R] in [0, 1]."""
        return torch.stack([*self.kept, to_uint8(x).cpu()])


def write_animation(frames: Tensor, path: Path) -> None:
    """Write one picture's frames [T, 3, R, R], bytes, as an animated PNG, atomically.

    Small pictures are enlarged by a whole factor, pixel by pixel, to at least 96 pixels. The last frame stays longer.
    """
    factor = math.ceil(READABLE_PIXELS / min(frames.shape[2:]))
    enlarged = frames.repeat_interleave(factor, 2).repeat_interleave(factor, 3).permute(0, 2, 3, 1)
    first, *others = (Image.fromarray(frame.contiguous().numpy()) for frame in enlarged)
    durations = [FRAME_MS] * len(others) + [LAST_FRAME_MS]
    with atomic_path(path) as temporary:
        first.save(temporary, format="PNG", save_all=True, append_images=others, duration=durations, loop=0)
