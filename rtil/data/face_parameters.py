"""What varies between procedural faces, and how: uniform draws, palettes and a table of hair styles.

The test split is another distribution, as CelebA-HQ is to FFHQ: heads turn further, light comes from further aside,
hair, backgrounds and clothes have other colours, patterns are finer, and glasses are twice as frequent.
"""

import torch
from torch import Tensor

from rtil.data.base import Split
from rtil.seeds import generator

RANGES = {
    "x": (-0.10, 0.10),
    "y": (-0.12, 0.04),
    "size": (0.62, 0.76),
    "aspect": (0.70, 0.84),
    "jaw": (0.05, 0.30),
    "roll": (-0.22, 0.22),
    "yaw": (-0.55, 0.55),
    "pitch": (-0.18, 0.18),
    "light_azimuth": (-1.0, 1.0),
    "light_elevation": (0.05, 0.75),
    "ambient": (0.35, 0.65),
    "warmth": (-0.06, 0.06),
    "exposure": (0.85, 1.08),
    "gloss": (0.0, 1.0),
    "blush": (0.0, 0.45),
    "ear": (0.10, 0.17),
    "neck_width": (0.20, 0.30),
    "neck_length": (1.08, 1.25),
    "shoulder_width": (0.75, 1.05),
    "collar_depth": (-0.02, 0.22),
    "collar_slope": (0.4, 2.0),
    "cloth_frequency": (18.0, 34.0),
    "nose_height": (0.20, 0.50),
    "nose_width": (0.09, 0.15),
    "eye_distance": (0.33, 0.42),
    "eye_height": (-0.16, -0.04),
    "eye_width": (0.15, 0.20),
    "eye_open": (0.055, 0.11),
    "eye_tilt": (-0.18, 0.10),
    "iris_size": (0.065, 0.085),
    "gaze_x": (-0.06, 0.06),
    "gaze_y": (-0.025, 0.025),
    "lashes": (0.4, 1.0),
    "brow_height": (0.17, 0.25),
    "brow_tilt": (-0.06, 0.05),
    "brow_arch": (0.02, 0.10),
    "brow_width": (0.018, 0.045),
    "mouth_height": (0.50, 0.60),
    "mouth_width": (0.25, 0.40),
    "smile": (-0.05, 0.14),
    "lips": (0.022, 0.055),
    "teeth": (0.2, 0.9),
    "beard_chin": (0.3, 1.0),
    "hair_phase": (0.0, 6.28),
    "hair_wave": (0.0, 0.05),
    "strand_frequency": (18.0, 34.0),
    "part": (-0.45, 0.45),
    "sweep": (-0.25, 0.25),
    "jag_frequency": (8.0, 18.0),
    "lens_width": (0.21, 0.27),
    "lens_height": (0.14, 0.21),
    "glasses_thickness": (0.014, 0.032),
    "pattern_angle": (0.0, 3.14),
    "pattern_frequency": (3.0, 12.0),
    "pattern_phase": (0.0, 6.28),
    "pattern_phase_2": (0.0, 6.28),
    "pattern_sharpness": (0.6, 3.0),
    "pattern_strength": (0.2, 0.9),
    "gradient": (-0.6, 0.6),
}
TEST_RANGES = {
    "x": (-0.14, 0.14),
    "roll": (-0.32, 0.32),
    "yaw": (-0.75, 0.75),
    "pitch": (-0.25, 0.25),
    "light_azimuth": (-1.3, 1.3),
    "ambient": (0.28, 0.55),
    "pattern_frequency": (5.0, 16.0),
}
# Draws that the rules below turn into shapes and colours.
CHOICES = (
    "skin_tone",
    "skin_hue",
    "hair_style",
    "hair_tone",
    "hair_shade",
    "hair_fullness",
    "parted",
    "iris_tone",
    "lip_tone",
    "mouth",
    "beard",
    "glasses",
    "lens_shape",
    "lens_tint",
    "frame_tone",
    "pattern",
    "background_hue",
    "background_saturation",
    "background_value",
    "background_hue_2",
    "background_value_2",
    "cloth_hue",
    "cloth_saturation",
    "cloth_value",
    "cloth_stripes",
)
GLASSES_FREQUENCY = {"train": 0.22, "validation": 0.22, "test": 0.45}

SKIN = (
    (0.97, 0.81, 0.71),
    (0.95, 0.75, 0.61),
    (0.84, 0.62, 0.46),
    (0.68, 0.46, 0.32),
    (0.50, 0.33, 0.23),
    (0.36, 0.23, 0.17),
)
HAIR = (
    (0.08, 0.07, 0.08),
    (0.20, 0.13, 0.09),
    (0.38, 0.24, 0.14),
    (0.50, 0.24, 0.12),
    (0.82, 0.64, 0.36),
    (0.64, 0.62, 0.60),
)
TEST_HAIR = (
    (0.93, 0.89, 0.80),
    (0.80, 0.79, 0.78),
    (0.75, 0.36, 0.14),
    (0.30, 0.10, 0.10),
    (0.25, 0.20, 0.38),
    (0.10, 0.10, 0.14),
)
IRIS = (
    (0.16, 0.09, 0.05),
    (0.33, 0.19, 0.09),
    (0.42, 0.36, 0.16),
    (0.24, 0.42, 0.28),
    (0.25, 0.47, 0.70),
    (0.48, 0.55, 0.60),
)
LIPS = ((0.62, 0.30, 0.28), (0.80, 0.42, 0.40), (0.78, 0.22, 0.26), (0.55, 0.16, 0.24))
FRAMES = ((0.05, 0.05, 0.06), (0.28, 0.16, 0.08), (0.55, 0.10, 0.12), (0.70, 0.60, 0.35), (0.15, 0.20, 0.45))
STYLE_FIELDS = ("has_hair", "hair_volume", "hairline", "temple", "hair_length", "jag")
STYLES = (
    (0.0, 1.00, -2.00, 0.0, 0.30, 0.00),  # bald
    (1.0, 1.03, -0.74, 0.55, 0.30, 0.01),  # cropped
    (1.0, 1.10, -0.62, 0.70, 0.38, 0.03),  # short
    (1.0, 1.13, -0.42, 0.75, 0.42, 0.05),  # short with a fringe
    (1.0, 1.12, -0.60, 1.40, 0.95, 0.02),  # long
    (1.0, 1.16, -0.40, 1.50, 1.15, 0.04),  # long with a fringe
    (1.0, 1.12, -0.58, 1.00, 0.62, 0.03),  # bob
    (1.0, 1.32, -0.52, 0.85, 0.55, 0.05),  # wide, curly
)
STYLE_WEIGHTS = (0.07, 0.13, 0.20, 0.14, 0.17, 0.10, 0.11, 0.08)


def draw_parameters(indices: list[int], split: Split, seed: int) -> dict[str, Tensor]:
    """Draw the parameters of faces, each face from its own random stream.

    Returns:
        Scalars [N, 1, 1] and colours [N, 3, 1, 1] by name, ready for ``render_faces``.
    """
    names = (*RANGES, *CHOICES)
    streams = [generator(seed, f"synthetic-faces/{split}", index) for index in indices]
    draws = torch.stack([torch.rand(len(names), generator=stream) for stream in streams])
    choice = dict(zip(names, draws.T, strict=True))
    ranges = {**RANGES, **TEST_RANGES} if split == "test" else RANGES
    p = {name: low + (high - low) * choice[name] for name, (low, high) in ranges.items()}
    _place_light(p)
    _choose_shapes(p, choice, split)
    p = {name: value[:, None, None] for name, value in p.items()}
    return {**p, **_choose_colours(p, choice, split)}


def _place_light(p: dict[str, Tensor]) -> None:
    azimuth, elevation = p.pop("light_azimuth"), p.pop("light_elevation")
    p["light_x"] = azimuth.sin() * elevation.cos()
    p["light_y"] = -elevation.sin()
    p["light_z"] = azimuth.cos() * elevation.cos()


def _choose_shapes(p: dict[str, Tensor], choice: dict[str, Tensor], split: Split) -> None:
    limits = torch.tensor(STYLE_WEIGHTS).cumsum(0)[:-1]
    rows = torch.tensor(STYLES)[torch.bucketize(choice["hair_style"].contiguous(), limits)]
    p.update(zip(STYLE_FIELDS, rows.T, strict=True))
    p["hair_volume"] = p["hair_volume"] + 0.06 * choice["hair_fullness"] * p["has_hair"]
    p["hairline"] = p["hairline"] + 0.12 * (choice["hair_shade"] - 0.5)
    p["parted"] = (choice["parted"] > 0.5).float()
    p["mouth_open"] = ((choice["mouth"] - 0.45) / 0.55).clamp_min(0) * 0.13
    short_haired = (p["hair_length"] < 0.5).float()
    p["beard"] = ((choice["beard"] - 0.65) / 0.35).clamp_min(0).sqrt() * 0.85 * short_haired
    p["has_glasses"] = (choice["glasses"] < GLASSES_FREQUENCY[split]).float()
    p["lens_power"] = torch.where(choice["lens_shape"] < 0.5, 2.0, 5.0)
    p["lens_tint"] = torch.where(choice["lens_tint"] < 0.2, 0.85, 0.08)
    p["is_stripes"] = (choice["pattern"] < 0.3).float()
    p["is_checks"] = ((choice["pattern"] >= 0.3) & (choice["pattern"] < 0.5)).float()
    p["is_blobs"] = (choice["pattern"] >= 0.5).float()
    p["cloth_stripes"] = (choice["cloth_stripes"] > 0.65).float()


def _choose_colours(p: dict[str, Tensor], choice: dict[str, Tensor], split: Split) -> dict[str, Tensor]:
    test = split == "test"
    skin = _mix(SKIN, choice["skin_tone"]) * (
        1 + (choice["skin_hue"] - 0.5)[:, None] * torch.tensor([0.04, 0.0, -0.12])
    )
    hair = _mix(TEST_HAIR if test else HAIR, choice["hair_tone"]) * (0.8 + 0.35 * choice["hair_shade"])[:, None]
    saturation = (0.35 + 0.55 * choice["background_saturation"]) if test else 0.55 * choice["background_saturation"]
    hue = choice["background_hue"]
    background = _hsv(hue, saturation, 0.25 + 0.7 * choice["background_value"])
    background_2 = _hsv(hue + 0.35 * choice["background_hue_2"], saturation, 0.2 + 0.75 * choice["background_value_2"])
    cloth = _hsv(choice["cloth_hue"], 0.75 * choice["cloth_saturation"], 0.15 + 0.75 * choice["cloth_value"])
    lips = torch.lerp(_mix(LIPS, choice["lip_tone"]), skin * torch.tensor([0.85, 0.6, 0.6]), 0.45)
    warmth = p["warmth"][:, 0] * torch.tensor([1.0, 0.0, -1.0])
    colours = {
        "skin": skin,
        "hair": hair,
        "brow": torch.lerp(hair * 0.6, skin * 0.4, 0.25),
        "iris": _mix(IRIS, choice["iris_tone"]),
        "lip_colour": lips,
        "frame": _mix(FRAMES, choice["frame_tone"]),
        "background": background,
        "background_2": background_2,
        "cloth": cloth,
        "light_colour": (1 + warmth) * p["exposure"][:, 0],
    }
    return {name: colour[:, :, None, None] for name, colour in colours.items()}


def _mix(palette: tuple[tuple[float, float, float], ...], position: Tensor) -> Tensor:
    """Interpolate a palette at position [N] in [0, 1) to colours [N, 3]."""
    colours = torch.tensor(palette)
    scaled = position * (len(palette) - 1)
    index = scaled.long().clamp_max(len(palette) - 2)
    return torch.lerp(colours[index], colours[index + 1], (scaled - index)[:, None])


def _hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Convert hue (in turns), saturation and value, each [N], to RGB [N, 3]."""
    angle = (hue[:, None] * 6 + torch.tensor([0.0, 4.0, 2.0])) % 6
    ramp = ((angle - 3).abs() - 1).clamp(0, 1)
    return value[:, None] * (1 - saturation[:, None] * (1 - ramp))
