from pathlib import Path

import pytest
import torch
from PIL import Image, ImageSequence
from torchvision.transforms.functional import pil_to_tensor

from rtil.errors import UserError
from rtil.inverse.frames import FrameRecorder, write_animation


@pytest.mark.parametrize("most", [2, 3, 4, 7, 16])
@pytest.mark.parametrize("seen", [0, 1, 2, 15, 16, 17, 100])
def test_evenly_spaced_iterates_and_the_result(most: int, seen: int) -> None:
    recorder = FrameRecorder(most)
    for step in range(seen):
        recorder(0, step, torch.full((2, 3, 4, 4), step / 255))
    frames = recorder.frames(torch.full((2, 3, 4, 4), 1.0))
    assert frames.shape[1:] == (2, 3, 4, 4)
    steps = frames[:-1, 0, 0, 0, 0].tolist()
    distance = steps[1] - steps[0] if len(steps) > 1 else max(seen, 1)
    assert steps == list(range(0, seen, distance))
    assert min(seen, -(-(most - 1) // 2)) <= len(steps) < most
    assert (frames[-1] == 255).all()


def test_iterates_are_copied() -> None:
    recorder, x = FrameRecorder(3), torch.zeros(1, 3, 4, 4)
    recorder(0, 0, x)
    x.fill_(1)
    assert (recorder.kept[0] == 0).all()


def test_an_animation_shows_exactly_its_frames(tmp_path: Path) -> None:
    frames = torch.randint(0, 256, (5, 3, 20, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    write_animation(frames, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as animation:
        assert animation.n_frames == 5  # type: ignore[attr-defined]
        shown = []
        milliseconds = []
        for image in ImageSequence.Iterator(animation):
            shown.append(pil_to_tensor(image.convert("RGB")))
            milliseconds.append(image.info["duration"])
    assert torch.equal(torch.stack(shown)[:, :, 2::5, 2::5], frames), "enlarged 5 times, to 100 x 160"
    assert shown[0].shape == (3, 100, 160)
    assert milliseconds[-1] > milliseconds[0] == milliseconds[-2]
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_one_frame_is_no_animation() -> None:
    with pytest.raises(UserError, match="frames is 1: valid is a whole number of 2 or more"):
        FrameRecorder(1)
