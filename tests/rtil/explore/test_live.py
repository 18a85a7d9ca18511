import numpy as np
import pytest
import torch

from rtil.errors import UserError
from rtil.explore.live import face, moved, operator_of, settings_of, uploaded, watch
from rtil.explore.page import hidden_by
from rtil.inverse.registry import solver_class
from rtil.pictures import save_png
from rtil.pretrained import SCHEME
from rtil.snapshot import load_snapshot


@pytest.fixture(scope="module")
def priors():
    return {name: load_snapshot(f"{SCHEME}{name}", torch.device("cpu")).generator for name in ("vanilla", "rtil")}


@pytest.fixture(scope="module")
def operator():
    return operator_of("cs", 0.25, 32, seed=0)


def test_what_is_watched_comes_to_what_the_solver_finds(priors, operator):
    truth = face(3, 32)
    seen = list(watch(priors, "ilo", 0.05, truth, operator, every_steps=1))
    assert all(not frame.is_done for frame in seen[0])
    assert [frame.prior for frame in seen[-1]] == ["vanilla", "rtil"]
    assert len(seen) > 3
    y = operator((truth.float() / 255)[None], ["explored"])
    for frame in seen[-1]:
        G = priors[frame.prior]
        own = solver_class("ilo")(G, settings_of("ilo", 0.05, G.num_blocks), seed=0)
        found = own.invert(y, operator, ["explored"]).x[0]
        assert frame.is_done
        assert not frame.error
        assert torch.equal(frame.picture, found)
        wanted = -10 * np.log10((found - truth.float() / 255).square().mean().item())
        assert frame.psnr == pytest.approx(wanted, abs=1e-3)


def test_an_inversion_ends_when_its_time_is_over(priors, operator):
    *_, last = watch(priors, "csgm", 50, face(3, 32), operator, most_seconds=0.3)
    assert all(frame.is_done and frame.where.startswith("stopped at") for frame in last)


def test_who_stops_to_look_ends_the_inversions(priors, operator):
    before = {name: [p.requires_grad for p in G.parameters()] for name, G in priors.items()}
    frames = watch(priors, "csgm", 50, face(3, 32), operator)
    next(frames)
    frames.close()  # waits for the threads, which would else take minutes
    assert before == {name: [p.requires_grad for p in G.parameters()] for name, G in priors.items()}


def test_what_cannot_be_is_told_in_its_place(priors):
    operator = operator_of("cs", 0.25, 16, seed=0)
    *_, last = watch(priors, "ilo", 0.05, face(3, 16), operator)
    assert all("the generator's are" in frame.error for frame in last)


def test_hidden_pixels_are_those_that_are_drawn_on():
    layer = np.zeros((64, 64, 4), np.uint8)
    layer[:32, :, 3] = 255
    hidden = hidden_by({"layers": [layer]}, 16)
    assert hidden[:8].all()
    assert not hidden[8:].any()
    truth = face(0, 16).float()[None] / 255
    y = operator_of("", 0, 16, 0, hidden)(truth, ["a"])
    assert (y[..., :8, :] == 0).all()
    assert torch.equal(y[..., 8:, :], truth[..., 8:, :])
    with pytest.raises(UserError, match="nothing is hidden"):
        hidden_by({"layers": [np.zeros_like(layer)]}, 16)
    with pytest.raises(UserError, match="observes no pixel"):
        operator_of("", 0, 16, 0, torch.ones(16, 16, dtype=torch.bool))


def test_uploads_have_a_largest_size(tmp_path):
    path = tmp_path / "a.png"
    save_png(torch.rand(3, 40, 30), path)
    assert uploaded(str(path), 16, 10_000_000).shape == (3, 16, 16)
    with pytest.raises(UserError, match="more than 100 bytes"):
        uploaded(str(path), 16, 100)


def test_z1_moves_a_sample_and_none_leaves_it(priors):
    G = priors["rtil"]
    still = moved(G, 1, [0, 0, 0], [0, 0, 0])
    assert torch.equal(still, moved(G, 1, [0, 0, 0], [5, 6, 7]))
    near, far = (moved(G, 1, [0, sigma], [0, 0]) for sigma in (0.1, 1.0))
    assert 0 < (near - still).abs().mean() < (far - still).abs().mean()
    assert torch.equal(far, moved(G, 1, [0, 1.0], [1, 0]))
    assert not torch.equal(far, moved(G, 1, [0, 1.0], [0, 1]))
