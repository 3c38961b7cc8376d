"""Which processors of this machine each of several engines gets: whole NUMA nodes where there are enough.

An engine that runs on one node has its memory there. On a machine of one node engines share the processors
as the operating system likes, for pinned ones could not make up for what else the machine does.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

NODES = Path("/sys/devices/system/node")


@dataclass(frozen=True, slots=True)
class Share:
    """What one engine gets: ``processors`` to run on (None: any), and threads."""

    processors: tuple[int, ...] | None
    threads: int


def numa_nodes(root: Path = NODES) -> list[set[int]]:
    """The processors of each NUMA node that this process may use; empty where that is not known."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    allowed = os.sched_getaffinity(0)
    found = []
    try:
        for folder in sorted(root.glob("node[0-9]*"), key=lambda path: int(path.name[4:])):
            found.append(_processors((folder / "cpulist").read_text()) & allowed)
    except (OSError, ValueError):
        return []
    return [node for node in found if node]


def shares(workers: int, threads: int, nodes: list[set[int]]) -> list[Share]:
    """What each of ``workers`` gets of ``threads`` in all, and of the ``nodes`` of :func:`numa_nodes`."""
    each = [max(1, (threads + i) // workers) for i in range(workers)]
    if len(nodes) < 2 or workers < len(nodes):
        return [Share(None, count) for count in each]
    return [Share(tuple(sorted(nodes[i % len(nodes)])), each[i]) for i in range(workers)]


def pin(processors: tuple[int, ...] | None) -> None:
    """Run this process, and all threads that it starts from now on, on these processors only."""
    if processors is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors)


def _processors(text: str) -> set[int]:
    """``0-3,8``: as Linux writes sets of processors."""
    found: set[int] = set()
    for part in re.findall(r"\d+(?:-\d+)?", text):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found
