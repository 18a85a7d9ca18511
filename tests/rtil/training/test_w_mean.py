import torch

from rtil.seeds import generator
from rtil.training.config import StyleGAN2Config
from rtil.training.stylegan2 import StyleGAN2Training


def test_what_truncation_pulls_to_is_the_mean_of_the_mapping_network():
    """As far from it as the mean of about 10,000 codes is, when it has forgotten its start."""
    config = StyleGAN2Config(data="synthetic", resolution=8, channels={4: 4, 8: 4}, batch=16, w_dim=16, z_dim=16)
    module, branch = StyleGAN2Training(config), torch.zeros(16, dtype=torch.int64)
    with torch.no_grad():
        for step in range(1500):
            module.inputs(branch, generator(0, "test", step), track=True)
        w = module.G.map_to_w(module.G.draw_z(100_000, generator(1, "test")))
    distance = (module.G.w_mean - w.mean(0)).square().mean().sqrt() / w.std(0).square().mean().sqrt()
    assert distance < 0.03
