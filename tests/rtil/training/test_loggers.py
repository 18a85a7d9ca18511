"""Lightning's own CSV logger, run beside ours, says what they should say."""

import csv
import errno

import pytest
from pytorch_lightning.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from rtil.errors import Notice, UserError
from rtil.training import loggers
from rtil.training.card import TITLE
from rtil.training.checkpoint import checkpoints
from rtil.training.run import train
from tests.rtil.training.small import config


@pytest.fixture
def faces(tmp_path, make_pictures):
    return make_pictures(tmp_path / "faces", 24, 16)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_all_loggers_are_told_the_same_on_an_axis_of_images(faces, tmp_path):
    theirs = CSVLogger(tmp_path, name="theirs", version="")
    train(config(faces, 0.08), tmp_path / "run", loggers=["tensorboard", "csv", theirs])
    told = rows(tmp_path / "theirs/metrics.csv")
    assert rows(tmp_path / "run" / loggers.TABLE) == told
    assert [row["step"] for row in told] == ["40", "80"]
    board = EventAccumulator(str(tmp_path / "run")).Reload()
    assert set(board.Tags()["scalars"]) == told[0].keys() - {"step"}
    for name in board.Tags()["scalars"]:
        values = [(event.step, event.value) for event in board.Scalars(name)]
        assert values == [(int(row["step"]), pytest.approx(float(row[name]), rel=1e-6)) for row in told]


def test_a_run_without_loggers_keeps_its_pictures(faces, tmp_path):
    train(config(faces, 0.04), tmp_path, loggers=[])
    assert list(tmp_path.glob("fakes-*.png"))
    assert not [*tmp_path.glob("events*"), *tmp_path.glob("*.csv")]


def test_what_a_resumed_run_goes_over_again_is_told_once(faces, tmp_path):
    """To 120 images, from 80 on again to 160: as in one go."""
    both = ["csv", "tensorboard"]
    train(config(faces, 0.16), tmp_path / "whole", loggers=both)
    train(config(faces, 0.12), tmp_path / "parts", loggers=both)
    older = checkpoints(tmp_path / "parts")[0]
    train(config(faces, 0.16), tmp_path / "parts", resume=str(older), loggers=both)
    whole, parts = (rows(tmp_path / name / loggers.TABLE) for name in ("whole", "parts"))
    assert [row["step"] for row in parts] == ["40", "80", "120", "160"]
    assert [row["loss/generator"] for row in parts] == [row["loss/generator"] for row in whole]
    board = EventAccumulator(str(tmp_path / "parts")).Reload()
    assert [event.step for event in board.Scalars("loss/generator")] == [40, 80, 120, 160]


def test_the_table_grows_a_column_where_something_new_is_told(faces, tmp_path):
    """The penalty of steps that came later than the first line."""
    train(config(faces, 0.04, path_weight=2, path_interval=3), tmp_path, loggers=["csv"])
    train(config(faces, 0.08, path_weight=2, path_interval=3), tmp_path, loggers=["csv"], resume="latest")
    first, second = rows(tmp_path / loggers.TABLE)
    assert first.keys() == second.keys()
    assert "regulariser/path_length_part0" in first


def test_a_full_disk_delays_the_table_and_stops_nothing(faces, tmp_path, monkeypatch):
    """At the first line; at the second there is room for both."""
    usual, calls = csv.DictWriter.writerows, []

    def write(self, rows):
        calls.append(rows)
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return usual(self, rows)

    monkeypatch.setattr(csv.DictWriter, "writerows", write)
    with pytest.warns(Notice, match=r"metrics.csv cannot be written \(No space left on device\)"):
        train(config(faces, 0.08), tmp_path, loggers=["csv"])
    assert [row["step"] for row in rows(tmp_path / loggers.TABLE)] == ["40", "80"]


def test_tensorboard_has_settings_and_a_card(faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = config(faces, 0.04)
    train(asked, tmp_path / "run")
    board = EventAccumulator(str(tmp_path / "run")).Reload()
    started = board.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    params = HParamsPluginData.FromString(started).session_start_info.hparams
    assert params["lr"].number_value == asked.lr
    assert not [name for name in params if name.endswith("_kimg") and name != "ema_halflife_kimg"]  # beside the steps
    assert params["rtil"].string_value == "True"
    assert params["channels"].string_value == "{'4': 8, '8': 8, '16': 8}"
    columns = HParamsPluginData.FromString(board.SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content)
    shown = {info.name.tag for info in columns.experiment.metric_infos}
    assert shown == set(loggers.COMPARED) <= set(board.Tags()["scalars"])
    (event,) = board.Tensors(f"{TITLE}/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    for word in ("| lr | 0.002 |", "| pictures | 23 |", "| Machine | |", "| torch | "):
        assert word in text
    assert "| data | ./faces |" in text  # below this folder: not where that lies


@pytest.mark.parametrize(
    ("given", "message"), [("wandb", "pip install wandb"), ("tensorbord", "did you mean 'tensorboard'")]
)
def test_a_logger_that_is_not_there_is_one_line(faces, tmp_path, monkeypatch, given, message):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=message):
        train(config(faces, 0.04), tmp_path / "run", loggers=[given])
    assert not (tmp_path / "run").exists()
