import pytest
import torch

from ilo import CSGM, ILO
from ilo.pulse import PULSE
from ilo.sparse import SparseDeviation, minimise_in_ball
from mganprior import MGANPrior
from rtil import seeds
from rtil.errors import UserError
from rtil.inverse.history import steps_per_round
from rtil.inverse.l1_ball import project_l1
from rtil.inverse.losses import measurement_error
from rtil.inverse.operators import make_operator
from rtil.ranges import to_signed, to_unit


@pytest.fixture
def deviating(small_generator):
    """Pictures G(z) without noise maps, 15 of their 768 entries moved by 1 in generator units, and these moves."""
    G, rng = small_generator, seeds.generator(0, "test/sparse")
    with torch.no_grad():
        clean = to_unit(G(G.mapping(G.draw_z(4, rng)), [torch.zeros(4, *shape) for shape in G.noise_shapes()]))
    nu = torch.zeros(4, 3, 16, 16)
    for of_image in nu.flatten(1):
        of_image[torch.randperm(768, generator=rng)[:15]] = torch.randn(15, generator=rng).sign()
    return G, clean + nu / 2, nu


@pytest.mark.parametrize("task", ["inversion", "cs"])
def test_planted_picture_and_sparse_deviation_are_recovered(deviating, task):
    G, x, nu = deviating
    operator = make_operator(task, (3, 16, 16), rate=0.6 if task == "cs" else None)
    y = operator(x)
    inner = PULSE(G, steps=60, seed=1, geodesic_weight=0, noise="zero")
    plain = inner.invert(y, operator)
    found = SparseDeviation(inner, 15.0, steps=30, sparse_steps=40, sphere=False, noise="none").invert(y, operator)
    estimate = found.latents["nu"][0]
    largest = estimate.flatten(1).abs().topk(15, dim=1).indices
    assert (nu.flatten(1).gather(1, largest).abs().sum(1) >= 14).all(), "the support is found"
    assert (estimate.abs().flatten(1).sum(1) <= 15 * 1.0001).all()

    def error(a, b):
        return (a - b).square().flatten(1).mean(1)

    assert (error(estimate, nu) < 0.25 * error(nu, 0 * nu)).all()
    assert (error(found.x, x.clamp(0, 1)) < 0.4 * error(plain.x, x.clamp(0, 1))).all()


def test_deviations_alone_are_the_nearest_in_the_ball(deviating):
    """Where A is the identity and the latents stay, nu is the projection of what is left over."""
    G, x, _ = deviating
    operator = make_operator("inversion", (3, 16, 16))
    inner = CSGM(G, steps=5, seed=1)
    plain = inner.invert(x, operator)
    found = SparseDeviation(inner, radius=3.0, alternations=0).invert(x, operator)
    with torch.no_grad():
        noise = [plain.latents[f"noise_{i}"][0] for i in range(5)]
        left_over = to_signed(x) - G(plain.latents["ws"][0], noise)
    assert torch.allclose(found.latents["nu"][0], project_l1(left_over, 3.0), atol=1e-4)
    assert found.rounds.shape[0] == 2
    assert torch.equal(found.rounds[0], plain.x)


def test_minimum_in_the_ball_meets_the_optimality_conditions():
    """-gradient is lambda sign(nu) on the support and at most lambda elsewhere."""
    operator = make_operator("cs", (3, 16, 16), rate=0.33)
    rng = seeds.generator(1, "test/kkt")
    y = operator.A(torch.randn(4, 3, 16, 16, generator=rng))

    def error(nu):
        return measurement_error(operator, nu, y)

    nu = minimise_in_ball(error, torch.zeros(4, 3, 16, 16), 40.0, 300, torch.ones(4, dtype=torch.bool)).requires_grad_()
    (gradient,) = torch.autograd.grad(error(nu).sum(), nu)
    for slope, entries in zip(-gradient.flatten(1), nu.detach().flatten(1), strict=True):
        on = entries.abs() > 1e-4
        multiplier = (slope * entries.sign())[on].mean()
        assert entries.abs().sum().item() == pytest.approx(40, rel=1e-4)
        assert multiplier > 0
        assert torch.allclose((slope * entries.sign())[on], multiplier, rtol=2e-2)
        assert (slope[~on].abs() < 1.02 * multiplier).all()
        assert 5 < on.sum() < 700


def test_error_never_rises_and_the_dead_do_not_move():
    def error(nu):
        return (nu - 1).square().flatten(1).sum(1) * torch.tensor([1.0, 1e4, 1e-4, 1.0])

    alive = torch.tensor([True, True, True, False])
    start = project_l1(torch.randn(4, 10, generator=seeds.generator(2, "test")), 2.0)
    found = minimise_in_ball(error, start, 2.0, 60, alive)
    assert (error(found) <= error(start)).all()
    assert torch.allclose(found[:2], torch.full((2, 10), 0.2), atol=1e-3)
    assert torch.equal(found[3], start[3])


def test_rounds_descend_and_latents_make_the_picture(deviating):
    G, x, _ = deviating
    operator = make_operator("inversion", (3, 16, 16))
    seen = []
    solver = SparseDeviation(ILO(G, steps=(6, 4), seed=3), 10.0, alternations=2, steps=5)
    found = solver.invert(x, operator, callback=lambda k, step, picture: seen.append((k, step)))
    errors = [measurement_error(operator, picture, x) for picture in found.rounds]
    assert (errors[2] < 0.9 * errors[1]).all()
    assert found.rounds.shape[0] == 2 + 3
    assert torch.equal(found.rounds[-1], found.x)
    assert [k for k, step in seen if step == 0] == [0, 1, 3, 4, 5]  # 2 is nu alone, 5 the end
    assert found.history["measurement"].shape == (4, 6 + 4 + 2 * 5)
    latents = {name: t[0] for name, t in found.latents.items()}
    with torch.no_grad():
        raw = G(latents["ws"], [latents[f"noise_{i}"] for i in range(5)], {1: latents["z1_1"]}) + latents["nu"]
    assert torch.allclose(to_unit(raw).clamp(0, 1), found.x, atol=1e-5)
    assert torch.allclose(found.score, measurement_error(operator, to_unit(raw), x), rtol=1e-3)


def test_the_course_has_the_terms_of_what_ran_first(deviating):
    G, x, _ = deviating
    inner = ILO(G, steps=(6, 4), switch="plateau", geodesic_weight=0.1, range_projection=1, range_steps=3)
    found = SparseDeviation(inner, 10.0, alternations=1, steps=5).invert(x, make_operator("inversion", (3, 16, 16)))
    steps = found.history["measurement"].shape[1]
    assert found.history["range"].shape[1] == 3
    assert found.history["geodesic"][:, -5:].isnan().all()
    assert found.history["geodesic"][:, :-5].isfinite().all()
    assert found.history["moving"][:, -5:].eq(1).all()
    assert all(counts[-2:] == [0, 5] for counts in steps_per_round(found))  # nu alone, then the alternation
    assert all(term.shape[1] == steps for name, term in found.history.items() if name != "range")


@pytest.mark.parametrize("selection", ["measurement", "heldout", "last"])
def test_images_do_not_see_their_mates(deviating, selection):
    G, x, _ = deviating
    operator = make_operator("cs", (3, 16, 16), rate=0.5)
    y = operator(x)
    solver = SparseDeviation(
        PULSE(G, steps=4, seed=3, selection=selection), 5.0, alternations=1, steps=3, sparse_steps=5
    )
    ids = ["a", "b", "c", "d"]
    alone = solver.invert(y, operator, ids)
    mates = y.clone()
    mates[[0, 2, 3]] = y[[3, 0, 2]] * 0.5
    other = solver.invert(mates, operator, ["p", "b", "q", "r"])
    assert torch.equal(other.x[1], alone.x[1])
    assert not torch.equal(other.x[0], alone.x[0])
    broken = y.clone()
    broken[0] = 1e30
    rest = solver.invert(broken, operator, ids)
    assert rest.status == ["diverged", "ok", "ok", "ok"]
    assert torch.equal(rest.x[1:], alone.x[1:])
    assert rest.x.isfinite().all()


def test_settings_are_those_of_the_inner_solver(small_generator):
    inner = CSGM(small_generator, steps=3, seed=9, selection="last", restarts=2, batch_size=5, precision="bfloat16")
    solver = SparseDeviation(inner, 1.0)
    for name in ("generator", "seed", "selection", "restarts", "combination", "batch_size", "compute_dtype"):
        assert getattr(solver, name) == getattr(inner, name)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"radius": 0.0}, "radius"),
        ({"radius": 1.0, "lr": 0.0}, "lr"),
        ({"radius": 1.0, "alternations": -1}, "alternations"),
        ({"radius": 1.0, "steps": 0}, "steps"),
        ({"radius": 1.0, "noise": "next6"}, "next5"),
    ],
)
def test_wrong_options(small_generator, options, word):
    with pytest.raises(UserError, match=word) as error:
        SparseDeviation(CSGM(small_generator, steps=1), **options)
    assert "\n" not in str(error.value)


def test_codes_that_are_mixed_have_no_last_cut(small_generator):
    with pytest.raises(UserError, match="MGANPrior"):
        SparseDeviation(MGANPrior(small_generator, steps=1, codes=2), 1.0)
