"""Renders procedural faces: layers of soft-edged shapes on a lit, rotated ellipsoid head.

Every pixel inside the head's outline is taken as a point of a sphere, which is turned back by yaw and pitch into face
coordinates (u right, v down, w towards the viewer of a frontal face). Eyes, brows, nose, mouth, beard, hairline and
glasses are implicit shapes in (u, v), so they slide, foreshorten and disappear behind the outline as the head turns.
Edges are one pixel wide at any resolution. All operations are elementwise: a picture does not depend on its batch.

Pictures are x right, y down, in [-1, 1]; maps are [N, R, R], parameters [N, 1, 1], colours [N, 3, 1, 1].
"""

import torch
from torch import Tensor

from rtil.data.face_geometry import Parameters, Sphere, bump, cast, front, inside, lambert, over

NECK_SHADOW = 0.62
LENS_GLARE = 0.25


def render_faces(p: Parameters, resolution: int) -> Tensor:
    """Render faces.

    Args:
        p: Parameters, each [N, 1, 1] or, for colours, [N, 3, 1, 1]; see ``face_parameters``.
        resolution: Side R in pixels.

    Returns:
        [N, 3, R, R] in [0, 1].
    """
    axis = (torch.arange(resolution) * 2 + 1) / resolution - 1
    x, y = axis[None, None, :], axis[None, :, None]
    pixel = 2 / resolution
    turned_x = (x - p["x"]) * p["roll"].cos() + (y - p["y"]) * p["roll"].sin()
    turned_y = (y - p["y"]) * p["roll"].cos() - (x - p["x"]) * p["roll"].sin()
    head = cast(p, turned_x, turned_y, 1.0, pixel)
    shell = cast(p, turned_x, turned_y + 0.04, p["hair_volume"], pixel)
    strands = _strands(p, turned_x, turned_y, pixel)

    canvas = _background(p, x, y)
    canvas = _back_hair(canvas, p, turned_x, turned_y, strands, pixel)
    canvas = _body(canvas, p, x, y, pixel)
    canvas = _ears(canvas, p, turned_x, turned_y, pixel)
    canvas = _skin(canvas, p, head)
    canvas = _beard(canvas, p, head)
    canvas = _mouth(canvas, p, head)
    canvas = _eyes(canvas, p, head)
    canvas = _brows(canvas, p, head)
    canvas = _front_hair(canvas, p, shell, strands)
    canvas = _glasses(canvas, p, head)
    return (canvas * p["light_colour"]).clamp(0, 1)


def _background(p: Parameters, x: Tensor, y: Tensor) -> Tensor:
    s = x * p["pattern_angle"].cos() + y * p["pattern_angle"].sin()
    t = y * p["pattern_angle"].cos() - x * p["pattern_angle"].sin()
    stripes = (p["pattern_frequency"] * s + p["pattern_phase"]).sin()
    across = (p["pattern_frequency"] * 0.8 * t + p["pattern_phase_2"]).sin()
    blobs = (p["pattern_frequency"] * 0.6 * s + 2.5 * across + p["pattern_phase"]).sin()
    pattern = p["is_stripes"] * stripes + p["is_checks"] * stripes * across + p["is_blobs"] * blobs
    pattern = (pattern * p["pattern_sharpness"]).tanh() * p["pattern_strength"] + s * p["gradient"]
    colour = torch.lerp(p["background"], p["background_2"], (0.5 + 0.5 * pattern[:, None]).clamp(0, 1))
    lit = 0.85 + 0.2 * (x * p["light_x"] + y * p["light_y"])
    return colour * lit[:, None]


def _strands(p: Parameters, x: Tensor, y: Tensor, pixel: float) -> Tensor:
    """Return the brightness of hair strands, about 1; strands too thin for the resolution fade out."""
    along = x + p["hair_wave"] * (y * 7 + p["hair_phase"]).sin() + (x - p["part"] * 0.5) * y * 0.6
    strands = torch.ones_like(along)
    for frequency, strength in ((1.0, 0.16), (2.3, 0.12)):
        f = p["strand_frequency"] * frequency
        strands = strands + strength * (-(f * pixel * 0.5).square()).exp() * (f * along + p["hair_phase"] * 3).sin()
    return strands


def _back_hair(canvas: Tensor, p: Parameters, x: Tensor, y: Tensor, strands: Tensor, pixel: float) -> Tensor:
    half_width = p["size"] * p["aspect"] * (p["hair_volume"] + 0.04) * (1 + 0.12 * y.clamp(0, 1))
    down = torch.where(y > 0, y / p["hair_length"], y / (p["size"] * p["hair_volume"]))
    radius = ((x / half_width).abs().pow(2.5) + down.abs().pow(2.5)).pow(0.4)
    coverage = inside((radius - 1) * half_width, pixel) * p["has_hair"]
    side = (x / half_width).clamp(-1, 1)
    light = lambert(p, side, torch.zeros_like(side), (1 - side.square()).sqrt())
    return over(canvas, p["hair"] * (0.7 * light * strands)[:, None], coverage)


def _body(canvas: Tensor, p: Parameters, x: Tensor, y: Tensor, pixel: float) -> Tensor:
    middle = p["x"] - p["roll"].sin() * p["size"] * 0.7
    shoulder = p["y"] + p["size"] * p["neck_length"]
    side = (x - middle) / p["neck_width"]
    neck = inside((side.abs() - 1 - (y - shoulder).clamp_min(0)) * p["neck_width"], pixel) * inside(
        -(y - p["y"]), pixel
    )
    shadow = NECK_SHADOW + 0.3 * ((y - p["y"]) / p["size"] - 0.85).clamp(0, 1)
    side = side.clamp(-1, 1)
    light = lambert(p, side, torch.zeros_like(side), (1.1 - side.square()).sqrt())
    canvas = over(canvas, p["skin"] * (light * shadow)[:, None], neck)

    across = (x - middle) / p["shoulder_width"]
    down = (shoulder + 0.75 - y).clamp_min(0) / 0.75
    radius = (across.abs().pow(2.6) + down.pow(2.6)).pow(1 / 2.6)
    cloth = inside((radius - 1) * 0.75, pixel)
    opening = (y - shoulder - p["collar_depth"]) + (x - middle).abs() * p["collar_slope"]
    cloth = cloth * (1 - inside(opening, pixel * (1 + p["collar_slope"])))
    weave = (y * p["cloth_frequency"] + p["pattern_phase_2"]).sin() * p["cloth_stripes"]
    rounded = across.clamp(-1, 1)
    light = lambert(p, rounded, -down * 0.6, (1.2 - rounded.square()).sqrt())
    return over(canvas, p["cloth"] * (light * (1 + 0.35 * (weave * 3).tanh()))[:, None], cloth)


def _ears(canvas: Tensor, p: Parameters, x: Tensor, y: Tensor, pixel: float) -> Tensor:
    """Paint each ear where the side of the turned head comes out of its outline."""
    a = p["size"] * p["aspect"]
    for side in (-1, 1):
        centre_x = a * (side * 0.98 * p["yaw"].cos())
        visible = (1 + side * p["yaw"].sin() * -1.6).clamp(0, 1)
        centre_y = p["size"] * (0.05 + 0.1 * p["pitch"].sin())
        dx, dy = (x - centre_x) / (a * p["ear"]), (y - centre_y) / (p["size"] * 0.2)
        radius = (dx.square() + dy.square()).sqrt()
        coverage = inside((radius - 1) * a * p["ear"], pixel) * visible
        light = lambert(p, dx * 0.5 + side * 0.4, dy * 0.3, torch.ones_like(dx)) * (0.78 + 0.2 * radius.clamp(0, 1))
        canvas = over(canvas, p["skin"] * light[:, None], coverage)
    return canvas


def _skin(canvas: Tensor, p: Parameters, head: Sphere) -> Tensor:
    """Paint the head: light on a sphere whose normals the nose, sockets, cheeks and lips bend."""
    u, v = head.u, head.v
    nx, ny, nz = head.normal
    ridge_v = ((v - 0.02) / 0.30).clamp(-1, 1)
    ridge = p["nose_height"] * bump(u / p["nose_width"]) * (0.55 + 0.45 * ridge_v) * (1 - ((v - 0.34) / 0.08).sigmoid())
    ridge = ridge * ((v + 0.28) / 0.06).sigmoid()
    tip = bump((u / (p["nose_width"] * 1.3)).square() + ((v - 0.28) / 0.09).square()) * p["nose_height"]
    sockets = bump((u.abs() - p["eye_distance"]) / 0.2) * bump((v - p["eye_height"] + 0.02) / 0.14)
    cheeks = bump((u.abs() - 0.48) / 0.22) * bump((v - 0.25) / 0.2)
    bend_x = 4.5 * u / p["nose_width"] * (ridge + 0.6 * tip) - 0.35 * cheeks * u.sign() * ((u.abs() - 0.48) / 0.22)
    bend_y = 0.9 * tip * (v - 0.28) / 0.09 + 0.5 * sockets * ((p["eye_height"] - v) / 0.14) + 0.3 * cheeks
    light = lambert(p, nx + bend_x, ny * 0.85 + bend_y, nz + 0.25)
    occluded = 0.16 * sockets + 0.3 * bump((v - 0.38) / 0.045) * bump(u / (p["nose_width"] * 1.5))
    shine = 0.12 * p["gloss"] * (bump((u - 0.25 * p["light_x"]) / 0.3) * bump((v + 0.55) / 0.2) + tip)
    colour = p["skin"] * (light * (1 - occluded))[:, None] + shine[:, None]
    blush = (cheeks * p["blush"])[:, None]
    colour = colour * (1 - blush * torch.tensor([0.0, 0.35, 0.3])[:, None, None])
    nostrils = bump((u.abs() - p["nose_width"] * 0.75) / 0.055) * bump((v - 0.335) / 0.03) * front(head)
    colour = colour * (1 - 0.6 * nostrils[:, None])
    return over(canvas, colour, head.coverage)


def _beard(canvas: Tensor, p: Parameters, head: Sphere) -> Tensor:
    jaw_line = head.v - 0.42 + 0.75 * (head.u.abs() - p["mouth_width"] * 1.2).clamp_min(0) * p["beard_chin"]
    chin = ((jaw_line - 0.18 * bump(head.u / 0.25)) * 10).sigmoid()
    moustache = bump((head.v - p["mouth_height"] + 0.09) / 0.06) * bump((head.u / (p["mouth_width"] * 1.1)).square())
    coverage = torch.maximum(chin, moustache) * front(head) * p["beard"]
    light = lambert(p, *head.normal)
    return over(canvas, p["hair"] * (0.75 * light)[:, None], coverage)


def _mouth(canvas: Tensor, p: Parameters, head: Sphere) -> Tensor:
    s = head.u / p["mouth_width"]
    arch = (1 - s.square()).clamp_min(0)
    corner = (1 - s.abs()).clamp(-1, 1)
    line = head.v - p["mouth_height"] + p["smile"] * (s.square() - 0.4)
    upper = p["mouth_open"] * arch * 0.35 + p["lips"] * arch * (0.8 + 0.5 * bump((s.abs() - 0.3) / 0.3))
    lower = p["mouth_open"] * arch + p["lips"] * 1.5 * arch.sqrt() * corner.clamp_min(0).sqrt()
    visible = front(head) * (corner > 0)
    lips = inside(-line - upper, head.pixel) * inside(line - lower, head.pixel) * visible
    light = lambert(p, head.normal[0], head.normal[1] + 0.35 * line.sign(), head.normal[2])
    canvas = over(canvas, p["lip_colour"] * light[:, None], lips * 0.9)
    open_up, open_down = p["mouth_open"] * arch * 0.35, p["mouth_open"] * arch
    hole = inside(-line - open_up, head.pixel) * inside(line - open_down, head.pixel) * visible
    seam = bump(line / (0.018 + 0.3 * head.pixel)) * visible * 0.6
    canvas = over(canvas, p["lip_colour"] * 0.35, torch.maximum(hole, seam))
    teeth = hole * inside(line - p["teeth"] * open_down, head.pixel)
    return over(canvas, torch.tensor([0.95, 0.93, 0.88])[:, None, None] * light[:, None] * 0.9, teeth)


def _eyes(canvas: Tensor, p: Parameters, head: Sphere) -> Tensor:
    face = front(head)
    light = lambert(p, *head.normal)[:, None]
    dark = p["hair"] * 0.35
    for side in (-1, 1):
        du = head.u - side * p["eye_distance"]
        dv = head.v - p["eye_height"] - side * du * p["eye_tilt"]
        s = du / p["eye_width"]
        arch = (1 - s.square()).clamp_min(0)
        top, bottom = p["eye_open"] * arch, p["eye_open"] * 0.65 * arch
        within = inside((s.abs() - 1) * p["eye_width"], head.pixel) * face
        white = inside(-dv - top, head.pixel) * inside(dv - bottom, head.pixel) * within
        canvas = over(canvas, torch.tensor([0.96, 0.95, 0.93])[:, None, None] * (0.25 + 0.7 * light), white)
        radius = ((du - p["gaze_x"]).square() + (dv - p["gaze_y"]).square()).sqrt()
        canvas = over(canvas, p["iris"] * (0.55 + 0.4 * light), inside(radius - p["iris_size"], head.pixel) * white)
        pupil = inside(radius - p["iris_size"] * 0.48, head.pixel) * white
        canvas = over(canvas, torch.full((3, 1, 1), 0.03), pupil)
        glint_x, glint_y = du - p["gaze_x"] - 0.03 * p["light_x"], dv - p["gaze_y"] - 0.03 * p["light_y"]
        glint = bump((glint_x.square() + glint_y.square()).sqrt() / 0.022) * white
        canvas = over(canvas, torch.ones(3, 1, 1), glint * 0.9)
        lid = bump((dv + top) / (0.022 + 0.25 * head.pixel)) * within
        canvas = over(canvas, dark, lid * p["lashes"])
        crease = bump((dv + top + 0.075) / 0.03) * bump(s / 1.1) * face
        canvas = over(canvas, p["skin"] * 0.55, crease * 0.35)
    return canvas


def _brows(canvas: Tensor, p: Parameters, head: Sphere) -> Tensor:
    face = front(head)
    for side in (-1, 1):
        s = (head.u * side - p["eye_distance"]) / (p["eye_width"] * 1.35)
        line = head.v - p["eye_height"] + p["brow_height"] + p["brow_tilt"] * s + p["brow_arch"] * (0.4 - s.square())
        thickness = p["brow_width"] * (1 - 0.45 * s.clamp(-1, 1))
        ends = inside((s.abs() - 1) * p["eye_width"], head.pixel)
        coverage = inside(line.abs() - thickness, head.pixel) * ends * face
        canvas = over(canvas, p["brow"], coverage * 0.85)
    return canvas


def _front_hair(canvas: Tensor, p: Parameters, shell: Sphere, strands: Tensor) -> Tensor:
    """Paint the hair above a hairline that sinks towards the sides of the head."""
    u, v, w = shell.u, shell.v, shell.w
    jag = (u * p["jag_frequency"] + p["hair_phase"]).sin()
    side = (1 - w).clamp_min(0)
    hairline = p["hairline"] + p["temple"] * side.square() + p["sweep"] * (u - p["part"]) + p["jag"] * jag
    hairline = hairline - 0.16 * p["parted"] * bump((u - p["part"]) / 0.12)
    coverage = inside(v - hairline, shell.pixel * 1.3) * shell.coverage * p["has_hair"]
    coverage = coverage * ((0.72 - shell.normal[1]) * 6).clamp(0, 1)  # no rim of hair under the chin
    light = lambert(p, *shell.normal)
    streak = bump((v + 0.62 - 0.15 * p["light_y"] + 0.05 * jag) / 0.13) * p["gloss"] * light
    root = 1 - 0.35 * bump((v - hairline) / 0.09)
    colour = p["hair"] * (light * strands * root)[:, None] + 0.16 * (streak * strands)[:, None]
    return over(canvas, colour, coverage)


def _glasses(canvas: Tensor, p: Parameters, head: Sphere) -> Tensor:
    """Paint glasses; they stand off the face, so they move further than the eyes when the head turns."""
    face = front(head) * p["has_glasses"]
    u = head.u - 0.06 * p["yaw"].sin()
    v = head.v - p["eye_height"] - 0.02
    frame = torch.zeros_like(u)
    lens = torch.zeros_like(u)
    half = p["glasses_thickness"] + 0.25 * head.pixel
    for side in (-1, 1):
        s, t = (u - side * p["eye_distance"]) / p["lens_width"], v / p["lens_height"]
        power = p["lens_power"]
        radius = (s.abs().pow(power) + t.abs().pow(power) + 1e-6).pow(1 / power)
        distance = (radius - 1) * p["lens_height"]
        frame = torch.maximum(frame, inside(distance.abs() - half, head.pixel))
        lens = torch.maximum(lens, inside(distance, head.pixel))
    gap = u.abs() - (p["eye_distance"] - p["lens_width"])
    bridge = inside(gap, head.pixel) * inside((v + 0.03).abs() - half, head.pixel)
    outer = u.abs() - (p["eye_distance"] + p["lens_width"])
    arms = inside(-outer, head.pixel) * inside((v + 0.03).abs() - half, head.pixel)
    frame = torch.maximum(frame, torch.maximum(bridge, arms))
    canvas = over(canvas, p["frame"] * 0.3, lens * face * p["lens_tint"])
    glare = bump((u + v * 0.7 - 0.25 * p["light_x"]) / 0.09) * lens * face
    canvas = over(canvas, torch.ones(3, 1, 1), glare * LENS_GLARE)
    return over(canvas, p["frame"], frame * face)
