"""How colour pictures enter other physics, against deepinv's own MRI and against sums by hand."""

import pytest
import torch

from rtil.errors import UserError
from rtil.inverse.operators import Adapted, make_operator

SIZE = (3, 8, 8)


class Spectrum:
    def A(self, x):
        return torch.fft.fft2(x, norm="ortho")


def pictures(n=2):
    return torch.rand(n, *SIZE, generator=torch.Generator().manual_seed(0))


def test_grey_is_the_luma_of_colorize():
    class Identity:
        def A(self, x):
            return x

    x = pictures()
    expected = make_operator("colorize", SIZE).A(x)
    torch.testing.assert_close(Adapted(Identity(), "grey").A(x), expected)


def test_channelwise_each_colour_is_measured_alone():
    x = pictures()
    y = Adapted(Spectrum(), "channelwise", "complex").A(x)
    assert y.shape == (2, 3, 1, 8, 8)
    for channel in range(3):
        torch.testing.assert_close(y[:, channel, 0], torch.fft.fft2(x[:, channel], norm="ortho"))


def test_two_channels_are_real_and_imaginary_part_as_in_deepinvs_mri():
    mri = pytest.importorskip("deepinv").physics.MRI(img_size=(2, 8, 8))
    x = pictures()
    y = Adapted(mri, "channelwise", "two-channel").A(x)
    expected = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x, dim=(-2, -1)), norm="ortho"), dim=(-2, -1))
    torch.testing.assert_close(torch.complex(y[:, :, 0], y[:, :, 1]), expected)


def test_lists_keep_their_parts_channelwise():
    class Pair:
        def A(self, x):
            return [x, x.sum(3)]

    first, second = Adapted(Pair(), "channelwise").A(pictures())
    assert first.shape == (2, 3, 1, 8, 8)
    assert second.shape == (2, 3, 1, 8)


def test_what_does_not_fit_is_told():
    with pytest.raises(UserError, match=r"unknown colour 'gray'.*did you mean 'grey'"):
        Adapted(Spectrum(), "gray")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="'two-channel' are of one channel"):
        Adapted(Spectrum(), values="two-channel")
