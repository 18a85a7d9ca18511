import argparse
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rtil.errors import UserError
from rtil.generators import PGGANGenerator, StyleGAN2Generator
from rtil.generators.base import weight_hash
from rtil.interop import safe_pickle
from rtil.interop.foreign import read_foreign
from rtil.interop.rosinality_export import rosinality_checkpoint, to_rosinality_generator
from rtil.seeds import generator as seeded
from rtil.snapshot import load_snapshot
from tests.rtil.interop import made


def part(tensors, prefix):
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def worst(ours, theirs):
    """Largest difference, as a share of the range of what is right."""
    theirs = theirs.double()
    return float((ours.double() - theirs).abs().max() / (theirs.max() - theirs.min()))


def saved(path, content, legacy=False):
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


# the golden files, as they lie on disk


def test_golden_nvidia(shared):
    found = read_foreign(shared / "golden" / "stylegan2_ada_32.pkl")
    tensors = load_file(shared / "golden" / "stylegan2_ada_32.safetensors")
    G = found.generator.double()
    noise = [
        tensors[f"G_ema.synthesis.{name}.noise_const"].double()[None, None]
        for name in ("b4.conv1", *(f"b{side}.conv{n}" for side in (8, 16, 32) for n in (0, 1)))
    ]
    ws = G.mapping(tensors["in.z"].double())
    assert worst(ws, tensors["out.ws"]) < 1e-6
    assert worst(G(ws, noise), tensors["out.image_noise_const"]) < 1e-6
    assert worst(G(G.truncate(ws, 0.7), noise), tensors["out.image_psi07_noise_const"]) < 1e-6
    assert (found.network, found.w_mean, found.left_aside) == ("G_ema", "stored", ["D"])


def test_golden_rosinality(shared, tmp_path):
    tensors = load_file(shared / "golden" / "stylegan2_rosinality_32.safetensors")
    content = {"g_ema": part(tensors, "g_ema."), "d": part(tensors, "d."), "args": argparse.Namespace(size=32)}
    G = read_foreign(saved(tmp_path / "x.pt", content)).generator.double()
    noise = [tensors[f"in.noise.{i}"].double() for i in range(7)]
    assert worst(G(G.mapping(tensors["in.z"].double()), noise), tensors["out.image"]) < 1e-6


def test_golden_rtil_pggan(shared, tmp_path):
    tensors = load_file(shared / "golden" / "pggan_rtil.safetensors")
    bare = {f"module.{key}": value for key, value in part(tensors, "g.").items()}
    found = read_foreign(saved(tmp_path / "400000_g.model", OrderedDict(bare)))
    G = found.generator.double()
    assert worst(G(G.mapping(tensors["in.z"].double()), []), tensors["out.image.step4.alpha1"]) < 1e-6
    assert found.network == "module"


# files made here: StyleGAN2


@pytest.fixture
def nvidia(monkeypatch):
    made.fake_nvidia(monkeypatch)


@pytest.mark.parametrize(("resolution", "z_dim", "w_dim", "layers"), [(8, 5, 7, 1), (64, 12, 16, 4)])
def test_nvidia_at_other_shapes_and_nothing_of_its_source_runs(tmp_path, nvidia, resolution, z_dim, w_dim, layers):
    G = made.stylegan2(resolution, z_dim, w_dim, layers)
    canary = tmp_path / "canary"
    source = f"open({str(canary)!r}, 'w').close()"
    found = read_foreign(made.write_nvidia(tmp_path / "network-snapshot.pkl", made.nvidia_keys(G), source))
    assert found.generator.config == G.config
    assert weight_hash(found.generator) == weight_hash(G)
    assert not canary.exists()


def test_nvidia_as_safetensors_and_as_one_network(tmp_path, nvidia):
    G = made.stylegan2()
    save_file({f"G_ema.{k}": v.contiguous() for k, v in made.nvidia_keys(G).items()}, tmp_path / "a.safetensors")
    (tmp_path / "G_ema.pkl").write_bytes(pickle.dumps(made.nvidia_network(made.nvidia_keys(G))))
    for name in ("a.safetensors", "G_ema.pkl"):
        assert weight_hash(load_snapshot(tmp_path / name).generator) == weight_hash(G)


def test_what_a_pickle_tells_besides_is_heeded(tmp_path, nvidia):
    weights = made.nvidia_keys(made.stylegan2())

    def write(place, **facts):
        return made.write_nvidia(
            tmp_path / "a.pkl", weights, change=lambda network: network.at(*place).state.update(facts)
        )

    found = read_foreign(write(("synthesis", "b8", "conv0"), conv_clamp=256, activation="lrelu"))
    assert found.notes == ("activations are not clamped here, there at +-256",)
    for place, fact, words in [
        (("synthesis", "b8", "conv0"), {"activation": "relu"}, "activation is relu: ours is lrelu"),
        (("mapping", "fc0"), {"bias_gain": 1.0}, r"fc0\.bias_gain is 1\.0: ours is 0\.01"),
        ((), {"c_dim": 10}, "class-conditional"),
    ]:
        with pytest.raises(UserError, match=words):
            read_foreign(write(place, **fact))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("rows", [None, 1, 6])
def test_rosinality_with_its_mean_style(tmp_path, legacy, rows):
    G = made.stylegan2()
    own = rosinality_checkpoint(G)
    mean = own["latent_avg"] if rows is None else own["latent_avg"].repeat(rows, 1)
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict()
    args = argparse.Namespace(size=16, path="lmdb", batch=16)
    content = {"g": own["g_ema"], "g_ema": own["g_ema"], "latent_avg": mean, "g_optim": optimiser, "args": args}
    found = read_foreign(saved(tmp_path / "550000.pt", content, legacy))
    assert weight_hash(found.generator) == weight_hash(G)
    assert (found.network, found.w_mean) == ("g_ema", "stored")


@pytest.mark.parametrize("mean", [None, "rows differ"])
def test_a_mean_style_that_is_not_there_is_estimated(tmp_path, mean):
    G = made.stylegan2()
    content = {"g_ema": to_rosinality_generator(G), "latent_avg": torch.randn(6, 12) if mean else None}
    found = read_foreign(saved(tmp_path / "a.pt", content))
    assert found.w_mean == "estimated from 10,000 draws"
    w = G.map_to_w(torch.randn(40_000, 12, generator=torch.Generator().manual_seed(9)))
    standard_error = w.std(0) * (1 / 10_000 + 1 / 40_000) ** 0.5
    assert ((found.generator.w_mean - w.mean(0)).abs() < 5 * standard_error).all()
    again = read_foreign(tmp_path / "a.pt").generator
    assert torch.equal(again.w_mean, found.generator.w_mean)


@pytest.mark.parametrize("opts", [{"stylegan_size": 16, "lr": 1e-4}, argparse.Namespace(output_size=16)])
def test_decoder_of_an_encoder(tmp_path, opts):
    G = made.stylegan2()
    own = rosinality_checkpoint(G)
    state = {f"decoder.{key}": value for key, value in own["g_ema"].items()}
    state |= {"encoder.input_layer.0.weight": torch.zeros(2, 3, 3, 3), "encoder.styles.0.linear.bias": torch.zeros(2)}
    content = {"state_dict": state, "latent_avg": own["latent_avg"].repeat(6, 1), "opts": opts}
    found = read_foreign(saved(tmp_path / "e4e_ffhq_encode.pt", content))
    assert weight_hash(found.generator) == weight_hash(G)
    assert (found.network, found.left_aside) == ("state_dict.decoder", ["state_dict.encoder"])


def test_networks_of_several_devices_and_bare_ones(tmp_path):
    G = made.stylegan2()
    own = rosinality_checkpoint(G)
    parallel = {"g_ema": {f"module.{key}": value for key, value in own["g_ema"].items()}}
    found = read_foreign(saved(tmp_path / "a.pt", parallel | {"latent_avg": own["latent_avg"]}))
    assert weight_hash(found.generator) == weight_hash(G)
    save_file({key: value.contiguous() for key, value in own["g_ema"].items()}, tmp_path / "b.safetensors")
    bare = [read_foreign(path) for path in (saved(tmp_path / "b.pt", own["g_ema"]), tmp_path / "b.safetensors")]
    assert [found.network for found in bare] == ["", ""]
    assert weight_hash(bare[0].generator) == weight_hash(bare[1].generator)


# files made here: PGGAN


@pytest.fixture
def z():
    return torch.randn(3, made.Z, generator=seeded(0, "test"))


@pytest.mark.parametrize("long", [True, False])
def test_genforce_equals_the_published_formulas(tmp_path, z, long):
    weights = made.genforce_weights(long)
    found = read_foreign(saved(tmp_path / "pggan_celebahq1024_generator.pth", weights))
    G = found.generator.double()
    assert (G.resolution, G.channels, found.w_mean) == (16, made.WIDTHS, "none")
    assert worst(G(G.mapping(z.double()), []), made.genforce_picture(weights, z)) < 1e-6


def config(**values):
    module = types.ModuleType("models.utils.config")
    module.BaseConfig = type("BaseConfig", (), {"__module__": "models.utils.config"})
    found = module.BaseConfig()
    found.__dict__.update({"alpha": 0, "leakyReluLeak": 0.2, "depthOtherScales": [10, 6], **values})
    return module, found


@pytest.mark.parametrize("part", [".module", ""])
def test_gan_zoo_equals_the_published_formulas(tmp_path, z, part, monkeypatch):
    weights = made.gan_zoo_weights(part)
    module, settings = config()
    with monkeypatch.context() as patch:
        for name in ("models", "models.utils"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, "models.utils.config", module)
        training = {key: torch.zeros_like(value) for key, value in weights.items()}
        saved(tmp_path / "celebaHQ.pth", {"config": settings, "netG": training, "avgG": weights})
    found = read_foreign(tmp_path / "celebaHQ.pth")
    G = found.generator.double()
    assert found.network == "avgG"
    assert worst(G(G.mapping(z.double()), []), made.gan_zoo_picture(weights, z)) < 1e-6


def test_gan_zoo_while_growing_is_refused(tmp_path):
    content = {"config": argparse.Namespace(alpha=0.25), "avgG": made.gan_zoo_weights()}
    with pytest.raises(UserError, match=r"still growing \(alpha 0.25\)"):
        read_foreign(saved(tmp_path / "a.pth", content))


def test_snapshot_keeps_what_a_published_pggan_needs(tmp_path, z):
    weights = made.gan_zoo_weights()
    G = read_foreign(saved(tmp_path / "a.pth", weights)).generator
    clone = PGGANGenerator(**G.config)
    clone.load_state_dict(G.state_dict())
    assert torch.equal(clone(clone.mapping(z), []), G(G.mapping(z), []))


# what is refused


def without(weights, pattern):
    return {key: value for key, value in weights.items() if pattern not in key}


def refused():
    ros, nv = to_rosinality_generator(made.stylegan2()), made.nvidia_keys(made.stylegan2())
    grey = {
        key: value[:, :1] if "to_rgb" in key and key.endswith("conv.weight") else value for key, value in ros.items()
    }
    blurred = {key: torch.ones(4, 4) if key.endswith("kernel") else value for key, value in ros.items()}
    return {
        "class-conditional": nv | {"mapping.embed.weight": torch.zeros(4, 4)},
        "is 'resnet'": nv | {"synthesis.b8.skip.weight": torch.zeros(8, 9, 1, 1)},
        "is 'orig'": without(nv, "b8.torgb"),
        "it is StyleGAN3": {"G_ema.synthesis.input.freqs": torch.zeros(4, 2)},
        "'synthesis.b8.conv0.other' is not a weight": nv | {"synthesis.b8.conv0.other": torch.zeros(1)},
        "'convs.0.other' is not a weight": ros | {"convs.0.other": torch.zeros(1)},
        "weights are missing or unknown: blocks.1.conv0.bias": without(ros, "convs.0.activate.bias"),
        "weight mapping_layers.0.weight is missing": without(ros, "style."),
        "pictures have 1 channels": grey,
        "is not that of StyleGAN2": blurred,
        "weight 'blocks.0.const' is not finite": ros | {"input.input": torch.full((1, 7, 4, 4), torch.nan)},
        "weight 'mapping_layers.1.weight' has shape": ros | {"style.2.weight": torch.zeros(12, 5)},
        "holds several generators (a, b)": {"a": ros, "b": ros},
        "no generator that is known": {"final_conv.0.weight": torch.zeros(1)},
        "holds no tensors": {"epoch": 3},
        "still growing (lod 2)": made.genforce_weights() | {"lod": torch.tensor(2.0)},
        "keys are not weights": made.genforce_weights() | {"layer9.conv.weight": torch.zeros(1)},
        "are missing: scaleLayers.1.0.module.bias": without(made.gan_zoo_weights(), "scaleLayers.1.0.module.bias"),
    }


@pytest.mark.parametrize("words", refused())
def test_what_ours_cannot_be_is_named(tmp_path, words):
    with pytest.raises(UserError) as caught:
        read_foreign(saved(tmp_path / "a.pt", refused()[words]))
    text = str(caught.value).replace("scaleLayers.1.0.bias", "scaleLayers.1.0.module.bias")
    assert words in text, text
    assert "\n" not in text
    assert str(tmp_path / "a.pt") in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "pointer of Git LFS"),
        (b"\x1f\x8b\x08\x00 compressed", "begins with"),
        (b"\x80\x04\x95", "damaged or cut short"),
        (b"PK\x03\x04 no archive", "damaged or cut short"),
    ],
)
def test_what_is_no_checkpoint_is_told_apart(tmp_path, content, words):
    (tmp_path / "stylegan2-ffhq-config-f.pt").write_bytes(content)
    with pytest.raises(UserError, match=words):
        load_snapshot(tmp_path / "stylegan2-ffhq-config-f.pt")


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "safetensors"])
@pytest.mark.parametrize("share", [0.3, 0.99])
def test_a_file_that_was_cut_short(tmp_path, nvidia, kind, share):
    weights = to_rosinality_generator(made.stylegan2())
    path = tmp_path / "a"
    if kind == "pickle":
        made.write_nvidia(path, made.nvidia_keys(made.stylegan2()))
    elif kind == "safetensors":
        save_file({key: value.contiguous() for key, value in weights.items()}, path)
    else:
        saved(path, {"g_ema": weights}, legacy=kind == "legacy")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="not a readable snapshot") as caught:
        load_snapshot(path)
    assert "\n" not in str(caught.value)


class Canary:
    """Makes a file where a pickle of it is opened by a general unpickler."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "inside a network"])
def test_canaries_are_refused_and_never_run(tmp_path, nvidia, kind):
    canary, path = tmp_path / "canary", tmp_path / "a"
    content = {"g_ema": to_rosinality_generator(made.stylegan2()), "args": Canary(canary)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    elif kind == "inside a network":
        weights = made.nvidia_keys(made.stylegan2())
        made.write_nvidia(path, weights, change=lambda network: network.state.update(hook=Canary(canary)))
    else:
        saved(path, content, legacy=kind == "legacy")
    with pytest.raises(UserError, match=r"names .*, which is no part of weights; nothing of it was run"):
        read_foreign(path)
    assert not canary.exists()
    if kind == "pickle":
        pickle.loads(path.read_bytes())  # noqa: S301  the canary lives
        assert canary.exists()


def test_a_pickle_cannot_change_what_reads_it(tmp_path):
    """BUILD sets attributes of whatever was named, classes and functions too."""
    names = [b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n", b"ctorch._utils\n_rebuild_tensor_v2\n"]
    for name in names:
        spoil = b"\x80\x02" + name + b"N}U\x08__init__NsU\x08__dict__Ns\x86b."
        (tmp_path / "a.pkl").write_bytes(spoil)
        with pytest.raises(UserError):
            load_snapshot(tmp_path / "a.pkl")
    assert safe_pickle.Module({"class_name": "C", "state": {}}).class_name == "C"
    assert torch._utils._rebuild_tensor_v2.__name__ == "_rebuild_tensor_v2"


def test_a_dotted_name_reaches_nothing(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.")
    with pytest.raises(UserError, match=r"names collections\.OrderedDict\.__init__"):
        load_snapshot(tmp_path / "a.pkl")


def test_a_tensorflow_pickle_is_named(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x03cdnnlib.tflib.network\nNetwork\n.")
    with pytest.raises(UserError, match="TensorFlow pickle"):
        load_snapshot(tmp_path / "a.pkl")


# the way back


def test_export_has_the_keys_and_shapes_of_rosinality(shared):
    golden = part(load_file(shared / "golden" / "stylegan2_rosinality_32.safetensors"), "g_ema.")
    theirs = {key: list(value.shape) for key, value in golden.items()}
    G = StyleGAN2Generator(32, {4: 16, 8: 16, 16: 16, 32: 8}, 24, 24, 3)
    exported = to_rosinality_generator(G)
    assert {key: list(value.shape) for key, value in exported.items()} == theirs
    for key in exported:
        if key.endswith("kernel"):
            torch.testing.assert_close(exported[key], golden[key])


def test_export_of_the_golden_weights_is_the_golden_file(shared, tmp_path):
    golden = part(load_file(shared / "golden" / "stylegan2_rosinality_32.safetensors"), "g_ema.")
    G = read_foreign(saved(tmp_path / "a.pt", {"g_ema": golden})).generator
    exported = to_rosinality_generator(G)
    assert all(torch.equal(exported[key], golden[key]) for key in golden if not key.startswith("noises."))
