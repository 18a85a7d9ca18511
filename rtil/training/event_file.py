"""TensorBoard's file on a disk that may fill: what cannot be written is left out and told once; the training goes on.

TensorBoard's own writer has a thread, which dies of a full disk with a traceback and takes the training with it.
"""

import io
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from rtil.errors import Notice, RunError
from rtil.files import writing


class EventFile:
    """Appends events to a file, in whole records.

    Args:
        path: A file of TensorBoard's.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.pending, self.is_told = path, io.BytesIO(), False

    def get_logdir(self) -> str:
        """Return the folder."""
        return str(self.path.parent)

    def add_event(self, event: Event) -> None:
        """Keep an event until the next flush."""
        RecordWriter(self.pending).write(event.SerializeToString())

    def flush(self) -> None:
        """Write what has been kept; where there is no room for it, all of it is left out."""
        data, self.pending = self.pending.getvalue(), io.BytesIO()
        try:
            with writing(self.path), self.path.open("ab", buffering=0) as file:
                size = file.tell()
                try:
                    if data and file.write(data) != len(data):
                        file.write(data[-1:])  # the system says why there is no room only to who asks for more
                        raise OSError("a part was not written")
                except OSError:
                    with suppress(OSError):
                        file.truncate(size)  # else the reader would stop at half a record
                    raise
        except RunError as error:
            if not self.is_told:
                warnings.warn(f"{error}; curves have gaps, the training goes on", Notice, stacklevel=2)
            self.is_told = True

    close = reopen = flush


class LastingTensorBoard(TensorBoardLogger):
    """A logger whose file may fail to grow."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """TensorBoard's writer.

        Raises:
            RunError: Its file cannot be made.
        """
        if self._experiment is None:
            with writing(self.log_dir):
                writer = super().experiment
                first = writer.file_writer.event_writer
                first.close()
            writer.file_writer.event_writer = EventFile(Path(first._file_name))
        return self._experiment
