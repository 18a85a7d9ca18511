import os

import pytest

from benchmarks.workers import Worker
from rtil.errors import UserError


class Echo:
    """What a worker holds."""

    def __init__(self, said):
        if said == "refuse":
            raise UserError("refused")
        self.said = [said]

    def say(self, word):
        self.said.append(word)
        return self.said, os.environ.get("FOR_THE_WORKER"), os.getpid()

    def fail(self):
        return 1 / 0

    def end(self):
        os._exit(9)


def test_an_object_in_a_process_of_its_own():
    with Worker(Echo, {"FOR_THE_WORKER": "yes"}, "a") as worker, Worker(Echo, {}, "refuse") as refused:
        worker.call("say", "b")
        said, variable, process = worker.call("say", "c")
        assert (said, variable) == (["a", "b", "c"], "yes")
        assert process != os.getpid()
        assert "FOR_THE_WORKER" not in os.environ
        with pytest.raises(UserError, match="refused"):
            refused.call("say", "b")
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_what_goes_wrong_is_told():
    with Worker(Echo, {}, "a") as worker, pytest.raises(RuntimeError, match="ZeroDivisionError"):
        worker.call("fail")
    with Worker(Echo, {}, "a") as worker, pytest.raises(RuntimeError, match="ended with code 9"):
        worker.call("end")
