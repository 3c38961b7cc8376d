"""The program of a worker process: opens the model, answers the rows that come, and ends with the driver."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import BinaryIO, NoReturn

from pyqwen.batches.answering import Answer
from pyqwen.batches.engine import EngineThread, capacity_of
from pyqwen.batches.machine_shares import pin
from pyqwen.batches.messages import (
    Done,
    FromWorker,
    Ready,
    Refusal,
    Settings,
    read_to_worker,
    write,
)
from pyqwen.model import Model


def main() -> NoReturn:
    """Talk to the driver through standard input and output, of which nobody else knows any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which closes the pipe
    source = os.fdopen(os.dup(0), "rb")
    target = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    settings = read_to_worker(source)
    if isinstance(settings, Settings):
        _work(settings, source, _Sender(target))
    os._exit(0)  # threads that answer need not come to an end


class _Sender:
    """Messages of several threads, one after the other."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._guard = stream, threading.Lock()

    def send(self, message: FromWorker) -> None:
        try:
            with self._guard:
                write(self._stream, message)
        except OSError:
            os._exit(0)  # nobody is there


def _work(settings: Settings, source: BinaryIO, sender: _Sender) -> None:
    try:
        pin(settings.processors)
        model = Model(settings.model, **settings.options)
    except Exception as error:
        sender.send(Refusal.of(error))
        return

    def done(answer: Answer) -> None:
        sender.send(Done(answer))

    engine = EngineThread(model, settings.name, done)
    sender.send(Ready(capacity_of(model)))
    while (message := read_to_worker(source)) is not None:
        if not isinstance(message, Settings):
            engine.send(message.row)


def command() -> list[str]:
    """How this program is started, with the packages of this process wherever they are."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; "
        "from pyqwen.batches.process_worker import main; main()"
    )
    return [sys.executable, "-c", code]
