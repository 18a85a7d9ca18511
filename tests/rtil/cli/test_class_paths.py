import pytest
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping, Timer

from rtil.cli.class_paths import instance_of
from rtil.errors import UserError

STOPPING = "pytorch_lightning.callbacks.EarlyStopping"


def with_arguments(path, **arguments):
    return {"class_path": path, "init_args": arguments}


def test_a_path_alone_and_one_with_arguments():
    assert isinstance(instance_of(Callback, "pytorch_lightning.callbacks.Timer", "--callbacks"), Timer)
    built = instance_of(Callback, with_arguments(STOPPING, monitor="a", patience=7), "--callbacks")
    assert isinstance(built, EarlyStopping)
    assert (built.monitor, built.patience) == ("a", 7)


class Refuses(Callback):
    def __init__(self):
        raise RuntimeError("not on\nSundays")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere.Class", "No module named 'nowhere'"),
        ("collections.OrderedDict", "not correspond to a subclass of Callback"),
        (STOPPING, "required: monitor"),
        (with_arguments(STOPPING, monitors=3), "'monitors' is not accepted"),
        (with_arguments(STOPPING, monitor="a", patience="x"), "patience"),
        ({"class_path": 3}, "class_path"),
        (f"{__name__}.Refuses", "not on Sundays"),
    ],
)
def test_what_cannot_be_made_is_told_in_one_line(given, message):
    with pytest.raises(UserError, match=message) as told:
        instance_of(Callback, given, "--callbacks")
    assert str(told.value).startswith(f"--callbacks {given}")
    assert "\n" not in str(told.value)
