import pytest
import torch

from ilo import CSGM, ILO
from ilo.settings import CSGMSettings, ILOSettings, PULSESettings, SparseSettings
from ilo.sparse import SparseDeviation, minimise_in_ball
from mganprior.settings import MGANPriorSettings
from rtil import seeds
from rtil.errors import UserError
from rtil.inverse.history import steps_per_round
from rtil.inverse.l1_ball import project_l1
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
    before = CSGMSettings(steps=60, geodesic_weight=0, noise="none", sphere=False)
    still = {f"noise_{i}": torch.zeros(1, 4, *shape) for i, shape in enumerate(G.noise_shapes())}
    plain = CSGM(G, before, seed=1).invert(y, operator, start_from=still)
    solver = SparseDeviation(G, inner="csgm", before=before, radius=15.0, steps=30, sparse_steps=40, seed=1)
    found = solver.invert(y, operator, start_from=still)
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
    plain = CSGM(G, steps=5, seed=1).invert(x, operator)
    solver = SparseDeviation(G, inner="csgm", before=CSGMSettings(steps=5), radius=3.0, alternations=0, seed=1)
    found = solver.invert(x, operator)
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
        return operator.error(nu, y)

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
    solver = SparseDeviation(G, before=ILOSettings(steps=(6, 4)), radius=10.0, alternations=2, steps=5, seed=3)
    found = solver.invert(x, operator, callback=lambda k, step, picture: seen.append((k, step)))
    errors = [operator.error(picture, x) for picture in found.rounds]
    assert (errors[2] < 0.9 * errors[1]).all()
    assert found.rounds.shape[0] == 2 + 3
    assert torch.equal(found.rounds[-1], found.x)
    assert [k for k, step in seen if step == 0] == [0, 1, 3, 4, 5]  # 2 is nu alone, 5 the end
    assert found.history["measurement"].shape == (4, 6 + 4 + 2 * 5)
    latents = {name: t[0] for name, t in found.latents.items()}
    with torch.no_grad():
        raw = G(latents["ws"], [latents[f"noise_{i}"] for i in range(5)], {1: latents["z1_1"]}) + latents["nu"]
    assert torch.allclose(to_unit(raw).clamp(0, 1), found.x, atol=1e-5)
    assert torch.allclose(found.score, operator.error(to_unit(raw), x), rtol=1e-3)


def test_the_course_has_the_terms_of_what_ran_first(deviating):
    G, x, _ = deviating
    before = ILOSettings(steps=(6, 4), switch="plateau", geodesic_weight=0.1, range_projection=1, range_steps=3)
    solver = SparseDeviation(G, before=before, radius=10.0, alternations=1, steps=5)
    found = solver.invert(x, make_operator("inversion", (3, 16, 16)))
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
    own = {"radius": 5.0, "alternations": 1, "steps": 3, "sparse_steps": 5, "selection": selection, "seed": 3}
    solver = SparseDeviation(G, inner="pulse", before=PULSESettings(steps=4), **own)
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


def test_what_runs_before_has_the_settings_that_both_share(small_generator):
    shared = {"selection": "last", "restarts": 2, "combination": "mean", "precision": "bfloat16"}
    before = ILOSettings(steps=(3, 2), lr=(0.2, 0.3), sphere=False, noise="first5", rampup=0.2)
    solver = SparseDeviation(small_generator, before=before, seed=9, **shared)
    inner = solver.inner
    assert isinstance(inner, ILO)
    assert all(getattr(s, name) == value for name, value in shared.items() for s in (solver.settings, inner.settings))
    assert (inner.seed, inner.settings.steps, inner.settings.lr) == (9, (3, 2), (0.2, 0.3))
    like = solver.settings.following()
    assert (like.lrs()[-1], like.sphere, like.noise, like.rampup) == (0.3, False, "first5", 0.2)
    assert solver.settings.radius == pytest.approx(0.02 * 3 * 16 * 16)
    assert SparseDeviation(small_generator, solver.settings, seed=9).settings == solver.settings
    recorded = solver.settings.to_json()
    assert "restarts" in recorded
    assert "restarts" not in recorded["before"]


def test_the_settings_beside_it_run_before():
    others = {"ilo": ILOSettings(lr=0.7), "csgm": CSGMSettings(lr=0.6)}
    for inner in ("ilo", "csgm"):
        settings = SparseSettings(inner=inner, restarts=3).beside(others)
        assert (settings.before.lr, settings.before.restarts) == (others[inner].lr, 3)
    own = SparseSettings(before=ILOSettings(lr=0.5))
    assert own.beside(others) == own
    assert SparseSettings(inner="pulse").beside(others).before is None
    assert own.with_budget((3, 4)).before.steps == (3, 4)
    assert SparseSettings(inner="csgm").with_budget((3, 4)).before.steps == 7


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"radius": 0.0}, "radius"),
        ({"alternations": -1}, "alternations"),
        ({"steps": 0}, "steps"),
        ({"inner": "pulsar"}, "did you mean 'pulse'"),
        ({"inner": "csgm", "before": ILOSettings()}, "before is ILOSettings but inner is csgm"),
        ({"before": MGANPriorSettings()}, "MGANPriorSettings"),
    ],
)
def test_wrong_options(small_generator, options, word):
    with pytest.raises(UserError, match=word) as error:
        SparseDeviation(small_generator, **options)
    assert "\n" not in str(error.value)
