import csv
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rtil.inverse.history import steps_per_round, write_history
from rtil.inverse.result import Inversion, best_of, join_batches, mean_of


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_line_for_each_image_and_step(tmp_path: Path) -> None:
    loss = torch.rand(2, 5, generator=torch.Generator().manual_seed(0))
    history = {
        "round": torch.tensor([0.0, 0, 0, 2, 2]).expand(2, -1),
        "step": torch.tensor([0.0, 1, 2, 0, 1]).expand(2, -1),
        "measurement": torch.tensor([[1.0] * 5, [torch.nan, torch.inf, 1e-30, 0, 1]]),
        "loss": loss,
        "range": torch.tensor([[7.0] * 5, [8.0] * 5]),
    }
    write_history(tmp_path / "h.csv", history, ["a, b.npy", "c.png"], first=3)
    lines = _lines(tmp_path / "h.csv")
    assert list(lines[0]) == ["input", "image", "round", "step", "measurement", "loss", "range"]
    places = [("0", "0"), ("0", "1"), ("0", "2"), ("2", "0"), ("2", "1"), *(("range", str(n)) for n in range(5))]
    assert [(line["round"], line["step"]) for line in lines] == places * 2
    assert [(line["input"], line["image"]) for line in lines] == [("a, b.npy", "3")] * 10 + [("c.png", "4")] * 10
    rounds, projection = lines[10:15], lines[15:]
    assert torch.equal(torch.tensor([float(line["loss"]) for line in rounds]), loss[1]), "every digit is kept"
    assert [line["measurement"] for line in rounds] == ["nan", "inf", "1e-30", "0", "1"]
    assert {line["range"] for line in rounds} == {line["loss"] for line in projection} == {""}
    assert {line["range"] for line in projection} == {"8"}
    assert not list(tmp_path.glob(".*"))


def test_without_steps_there_is_the_header_alone(tmp_path: Path) -> None:
    write_history(tmp_path / "h.csv", {}, ["a.png"])
    assert (tmp_path / "h.csv").read_text() == "input,image,round,step\n"


def _inversion(moving: Tensor | None, images: int = 2) -> Inversion:
    columns = {"round": torch.tensor([0.0, 0, 0, 2, 2, 2]), "step": torch.tensor([0.0, 1, 2, 0, 1, 2])}
    history = {name: t.expand(images, -1) for name, t in columns.items()}
    rounds = torch.zeros(3, images, 3, 4, 4)
    latents = {"ws": torch.zeros(1, images, 2, 5)}
    history |= {} if moving is None else {"moving": moving}
    return Inversion(rounds[-1], rounds, torch.rand(images), latents, history, ["ok"] * images, 1.0)


MOVING = torch.tensor([[1.0, 1, 0, 1, 0, 0], [1, 1, 1, 0, 0, 0]])


def test_steps_are_told_for_each_image_and_round() -> None:
    assert steps_per_round(_inversion(MOVING)) == [[2, 0, 1], [3, 0, 0]]
    assert steps_per_round(_inversion(None)) is None


def test_steps_of_batches_and_restarts() -> None:
    parts = [_inversion(MOVING), _inversion(MOVING.flip(0))]
    assert steps_per_round(join_batches(parts, 2.0)) == [[2, 0, 1], [3, 0, 0], [3, 0, 0], [2, 0, 1]]
    assert steps_per_round(mean_of(parts)) == [[2.5, 0, 0.5]] * 2
    thirds = mean_of([_inversion(torch.ones(2, 6)), _inversion(MOVING), _inversion(MOVING)])
    assert steps_per_round(thirds) == [[2.3, 0, 1.7], [3, 0, 1]]
    first = _inversion(MOVING)
    worse = _inversion(MOVING.flip(0))
    worse.score.add_(2)
    assert steps_per_round(best_of([worse, first])) == [[2, 0, 1], [3, 0, 0]]


@pytest.mark.parametrize("count", [1, 7])
def test_places_survive_the_mean_of_restarts(count: int, tmp_path: Path) -> None:
    mean = mean_of([_inversion(MOVING) for _ in range(count)])
    write_history(tmp_path / "h.csv", mean.history, ["a", "b"])
    places = [line["round"] + line["step"] for line in _lines(tmp_path / "h.csv")]
    assert places == ["00", "01", "02", "20", "21", "22"] * 2
