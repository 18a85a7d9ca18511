import torch

from rtil import seeds
from rtil.generators.constant import of_weights
from rtil.inverse.loop import Evaluation, Term, Watch, optimise
from rtil.inverse.plateau import Plateau
from rtil.inverse.schedules import Ramp

TARGET = torch.tensor([[1.0, -2.0], [0.5, 3.0], [4.0, 0.0]])


def quadratic(variables):
    error = (variables["v"] - TARGET).square().sum(1)
    return Evaluation(variables["v"][:, :, None, None], {"measurement": Term(1.0, error)}, error)


def run(evaluate=quadratic, **options):
    settings = {"steps": 50, "lr": 0.2, "schedule": Ramp(), "alive": torch.ones(3, dtype=torch.bool), **options}
    return optimise({"v": torch.zeros(3, 2)}, evaluate, **settings)


def test_matches_an_ordinary_adam_loop():
    v = torch.zeros(3, 2, requires_grad=True)
    adam = torch.optim.Adam([v], lr=1.0, eps=1e-12)
    for i in range(50):
        adam.param_groups[0]["lr"] = 0.2 * Ramp().factor((i + 0.5) / 50)
        adam.zero_grad()
        (v - TARGET).square().sum().backward()
        adam.step()
    assert torch.allclose(run(keep_last=True).variables["v"], v.detach(), atol=1e-6)


def test_best_iterate_may_be_the_start_or_the_last():
    at_target = optimise(
        {"v": TARGET}, quadratic, steps=5, lr=0.5, schedule=Ramp(), alive=torch.ones(3, dtype=torch.bool)
    )
    assert torch.equal(at_target.variables["v"], TARGET)
    outcome = run()
    final = quadratic(outcome.variables).score
    assert torch.equal(outcome.score, final)
    assert (final <= outcome.history["measurement"].min(1).values).all()
    assert outcome.history["loss"].shape == (3, 50)


def test_each_image_keeps_its_own_best():
    trace = torch.rand(3, 6, generator=seeds.generator(0, "test/scores"))
    step = iter(range(6))

    def scripted(variables):
        now = quadratic(variables)
        return now._replace(score=trace[:, next(step)])

    seen = []
    outcome = run(scripted, steps=5, on_iterate=lambda i, x: seen.append(x[:, :, 0, 0].clone()))
    assert torch.equal(outcome.score, trace.min(1).values)
    for image, best in enumerate(trace.argmin(1).tolist()):
        assert torch.equal(outcome.variables["v"][image], seen[best][image])


def test_infinite_gradients_stop_an_image():
    def sharp(variables):
        v = variables["v"]
        root = torch.where(torch.tensor([False, True, False])[:, None], v, 1.0).sqrt().sum(1)
        now = quadratic(variables)
        return now._replace(terms={**now.terms, "root": Term(1.0, root)})

    outcome, clean = run(sharp), run()
    assert outcome.alive.tolist() == [True, False, True]
    assert (outcome.variables["v"][1] == 0).all()
    assert torch.equal(outcome.variables["v"][[0, 2]], clean.variables["v"][[0, 2]])


def test_images_that_were_given_up_do_not_move():
    outcome = run(alive=torch.tensor([True, False, True]))
    assert (outcome.variables["v"][1] == 0).all()
    assert outcome.alive.tolist() == [True, False, True]


def test_weight_zero_is_logged_but_does_not_act():
    def logged(variables):
        now = quadratic(variables)
        return now._replace(terms={**now.terms, "watched": Term(0.0, variables["v"].sum(1) * torch.nan)})

    outcome = run(logged)
    assert outcome.history["watched"].isnan().all()
    assert torch.equal(outcome.variables["v"], run().variables["v"])


def test_what_is_made_of_weights_is_made_once_for_all_steps():
    weights, made = torch.nn.Parameter(torch.ones(2), requires_grad=False), []

    def evaluate(variables):
        factor = of_weights(weights, "doubled", lambda: made.append(len(made)) or weights * 2)
        return quadratic({"v": variables["v"] * factor / 2})

    run(evaluate)
    assert made == [0]


def test_columns_of_the_history_are_numbered():
    outcome = run(steps=4, on_iterate=Watch(3, lambda step, picture: None))
    assert torch.equal(outcome.history["step"], torch.arange(4.0).expand(3, -1))
    assert (outcome.history["round"] == 3).all()
    assert (run(steps=4, on_iterate=lambda step, picture: None).history["round"] == 0).all()


def test_a_round_that_ended_early_has_all_its_numbers():
    outcome = run(steps=30, alive=torch.zeros(3, dtype=torch.bool), plateau=Plateau(5, 0.1))
    assert (outcome.history["moving"] == 0).all()
    assert torch.equal(outcome.history["step"], torch.arange(30.0).expand(3, -1))
