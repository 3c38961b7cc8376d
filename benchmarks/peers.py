"""What compare.py measures: programs in processes of their own, each timed with one test at a time.

Owns starting, asking and ending them, and what becomes of one that crashes. Knows no statistics.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Test:
    """One of llama-bench's tests: a prompt or a generation, the other being 0, behind a depth."""

    n_prompt: int
    n_gen: int
    n_depth: int

    @property
    def name(self) -> str:
        name = f"pp{self.n_prompt}" if self.n_prompt else f"tg{self.n_gen}"
        return f"{name} @ d{self.n_depth}" if self.n_depth else name

    @property
    def tokens(self) -> int:
        return self.n_prompt + self.n_gen

    def speed(self, ns: int) -> float:
        """Tokens per second of a run that took ``ns`` nanoseconds."""
        return self.tokens * 1e9 / ns


class PeerFailed(Exception):
    """A process ended when it should have answered. ``crashed``: by a signal, not by itself."""

    def __init__(self, name: str, code: int, log: str) -> None:
        self.crashed = code < 0
        how = f"died of {signal.Signals(-code).name}" if self.crashed else f"exited with {code}"
        last = [line for line in log.splitlines() if line.strip()][-5:]
        super().__init__(f"{name} {how}" + "".join(f"\n    {line}" for line in last))


class Worker:
    """A process that answers requests, a line of JSON each; started when it is first asked."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._command = list(command)
        self._process: subprocess.Popen[str] | None = None

    def ask(self, **request: Any) -> dict[str, Any]:
        if self._process is None:
            self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            log = self._log.read()
            self.close()
            raise PeerFailed(self.name, code, log)
        return dict(json.loads(line))

    def close(self) -> None:
        """End the process; the next request starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._log.close()
            self._process = None


class PyQwen(Worker):
    """pyqwen's core, as `pyqwen bench` runs it."""

    def __init__(self, model: Path, threads: int, context: int) -> None:
        command = [sys.executable, str(HERE / "pyqwen_worker.py"), str(model)]
        command += ["--threads", str(threads), "--context", str(context)]
        super().__init__("pyqwen", command)

    def time(self, test: Test) -> float:
        """Tokens per second of one repetition."""
        request = {"n_prompt": test.n_prompt, "n_gen": test.n_gen, "n_depth": test.n_depth}
        return test.speed(self.ask(op="time", **request)["ns"])


class LlamaCpp(ABC):
    """llama.cpp; a subclass says how it is run.

    Its AMX code crashes on some virtual machines. Then it is run again without weights repacked,
    which avoids that code, and ``notes`` say so.
    """

    name = "llama.cpp"

    def __init__(self, model: Path, threads: int) -> None:
        self.model, self.threads = model, threads
        self.repack = True
        self.notes: list[str] = []
        self.build: dict[str, Any] = {}

    def time(self, test: Test, flash: bool) -> float:
        """Tokens per second of one repetition; ``PeerFailed`` if it does not work either way."""
        try:
            return self._time(test, flash)
        except PeerFailed as error:
            if not (error.crashed and self.repack):
                raise
            self.notes.append(f"with repacked weights, {error}\nrun again without repacking")
            self.repack = False
            return self._time(test, flash)

    @abstractmethod
    def _time(self, test: Test, flash: bool) -> float:
        """One try of `time`."""

    def close(self) -> None:  # noqa: B027 - a program that is started for each run leaves nothing
        """End what is running."""


class LlamaCppPython(LlamaCpp):
    """llama-cpp-python's low-level bindings, in a process with one model and a context per variant."""

    def __init__(self, python: str, model: Path, threads: int, context: int) -> None:
        super().__init__(model, threads)
        command = [python, str(HERE / "llama_worker.py"), str(model)]
        command += ["--threads", str(threads), "--context", str(context)]
        self._workers = {
            repack: Worker(self.name, [*command, "--repack", str(int(repack))])
            for repack in (True, False)
        }

    def _time(self, test: Test, flash: bool) -> float:
        worker = self._workers[self.repack]
        if not self.build:
            self.build = worker.ask(op="describe")
        request = {"n_prompt": test.n_prompt, "n_gen": test.n_gen, "n_depth": test.n_depth}
        return test.speed(worker.ask(op="time", flash=flash, **request)["ns"])

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()


class LlamaBench(LlamaCpp):
    """The program llama-bench: a process for each run, which loads, warms up, and computes the depth."""

    def __init__(self, program: str, model: Path, threads: int) -> None:
        super().__init__(model, threads)
        self._program = program

    def _time(self, test: Test, flash: bool) -> float:
        command = [self._program, "-m", str(self.model), "-t", str(self.threads)]
        command += ["-p", str(test.n_prompt), "-n", str(test.n_gen), "-d", str(test.n_depth)]
        command += ["-fa", str(int(flash)), "-r", "1", "-ngl", "0", "-o", "json"]
        if not self.repack:
            command += ["--repack", "0"]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if result.returncode != 0:
            raise PeerFailed("llama-bench", result.returncode, result.stderr)
        (row,) = json.loads(result.stdout)
        self.build = {"build": f"llama-bench {row['build_commit']}", "system": row["cpu_info"]}
        return float(row["avg_ts"])
