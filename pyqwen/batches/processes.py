"""Workers in processes of this machine, each a whole engine. One that ends is started again."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO, cast

from pyqwen.batches import messages
from pyqwen.batches.driver import Answered, Failed, Joined, Lost, Tell
from pyqwen.batches.messages import Ask, Done, Ready, Refusal, Settings
from pyqwen.batches.process_worker import command
from pyqwen.batches.rows import Row
from pyqwen.errors import PyQwenError

_log = logging.getLogger("pyqwen.batch")

_MOST_IN_VAIN = 3  # processes that may end without an answer, one after the other in one place
_END_SECONDS = 5.0


class Processes:
    """A pool of as many processes as there are settings."""

    def __init__(self, settings: Sequence[Settings]) -> None:
        self._places = [_Place(self, number, each) for number, each in enumerate(settings, 1)]
        self._by_name: dict[str, _Process] = {}
        self._guard = threading.Lock()
        self._closed = False
        self._tell: Tell | None = None

    def start(self, tell: Tell) -> None:
        self._tell = tell
        for place in self._places:
            place.start()

    def send(self, worker: str, row: Row) -> None:
        with self._guard:
            process = self._by_name.get(worker)
        if process is not None:
            process.send(row)

    def close(self) -> None:
        with self._guard:
            self._closed = True
        for place in self._places:
            place.close()

    # For the places

    @property
    def is_closed(self) -> bool:
        return self._closed

    def joined(self, process: _Process, capacity: int) -> None:
        with self._guard:
            self._by_name[process.name] = process
        self.tell(Joined(process.name, capacity))

    def left(self, process: _Process) -> None:
        with self._guard:
            known = self._by_name.pop(process.name, None)
        if known is not None:
            self.tell(Lost(process.name, f"exit code {process.code}"))

    def gave_up(self, error: Exception) -> None:
        """A place has no process any more; without any there is no batch."""
        if all(place.is_empty for place in self._places):
            self.tell(Failed(error))
        else:
            _log.warning("one worker less: %s", error)

    def tell(self, event: Joined | Answered | Lost | Failed) -> None:
        if self._tell is not None and not self._closed:
            self._tell(event)


class _Place:
    """Where one process after the other runs; a thread waits for what they say."""

    def __init__(self, pool: Processes, number: int, settings: Settings) -> None:
        self._pool, self._number, self._settings = pool, number, settings
        self._process: _Process | None = None
        self._started = 0
        self.is_empty = False
        self._thread = threading.Thread(target=self._run, name="pyqwen-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        process = self._process
        if process is not None:
            process.close()

    def _run(self) -> None:
        in_vain = 0
        error: Exception | None = None
        while in_vain < _MOST_IN_VAIN and not self._pool.is_closed:
            self._started += 1
            name = f"worker {self._number}"
            if self._started > 1:
                name += f", start {self._started}"
            try:
                process = self._process = _Process(name, self._settings)
            except OSError as failure:
                error = PyQwenError(f"no worker process can be started: {failure}")
                break
            answers = self._listen(process)
            self._pool.left(process)
            if process.refusal is not None:
                error = process.refusal.error()
                break  # the next one would not do better
            in_vain = 0 if answers else in_vain + 1
            error = PyQwenError(f"worker processes end at once: exit code {process.code}")
        self.is_empty = True
        if error is not None and not self._pool.is_closed:
            self._pool.gave_up(error)

    def _listen(self, process: _Process) -> int:
        """Pass on what a process says until it ends; return how many rows it has answered."""
        answers = 0
        if self._pool.is_closed:
            process.close()
        while (message := process.read()) is not None:
            if isinstance(message, Done):
                answers += 1
                self._pool.tell(Answered(process.name, message.answer))
            elif isinstance(message, Ready):
                self._pool.joined(process, message.capacity)
            else:
                process.refusal = message
        process.wait()
        return answers


class _Process:
    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.refusal: Refusal | None = None
        self._process = subprocess.Popen(command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._to = cast(BinaryIO, self._process.stdin)
        self._from = cast(BinaryIO, self._process.stdout)
        self._write(settings)

    @property
    def code(self) -> int | None:
        return self._process.poll()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, row: Row) -> None:
        self._write(Ask(row))

    def _write(self, message: Settings | Ask) -> None:
        with suppress(OSError, ValueError):  # its end is seen where it is listened to
            messages.write(self._to, message)

    def read(self) -> messages.FromWorker | None:
        try:
            return messages.read_from_worker(self._from)
        except (OSError, ValueError):
            return None

    def wait(self) -> None:
        """Wait for the end of a process that has closed its pipe; it may hang there."""
        with suppress(OSError, ValueError):
            self._to.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._from.close()

    def close(self) -> None:
        """Kill it: its answers are of no use any more."""
        self._process.kill()
