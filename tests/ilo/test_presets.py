import logging

import pytest
import torch

from ilo import ILO
from ilo.presets import RADII_PRESETS, STEPS_PRESETS, preset_radii, preset_steps
from rtil.errors import UserError
from rtil.generators.stylegan2 import StyleGAN2Generator


def test_steps_are_the_papers() -> None:
    # reference: RTIL, appendix A.6.1, as printed
    assert [preset_steps(f"z{k}", 7) for k in range(5)] == [
        (2000,),
        (2000, 2000),
        (2000, 1000, 2000),
        (2000, 1000, 1000, 2000),
        (2000, 1000, 1000, 1000, 2000),
    ]
    assert [sum(preset_steps(f"exp{n}", 7)) for n in range(1, 6)] == [500, 1500, 5000, 7000, 10000]
    assert preset_steps("rtil", 7) == preset_steps("exp4", 7) == preset_steps("z4", 7)
    assert (preset_steps("icml-quick", 9), preset_steps("icml-speed", 9)) == ((50,) * 4, (300,) * 4)
    with pytest.raises(UserError, match="did you mean 'exp5'"):
        preset_steps("exp55", 7)


def test_rounds_without_a_cut_are_left_out_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    preset_steps.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert preset_steps("z4", 3) == preset_steps("z4", 3) == (2000, 1000, 1000)
        assert preset_steps("z2", 3) == STEPS_PRESETS["z2"]
    (line,) = caplog.messages
    assert line == (
        "steps preset 'z4' has 5 rounds, a generator of 3 blocks allows 3: its last steps, 1000, 2000, are left out"
    )


@pytest.fixture(scope="module")
def papers() -> StyleGAN2Generator:
    """RTIL's shapes up to 32 px, which is as deep as its rounds go: 256 channels, w of 512."""
    return StyleGAN2Generator(32, dict.fromkeys((4, 8, 16, 32), 256), z_dim=512, w_dim=512, mapping_layers=1)


def test_radii_of_the_papers_generator_are_as_printed(papers: StyleGAN2Generator, monkeypatch) -> None:
    # its 256 px picture has 14 rows where 32 px have 8
    monkeypatch.setattr(papers, "mapping", lambda z: torch.zeros(len(z), 14, 512))
    for name, printed in RADII_PRESETS.items():
        noise, latent, feature = preset_radii(name, papers, 4)
        assert noise == printed.radius_noise[:4]
        assert latent == pytest.approx(printed.radius_latent[:4])
        assert feature == pytest.approx(printed.radius_feature[:4])


def test_radii_go_with_the_number_of_entries(small_generator, papers: StyleGAN2Generator) -> None:
    noise, latent, feature = preset_radii("a61-4", papers, 4)
    assert noise == (500, 1500, 2500, 4000)
    assert latent == pytest.approx((500 * 8 / 14, 750 * 7 / 13, 1500 * 5 / 11, 2500 * 3 / 9))
    assert feature == pytest.approx((500, 750, 1500, 2500))
    latent, feature = preset_radii("a61-4", small_generator, 3)[1:]
    assert latent == pytest.approx((500 * 6 / 14 * 24 / 512, 750 * 5 / 13 * 24 / 512, 1500 * 3 / 11 * 24 / 512))
    assert feature[1:] == pytest.approx((750 * 12 / 256, 1500 * 12 / 256))


def test_wrong_radii(small_generator) -> None:
    with pytest.raises(UserError, match="valid are none, a61-1, a61-2"):
        preset_radii("none", small_generator, 2)
    with pytest.raises(UserError, match="are for 5 rounds, not 6"):
        preset_radii("a61-1", small_generator, 6)


def test_a_preset_runs(planted) -> None:
    noise, latent, feature = preset_radii("a61-1", planted.generator, 2)
    written = {"radius_noise": noise, "radius_latent": latent, "radius_feature": feature}
    solver = ILO(planted.generator, steps=(20, 10), seed=1, radii="a61-1")
    assert solver.settings == ILO(planted.generator, steps=(20, 10), **written).settings
    result = solver.invert(planted.x, planted.operator)
    assert (result.score < result.history["measurement"][:, 0]).all()
