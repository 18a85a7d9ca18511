from types import ModuleType

import pytest
import torch

from rtil.errors import UserError
from rtil.quality import features
from rtil.quality.features import PooledFeatures, features_of, inception
from rtil.ranges import uint8_to_signed


@pytest.mark.parametrize(("net", "width"), [("alex", 384), ("vgg", 256)])
def test_features_are_a_stage_of_lpips_averaged_over_the_map(random_backbone, net, width):
    images = torch.randint(0, 256, (3, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    network = features.load_lpips(net)
    expected = network.net(network.scaling_layer(uint8_to_signed(images)))[2].mean(dim=(2, 3))
    found = features_of(PooledFeatures(net), images)
    assert found.shape == (3, width)
    torch.testing.assert_close(found, expected)


def test_small_pictures_are_enlarged(random_backbone):
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    assert features_of(PooledFeatures("alex"), images).isfinite().all()


def test_missing_weights_are_a_line_that_says_how_to_get_them(monkeypatch):
    monkeypatch.setattr(features, "load_lpips", lambda net: None)
    with pytest.raises(UserError, match="rtil weights lpips"):
        PooledFeatures("alex")


def test_inception_needs_its_package_and_its_file(monkeypatch, tmp_path):
    monkeypatch.setattr(features, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        inception(tmp_path / "weights.pth")
    monkeypatch.setattr(features, "find_spec", lambda name: ModuleType(name))
    with pytest.raises(UserError, match="do not exist"):
        inception(tmp_path / "weights.pth")


def test_inception_refuses_other_files(tmp_path):
    pytest.importorskip("torch_fidelity", reason="needs the extra quality: pip install 'rtil[quality]'")
    weights = tmp_path / "weights.pth"
    torch.save({"odd": torch.zeros(2)}, weights)
    with pytest.raises(UserError, match="cannot be used"):
        inception(weights)
    weights.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UserError, match="cannot be used"):
        inception(weights)
