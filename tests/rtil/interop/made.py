"""Checkpoints in other projects' layouts, made at shapes of our choice, and two published PGGANs in plain formulas.

The formulas follow the projects' definitions: genforce's ``pggan_generator_network.py`` (mGANprior) and the GAN Zoo's
``progressive_conv_net.py``.
"""

import pickle
import sys
import types

import torch
import torch.nn.functional as F

from rtil.generators import StyleGAN2Generator

SIDES = (4, 8, 16)
WIDTHS = {4: 12, 8: 10, 16: 6}
Z = 14


def stylegan2(resolution=16, z_dim=12, w_dim=12, mapping_layers=3, seed=0):
    """A generator of ours with weights, biases and noise strengths drawn, and a mean style."""
    channels = {side: 10 - side.bit_length() for side in (4, 8, 16, 32, 64) if side <= resolution}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        G = StyleGAN2Generator(resolution, channels, z_dim, w_dim, mapping_layers)
        for tensor in G.state_dict().values():
            if tensor.ndim < 2:
                tensor.normal_()
    return G.eval().requires_grad_(False)


def nvidia_keys(G):
    """The inverse of the key map, written down anew: NVIDIA's names, with its constants."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    named = {"mapping.w_avg": G.w_mean}
    for key, value in G.state_dict().items():
        words = key.split(".")
        if words[0] == "mapping_layers":
            named[f"mapping.fc{words[1]}.{words[2]}"] = value
        elif words[0] == "blocks":
            side = 4 * 2 ** int(words[1])
            named[".".join(["synthesis", f"b{side}", *words[2:]])] = value
            if words[-1] == "noise_strength":
                named[f"synthesis.b{side}.{words[2]}.noise_const"] = torch.randn(side, side)
                named[f"synthesis.b{side}.{words[2]}.resample_filter"] = taps[:, None] * taps
    return named


class Persistent:
    """Pickles as NVIDIA's decorated classes do: by a reconstructor that is given source text and state."""

    def __init__(self, class_name, source, **attributes):
        self.class_name, self.source = class_name, source
        self.state = {"_parameters": {}, "_buffers": {}, "_modules": {}, "training": False, **attributes}

    def __reduce__(self):
        meta = {"type": "class", "version": 6, "module_src": self.source, "class_name": self.class_name}
        table = sys.modules["dnnlib.util"].EasyDict(meta | {"state": self.state})
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (table,)

    def put(self, words, tensor):
        if len(words) == 1:
            self.state["_parameters"][words[0]] = torch.nn.Parameter(tensor)
            return
        child = self.state["_modules"].setdefault(words[0], Persistent("Part", self.source))
        child.put(words[1:], tensor)

    def at(self, *words):
        return self.state["_modules"][words[0]].at(*words[1:]) if words else self


def fake_nvidia(monkeypatch):
    """Put modules of NVIDIA's names in place, for writing alone."""
    util, persistence = types.ModuleType("dnnlib.util"), types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("the file's own reconstructor has run")

    util.EasyDict = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    persistence._reconstruct_persistent_obj = _reconstruct_persistent_obj
    monkeypatch.setitem(sys.modules, "dnnlib", types.ModuleType("dnnlib"))
    monkeypatch.setitem(sys.modules, "dnnlib.util", util)
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", persistence)


def nvidia_network(weights, source="raise SystemExit", **facts):
    """A network of NVIDIA's, ready to be pickled."""
    network = Persistent("Generator", source, **facts)
    for key, value in weights.items():
        network.put(key.split("."), value)
    return network


def write_nvidia(path, weights, source="raise SystemExit", change=lambda network: None):
    """Write a pickle as NVIDIA's training does; call ``fake_nvidia`` before."""
    network = nvidia_network(weights, source, z_dim=1, c_dim=0)
    change(network)
    empty = nvidia_network({}, source)
    path.write_bytes(pickle.dumps({"G": network, "D": empty, "G_ema": network, "training_set_kwargs": None}))
    return path


def conv_shapes():
    """(block, convolution): [O, I, 3, 3] of Karras' PGGAN."""
    found = {(0, 1): (WIDTHS[4], WIDTHS[4], 3, 3)}
    for b, side in enumerate(SIDES[1:], 1):
        found |= {(b, 0): (WIDTHS[side], WIDTHS[side // 2], 3, 3), (b, 1): (WIDTHS[side], WIDTHS[side], 3, 3)}
    return found


def genforce_weights(long=True):
    """mGANprior's state dict, or genforce's with its shorter names."""
    weight, bias = (".conv.weight", ".wscale.bias") if long else (".weight", ".bias")
    shapes = {"layer0": (WIDTHS[4], Z, 4, 4)}
    shapes |= {f"layer{2 * b + n}": shape for (b, n), shape in conv_shapes().items()}
    shapes |= {f"output{b}": (3, WIDTHS[side], 1, 1) for b, side in enumerate(SIDES)}
    rng = torch.Generator().manual_seed(1)
    found = {"lod": torch.zeros(())}
    for name, shape in shapes.items():
        found[name + weight] = torch.randn(shape, generator=rng)
        found[name + bias] = torch.randn(shape[0], generator=rng)
    return found


def unit(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def genforce_picture(weights, z):
    """Every layer: pixel norm, nearest upsampling, a convolution, the weights' scale, a bias, leaky ReLU."""
    p = {key.replace(".conv.", ".").replace(".wscale.", "."): value.double() for key, value in weights.items()}

    def layer(x, name, gain, padding, up=False):
        w = p[f"{name}.weight"]
        x = unit(x).repeat_interleave(2, 2).repeat_interleave(2, 3) if up else unit(x)
        return F.conv2d(x, w * gain / w[0].numel() ** 0.5, p[f"{name}.bias"], padding=padding)

    x = z.double()[:, :, None, None]
    for b in range(len(SIDES)):
        x = F.leaky_relu(layer(x, f"layer{2 * b}", 2**0.5, 1 if b else 3, up=b > 0), 0.2)
        x = F.leaky_relu(layer(x, f"layer{2 * b + 1}", 2**0.5, 1), 0.2)
    return layer(x, f"output{len(SIDES) - 1}", 1, 0)


def gan_zoo_weights(part=".module"):
    """The Zoo's state dict, as newer releases of torch write it, or with part "" older ones."""
    shapes = {"formatLayer": (16 * WIDTHS[4], Z)}
    for (b, n), shape in conv_shapes().items():
        shapes[f"scaleLayers.{b - 1}.{n}" if b else "groupScale0.0"] = shape
    shapes |= {f"toRGBLayers.{b}": (3, WIDTHS[side], 1, 1) for b, side in enumerate(SIDES)}
    rng = torch.Generator().manual_seed(2)
    found = {}
    for name, shape in shapes.items():
        found[f"{name}{part}.weight"] = torch.randn(shape, generator=rng)
        found[f"{name}{part}.bias"] = torch.randn(shape[0], generator=rng)
    return found


def gan_zoo_picture(weights, z):
    """Every layer's output, bias and all, is scaled by He's constant; leaky ReLU, then pixel norm."""
    p = {key.replace(".module.", "."): value.double() for key, value in weights.items()}

    def layer(x, name, operation, **options):
        w = p[f"{name}.weight"]
        return operation(x, w, p[f"{name}.bias"], **options) * (2 / w[0].numel()) ** 0.5

    def conv(x, name):
        return unit(F.leaky_relu(layer(x, name, F.conv2d, padding=1), 0.2))

    x = F.leaky_relu(layer(unit(z.double()), "formatLayer", F.linear), 0.2).view(len(z), -1, 4, 4)
    x = conv(unit(x), "groupScale0.0")
    for b in range(len(SIDES) - 1):
        x = conv(F.interpolate(x, scale_factor=2, mode="nearest"), f"scaleLayers.{b}.0")
        x = conv(x, f"scaleLayers.{b}.1")
    return layer(x, f"toRGBLayers.{len(SIDES) - 1}", F.conv2d)
