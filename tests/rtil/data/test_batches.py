import os
import pickle
import signal
from itertools import accumulate, islice
from multiprocessing import active_children
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from rtil.data.batches import FacesDataModule, TrainingBatches, TrainingOrder
from rtil.data.synthetic_faces import SyntheticFaces
from rtil.errors import UserError
from rtil.training.growing import growth_schedule


class FewFaces(SyntheticFaces):
    """A set that is soon exhausted."""

    def __len__(self) -> int:
        return 10


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path))


def take(batches, count: int) -> torch.Tensor:
    return torch.stack(list(islice(iter(batches), count)))


def numbered(n: int = 10) -> torch.Tensor:
    return torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, 2, 2)


def test_every_epoch_shows_every_image_once_in_another_order():
    batches = TrainingBatches(numbered(), batch=4, seed=3)
    shown = take(batches, 10)[:, :, 0, 0, 0].flatten().tolist()
    epochs = [shown[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_half_of_the_images_are_mirrored_independently_of_the_order():
    image = torch.tensor([[[0, 255]]], dtype=torch.uint8).expand(1, 3, 1, 2)
    left = take(TrainingBatches(image, batch=100, seed=0), 20)[..., 0, 0, 0].float() / 255
    assert 0.45 < left.mean() < 0.55  # 2000 coins: 0.5 +- 0.011
    assert not take(TrainingBatches(image, batch=100, mirror=False), 20)[..., 0, 0, 0].any()


def test_mirrored_is_the_other_way_round_and_leaves_the_source():
    images = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    kept = images.clone()
    order = TrainingOrder(2, seed=1)
    (served,) = take(TrainingBatches(images, batch=40, seed=1), 1)
    for position, image in enumerate(served):
        whole = kept[order.index(position)]
        assert torch.equal(image, whole.flip(2) if order.is_mirrored(position) else whole)
    assert torch.equal(images, kept)


def test_seed_matters():
    a, b = (take(TrainingBatches(numbered(), 5, seed), 2) for seed in (0, 1))
    assert not torch.equal(a, b)


def test_resuming_continues_exactly():
    whole = take(TrainingBatches(FewFaces(8, "train"), 4), 7)
    rest = take(TrainingBatches(FewFaces(8, "train"), 4, images_seen=12), 4)
    assert torch.equal(whole[3:], rest)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_and_memory_do_not_change_batches(workers):
    ds = FewFaces(8, "train")
    expected = take(TrainingBatches(ds.load(range(10)), 4, images_seen=8), 7)
    loader = DataLoader(TrainingBatches(ds, 4, images_seen=8), batch_size=None, num_workers=workers)
    assert torch.equal(take(loader, 7), expected)


def test_ranks_share_each_batch():
    whole = take(TrainingBatches(numbered(), 6), 5)
    shares = [take(TrainingBatches(numbered(), 6, rank=rank, world_size=3), 5) for rank in range(3)]
    assert torch.equal(torch.cat(shares, dim=1), whole)


@pytest.mark.parametrize(("batch", "world_size"), [(0, 1), (-4, 1), (5, 2)])
def test_batch_must_be_divisible(batch, world_size):
    with pytest.raises(UserError, match=f"batch {batch}"):
        TrainingBatches(numbered(), batch, world_size=world_size)


GROWING = growth_schedule(
    "rtil", 16, 0.03, batches={4: 6, 8: 4, 16: 2}
)  # sizes 6, 6, 4, 4, 4, 2, 2, and 2 from then on
SIZES = [6, 6, 4, 4, 4, 2, 2, 2, 2]


def take_list(batches, count: int) -> list[torch.Tensor]:
    return list(islice(iter(batches), count))


def test_varying_batches_split_the_same_order():
    parts = take_list(TrainingBatches(numbered(), GROWING.batch_at, seed=3), len(SIZES))
    assert [len(part) for part in parts] == SIZES
    assert torch.equal(torch.cat(parts), take(TrainingBatches(numbered(), sum(SIZES), seed=3), 1)[0])


@pytest.mark.parametrize("steps", range(len(SIZES)))
def test_resuming_continues_exactly_with_varying_batches(steps):
    whole = take_list(TrainingBatches(numbered(), GROWING.batch_at), len(SIZES))
    seen = [0, *accumulate(SIZES)][steps]
    rest = take_list(TrainingBatches(numbered(), GROWING.batch_at, images_seen=seen), len(SIZES) - steps)
    assert all(torch.equal(a, b) for a, b in zip(whole[steps:], rest, strict=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_varying_batches(workers):
    batches = TrainingBatches(numbered(), GROWING.batch_at, seed=2, images_seen=6)
    expected = take_list(batches, 12)
    got = take_list(DataLoader(batches, batch_size=None, num_workers=workers), 12)
    assert [len(batch) for batch in got] == [*SIZES[1:], 2, 2, 2, 2]
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


def test_ranks_share_each_of_the_varying_batches():
    ranks = [TrainingBatches(numbered(), GROWING.batch_at, rank=rank, world_size=2) for rank in range(2)]
    shares = zip(*(take_list(rank, len(SIZES)) for rank in ranks), strict=True)
    whole = take_list(TrainingBatches(numbered(), GROWING.batch_at), len(SIZES))
    assert all(torch.equal(torch.cat(parts), batch) for parts, batch in zip(shares, whole, strict=True))


def test_every_varying_batch_must_be_divisible():
    with pytest.raises(UserError, match="batch 4 is not valid: use a positive multiple of the 3 processes"):
        take_list(TrainingBatches(numbered(), GROWING.batch_at, world_size=3), 3)


def test_varying_batches_travel_to_spawned_workers():
    batches = TrainingBatches(numbered(), GROWING.batch_at)
    copied = pickle.loads(pickle.dumps(batches))  # noqa: S301 what a DataLoader does
    assert all(torch.equal(a, b) for a, b in zip(take_list(copied, 5), take_list(batches, 5), strict=True))


def test_order_can_be_asked_at_any_position():
    forwards, backwards = TrainingOrder(7, 0), TrainingOrder(7, 0)
    asked = [backwards.index(position) for position in reversed(range(30))]
    assert asked[::-1] == [forwards.index(position) for position in range(30)]


@pytest.fixture
def few(monkeypatch) -> None:
    monkeypatch.setattr("rtil.data.batches.open_dataset", lambda data, *arguments: FewFaces(*arguments))
    monkeypatch.setattr("rtil.data.batches.cores", lambda: 2)


@pytest.fixture
def from_memory_and_files(few, monkeypatch):
    """Return a function that opens the pictures in both ways."""

    def open_both(*arguments, **keywords):
        modules = []
        for limit in (10**9, 0):
            monkeypatch.setattr("rtil.data.batches.MEMORY_LIMIT_BYTES", limit)
            modules.append(FacesDataModule(*arguments, **keywords))
        return modules

    return open_both


def test_data_module_serves_the_same_batches_from_memory_and_files(from_memory_and_files):
    modules = from_memory_and_files("synthetic", 8, 4, seed=5)
    assert [module.in_memory for module in modules] == [True, False]
    for module in modules:
        module.images_seen = 20
        module.prepare_data()
    loaders = [module.train_dataloader() for module in modules]
    assert [loader.num_workers for loader in loaders] == [0, 2]
    a, b = (take(loader, 4) for loader in loaders)
    assert torch.equal(a, b)
    assert torch.equal(a, take(TrainingBatches(FewFaces(8, "train", 0), 4, 5, 20), 4))
    assert a.dtype == torch.uint8


@pytest.mark.parametrize(("asked", "workers"), [(None, 2), (0, 0), (3, 3)])
def test_the_number_of_processes_can_be_set(asked, workers, from_memory_and_files):
    from_memory, from_files = from_memory_and_files("synthetic", 8, 4, workers=asked)
    assert from_files.train_dataloader().num_workers == workers
    assert from_memory.train_dataloader().num_workers == 0


def test_data_module_serves_varying_batches(from_memory_and_files):
    modules = from_memory_and_files("synthetic", 8, GROWING.batch_at)
    a, b = (take_list(module.train_dataloader(), len(SIZES)) for module in modules)
    assert [len(batch) for batch in a] == SIZES
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def trainer_on(device: str, rank: int = 0, world_size: int = 1) -> SimpleNamespace:
    strategy = SimpleNamespace(root_device=torch.device(device))
    return SimpleNamespace(global_rank=rank, world_size=world_size, strategy=strategy)


@pytest.mark.usefixtures("few")
def test_data_module_takes_its_share_from_the_trainer():
    module = FacesDataModule("synthetic", 8, 4)
    whole = take(module.train_dataloader(), 2)
    module.trainer = trainer_on("cpu", 1, 2)
    assert torch.equal(take(module.train_dataloader(), 2), whole[:, 2:])


@pytest.mark.usefixtures("few")
@pytest.mark.filterwarnings("ignore:.*pin_memory:UserWarning")  # where there is no GPU nothing is pinned
@pytest.mark.parametrize("batch", [4, GROWING.batch_at])
def test_on_a_gpu_a_process_makes_the_same_batches_ahead_and_ends(batch):
    module = FacesDataModule("synthetic", 8, batch, seed=5)
    loaders = []
    for device in ("cpu", "cuda"):
        module.trainer = trainer_on(device)
        loaders.append(module.train_dataloader())
    assert [loader.num_workers for loader in loaders] == [0, 1]
    assert [loader.pin_memory for loader in loaders] == [False, True]
    now, ahead = (iter(loader) for loader in loaders)
    assert all(torch.equal(a, b) for a, b in islice(zip(now, ahead, strict=True), 9))
    assert len(active_children()) == 1
    del ahead
    assert not active_children()


@pytest.mark.usefixtures("few")
def test_lightning_trains_on_it():
    import pytorch_lightning as pl

    class Sum(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight, self.seen = torch.nn.Parameter(torch.zeros(())), []

        def training_step(self, batch, batch_idx):
            self.seen.append(batch)
            return self.weight * batch.float().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    model, module = Sum(), FacesDataModule("synthetic", 8, 4)
    module.images_seen = 4
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    pl.Trainer(max_steps=5, accelerator="cpu", **quiet).fit(model, module)
    assert torch.equal(torch.stack(model.seen), take(TrainingBatches(FewFaces(8, "train"), 4, images_seen=4), 5))


def test_a_signal_to_all_processes_leaves_the_training_its_batches(from_memory_and_files, monkeypatch):
    """The training itself decides when to stop; it cannot end its step without pictures."""
    _, module = from_memory_and_files("synthetic", 8, 4)
    module.workers = 1
    batches = iter(module.train_dataloader())
    next(batches)
    (worker,) = batches._workers
    os.kill(worker.pid, signal.SIGTERM)
    for _ in range(10):
        assert len(next(batches)) == 4
    assert worker.is_alive()
