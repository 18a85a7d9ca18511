import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from rtil.errors import UserError
from rtil.evaluation.metrics import Metrics
from rtil.seeds import generator
from rtil.weights import load_lpips


def pictures(n=3, size=32, seed=0):
    rng = generator(seed, "test")
    truth = torch.nn.functional.avg_pool2d(torch.rand(n, 3, size + 4, size + 4, generator=rng), 5, 1)
    noise = torch.randn(truth.shape, generator=rng) * torch.linspace(0.02, 0.2, n)[:, None, None, None]
    return (truth + noise).clamp(0, 1), truth


def as_numpy(x):
    return x.double().permute(0, 2, 3, 1).numpy()


def test_psnr_and_ssim_equal_skimage_per_image():
    x, truth = pictures()
    got = Metrics(lpips=None)(x, truth)
    for i, (a, b) in enumerate(zip(as_numpy(x), as_numpy(truth), strict=True)):
        assert got["psnr"][i].item() == pytest.approx(peak_signal_noise_ratio(b, a, data_range=1), abs=1e-3)
        expected = structural_similarity(b, a, data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5,
                                         use_sample_covariance=False)  # fmt: skip
        assert got["ssim"][i].item() == pytest.approx(expected, abs=1e-5)


def test_psnr_is_not_pooled_over_the_batch():
    x, truth = pictures()
    together = Metrics(lpips=None)(x, truth)
    alone = Metrics(lpips=None)(x[1:2], truth[1:2])
    for name in ("psnr", "ssim"):
        torch.testing.assert_close(together[name][1:2], alone[name])
    assert together["psnr"].std() > 1


def test_x_is_clamped_and_identical_pictures_are_infinitely_good():
    truth = torch.tensor([0.0, 1.0]).repeat(1, 3, 16, 8)
    got = Metrics(lpips=None)(truth * 3 - 1, truth)
    assert math.isinf(got["psnr"].item())
    assert got["ssim"].item() == pytest.approx(1)


def test_ssim_is_not_a_number_below_its_window():
    x, truth = pictures(size=10)
    got = Metrics(lpips=None)(x, truth)
    assert got["ssim"].isnan().all()
    assert got["psnr"].isfinite().all()
    assert Metrics(lpips=None)(*pictures(size=11))["ssim"].isfinite().all()


def test_shapes_must_agree():
    with pytest.raises(UserError, match=r"\[1, 3, 8, 8\] and \[1, 3, 4, 4\]"):
        Metrics(lpips=None)(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 4, 4))


def test_lpips_without_weights_is_nan_and_one_line_says_how_to_get_them(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    got = Metrics(lpips="alex")(*pictures())
    assert got["lpips"].isnan().all()
    assert [record.message for record in caplog.records] == [
        "LPIPS is n/a: its weights are not on this machine; get them by: rtil weights lpips"
    ]


def test_lpips_of_small_pictures_is_that_of_the_64_pixel_enlargement():
    if load_lpips("alex") is None:
        pytest.skip("needs the LPIPS weights: rtil weights lpips")
    metrics = Metrics(lpips="alex")
    x, truth = pictures(size=32)
    got = metrics(x, truth)["lpips"]
    larger = [torch.nn.functional.interpolate(p, scale_factor=2, mode="bilinear") for p in (x, truth)]
    torch.testing.assert_close(got, metrics(*larger)["lpips"])
    assert (np.diff(got.numpy()) > 0).all()  # more noise, more distance
    assert metrics(truth, truth)["lpips"].tolist() == [0, 0, 0]
