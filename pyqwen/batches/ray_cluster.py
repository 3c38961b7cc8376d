"""Workers on the hosts of a Ray cluster: actors, each a whole engine, one for each NUMA node of a host.

Hosts are looked for all the time: those that come are used, and what ran on those that go is given out again.
The model is opened inside the actor, by its name or path there; the file and what is packed of it are shared
by the actors of a host through its page cache. Needs the extra ``ray``.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from queue import Empty, SimpleQueue
from typing import Any

from pyqwen.batches.answering import Answer
from pyqwen.batches.driver import Answered, Failed, Joined, Lost, Tell
from pyqwen.batches.machine_shares import numa_nodes, pin, shares
from pyqwen.batches.messages import Refusal, Settings
from pyqwen.batches.rows import Row
from pyqwen.errors import PyQwenError

_log = logging.getLogger("pyqwen.batch")

_LOOK_SECONDS = 1.0  # between looks at the hosts
_MOST_IN_VAIN = 3  # actors that may end without an answer, one after the other in one place
_REACH_SECONDS = _END_SECONDS = 5.0
_CALLS = 4096  # of one actor at a time


class Engine:
    """The actor: answers rows, as many at a time as calls are made."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def open(self) -> int | Refusal:
        """Open the model; return how many rows it takes at a time."""
        return await asyncio.to_thread(self._open)

    def _open(self) -> int | Refusal:
        from pyqwen.batches.answering import RowAnswers
        from pyqwen.batches.engine import capacity_of
        from pyqwen.model import Model

        try:
            pin(self._settings.processors)
            model = Model(self._settings.model, **self._settings.options)
        except Exception as error:
            return Refusal.of(error)
        self._answers = RowAnswers(model, self._settings.name)
        return capacity_of(model)

    async def answer(self, row: Row) -> Answer:
        """Answer a row."""
        return await self._answers.answer(row)


Parts = list[tuple[tuple[int, ...] | None, int]]


def look_at_host(threads: int | None, processors: int) -> tuple[str, Parts]:
    """The version of pyqwen on a host, and the processors and threads of each engine that it can have.

    ``threads`` are wanted on the host, ``processors`` are those that Ray may use there.
    """
    from importlib.metadata import version

    from pyqwen._native import default_threads
    from pyqwen.loading import environment

    count = threads or min(environment.threads() or default_threads(), processors)
    nodes = numa_nodes()
    parts = shares(max(1, len(nodes)), count, nodes)
    return version("pyqwen"), [(part.processors, part.threads) for part in parts]


@dataclass(eq=False)
class _Place:
    """A part of a host, where one actor after the other runs."""

    node: str
    number: int
    settings: Settings
    processors: float
    actor: Any = None
    name: str = ""
    starts: int = 0
    in_vain: int = 0


@dataclass(eq=False)
class _Host:
    places: list[_Place] = field(default_factory=list)
    is_new: bool = True  # what it has is not known yet


class RayCluster:
    """A pool of the actors of a cluster.

    Its own thread does all but ``send``; what Ray tells on other threads is put into a queue for it.
    """

    def __init__(self, address: str | None, settings: Settings) -> None:
        """``address``: that of a running cluster, or None: ``RAY_ADDRESS``, one that runs on this machine,
        or else one that is started here.

        ``settings`` are those of each engine; their ``threads`` are those of a host.
        """
        import ray

        self._ray: Any = ray
        self._address, self._settings = address, settings
        self._is_mine = False
        self._hosts: dict[str, _Host] = {}
        self._actors: dict[str, Any] = {}  # of those that joined
        self._guard = threading.Lock()  # of that
        self._todo: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # None: the end
        self._tell: Tell | None = None
        self._problem: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="pyqwen-ray", daemon=True)

    def start(self, tell: Tell) -> None:
        ray = self._ray
        if not ray.is_initialized():
            _check_reachable(self._address)
            try:
                ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:  # of many kinds
                raise PyQwenError(f"no Ray cluster can be used: {_brief(error)}") from error
            self._is_mine = True
        self._tell = tell
        self._actor_class = ray.remote(Engine)
        self._look_at_host = ray.remote(look_at_host)
        self._thread.start()

    def send(self, worker: str, row: Row) -> None:
        with self._guard:
            actor = self._actors.get(worker)
        if actor is None:
            return  # it was told to be lost, or will be

        def answered(answer: Answer | None, error: BaseException | None) -> None:
            if answer is not None and self._tell is not None:
                self._tell(Answered(worker, answer))
            self._todo.put(lambda: self._note_answer(worker, error))

        _when_done(actor.answer.remote(row), answered)

    def close(self) -> None:
        self._tell = None
        self._todo.put(None)
        if self._thread.ident is not None:
            self._thread.join(_END_SECONDS)  # a cluster that is gone may not answer it
        if self._is_mine:
            self._ray.shutdown()

    # The thread

    def _run(self) -> None:
        try:
            self._watch()
        except Exception as error:
            self._event(Failed(PyQwenError(f"the Ray cluster is gone: {error}")))
        for host in self._hosts.values():
            for place in host.places:
                self._kill(place)

    def _watch(self) -> None:
        """Do what is to be done, and look at the hosts now and then, until the end."""
        looked = 0.0
        while True:
            if time.monotonic() - looked > _LOOK_SECONDS:
                self._look()
                looked = time.monotonic()
            with suppress(Empty):
                do = self._todo.get(timeout=_LOOK_SECONDS)
                if do is None:
                    return
                do()

    def _look(self) -> None:
        """Take in hosts that came, forget those that went, start what is missing."""
        alive = self._alive()
        for node in alive.keys() - self._hosts.keys():
            self._add_host(node, alive[node])
        for node in self._hosts.keys() - alive.keys():
            for place in self._hosts.pop(node).places:
                self._lose(place, place.name, "its host is gone")
        for host in self._hosts.values():
            for place in host.places:
                if not place.name:
                    self._start(place)
        if not self._hosts:
            _log.info("the cluster has no host with processors; waiting for one")
        elif not any(host.is_new or host.places for host in self._hosts.values()):
            self._event(Failed(self._problem or PyQwenError("no host can run an engine")))

    def _alive(self) -> dict[str, float]:
        """The hosts that can compute: id, processors."""
        return {
            node["NodeID"]: node["Resources"]["CPU"]
            for node in self._ray.nodes()
            if node["Alive"] and node.get("Resources", {}).get("CPU", 0) > 0
        }

    def _on(self, node: str) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node, soft=False)

    def _add_host(self, node: str, processors: float) -> None:
        """Ask a host what it has; its engines are started when it has said that."""
        host = self._hosts[node] = _Host()
        task = self._look_at_host.options(
            num_cpus=0, scheduling_strategy=self._on(node), max_retries=0
        )
        call = task.remote(self._settings.options.get("threads"), max(1, int(processors)))

        def found(facts: tuple[str, Parts] | None, error: BaseException | None) -> None:
            self._todo.put(lambda: self._fill(node, host, facts, processors, error))

        _when_done(call, found)

    def _fill(
        self,
        node: str,
        host: _Host,
        facts: tuple[str, Parts] | None,
        processors: float,
        error: BaseException | None,
    ) -> None:
        host.is_new = False
        if facts is None:
            self._give_up(f"host {node[:8]} cannot run pyqwen: {_brief(error)}")
            return
        there, parts = facts
        if there != version("pyqwen"):
            self._give_up(f"host {node[:8]} has pyqwen {there}, and here is {version('pyqwen')}")
            return
        settings = self._settings
        for number, (pinned, threads) in enumerate(parts, 1):
            options = {**settings.options, "threads": threads}
            own = Settings(settings.model, settings.name, options, pinned)
            place = _Place(node, number, own, processors / len(parts))
            host.places.append(place)
            self._start(place)

    # Actors

    def _start(self, place: _Place) -> None:
        place.starts += 1
        place.name = name = f"engine {place.number} on host {place.node[:8]}" + (
            f", start {place.starts}" if place.starts > 1 else ""
        )
        place.actor = self._actor_class.options(
            num_cpus=place.processors,
            scheduling_strategy=self._on(place.node),
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=_CALLS,
        ).remote(place.settings)

        def opened(capacity: int | Refusal | None, error: BaseException | None) -> None:
            self._todo.put(lambda: self._opened(place, name, capacity, error))

        _when_done(place.actor.open.remote(), opened)

    def _opened(
        self, place: _Place, name: str, capacity: int | Refusal | None, error: BaseException | None
    ) -> None:
        if place.name != name:
            return
        if isinstance(capacity, Refusal):
            self._problem = capacity.error()
            place.in_vain = _MOST_IN_VAIN  # the next one would not do better
            self._lose(place, name, capacity.message)
        elif capacity is None:
            self._lose(place, name, _brief(error))
        else:
            with self._guard:
                self._actors[name] = place.actor
            self._event(Joined(name, capacity))

    def _note_answer(self, name: str, error: BaseException | None) -> None:
        for host in self._hosts.values():
            for place in host.places:
                if place.name == name:
                    if error is None:
                        place.in_vain = 0
                    else:
                        self._lose(place, name, _brief(error))
                    return

    def _lose(self, place: _Place, name: str, reason: str) -> None:
        """An actor is gone; the next look starts another one, if that is not in vain."""
        with self._guard:
            known = self._actors.pop(name, None)
        self._kill(place)  # it may only be out of reach
        place.name = ""
        if known is not None:
            self._event(Lost(name, reason))
        host = self._hosts.get(place.node)
        if host is None:
            return
        place.in_vain += 1
        if place.in_vain >= _MOST_IN_VAIN:
            host.places.remove(place)
            self._give_up(f"engines on host {place.node[:8]} end at once: {reason}")

    def _give_up(self, reason: str) -> None:
        _log.warning("%s", reason)
        self._problem = self._problem or PyQwenError(reason)

    def _kill(self, place: _Place) -> None:
        if place.actor is not None:
            with suppress(Exception):  # it is gone
                self._ray.kill(place.actor, no_restart=True)
            place.actor = None

    def _event(self, event: Joined | Lost | Failed) -> None:
        tell = self._tell
        if tell is not None:
            tell(event)


def _check_reachable(address: str | None) -> None:
    """Ray would try for minutes to reach a cluster that is not there."""
    host, _, port = (address or "").rpartition(":")
    if not host or "://" in host or not port.isdigit():
        return  # not the address of a socket
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS):
            pass
    except (OSError, OverflowError, UnicodeError) as error:
        raise PyQwenError(f"there is no Ray cluster at {address}: {error}") from error


def _when_done(call: Any, then: Callable[[Any, BaseException | None], None]) -> None:
    """Call ``then`` with the result or the exception of a call, on a thread of Ray's."""

    def done(future: Any) -> None:
        error = future.exception()
        then(None if error is not None else future.result(), error)

    call.future().add_done_callback(done)


def _brief(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines() if error is not None else []
    return lines[0][:200] if lines else repr(error)
