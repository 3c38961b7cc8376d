"""Other Python threads run while a model opens and while a long text is encoded: nothing holds the GIL."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pyqwen.loading.gguf_file import GGUFFile
from pyqwen.model import Model
from pyqwen.text.tokenizer import Tokenizer

LONGEST_GAP = 0.02  # seconds
TEXT = "The quick brown fox. Příliš žluťoučký kůň.\tdef f(x): return 12\n我能吞下玻璃\n" * 12_000


def used_by_threads() -> dict[int, float]:
    """The processor time of each Python thread; empty where the system does not tell."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return {}
    used = {}
    for thread in threading.enumerate():
        if thread.ident is not None:
            with suppress(OSError):  # it has just ended
                used[thread.ident] = time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return used


def longest_gap(work: Callable[[], Any]) -> float:
    """The longest time in which a thread that only sleeps a millisecond did not come to its turn.

    Whoever kept it waiting with the GIL has computed as long; if no other thread has, this one had no
    processor. So a gap counts no more than what another thread has used of it.
    """
    gaps: list[float] = []
    stop = threading.Event()

    def beat() -> None:
        me, last, before = threading.get_ident(), time.perf_counter(), used_by_threads()
        while not stop.is_set():
            time.sleep(0.001)
            gap, used = time.perf_counter() - last, used_by_threads()
            others = [used[i] - before.get(i, 0.0) for i in used if i != me]
            gaps.append(min(gap, max(others)) if others else gap)
            last, before = time.perf_counter(), used

    heart = threading.Thread(target=beat)
    heart.start()
    try:
        work()
    finally:
        stop.set()
        heart.join()
    return max(gaps)


def gap_of_work(work: Callable[[], Any]) -> float:
    """The best of some tries: a thread that computes without the GIL while others have both processors
    looks as if it had kept them waiting."""
    gap = longest_gap(work)
    for _ in range(30):
        if gap <= LONGEST_GAP:
            break
        gap = min(gap, longest_gap(work))
    return gap


def test_the_measurement_notices() -> None:
    """A call into C that holds the GIL: the sum of a long range."""
    assert min(longest_gap(lambda: sum(range(10_000_000))) for _ in range(3)) > 2 * LONGEST_GAP


def test_while_a_tiny_model_opens(tiny_model_path: Path) -> None:
    assert gap_of_work(lambda: Model(tiny_model_path).close()) <= LONGEST_GAP


@pytest.mark.smollm
def test_while_a_model_opens_and_encodes(smollm_path: Path) -> None:
    assert gap_of_work(lambda: Model(smollm_path, context=64, cache=False).close()) <= LONGEST_GAP
    with GGUFFile(smollm_path) as file:
        tokenizer = Tokenizer.from_metadata(file.metadata)
    assert len(TEXT.encode()) > 1_000_000
    assert gap_of_work(lambda: tokenizer.encode(TEXT)) <= LONGEST_GAP


@pytest.mark.qwen
def test_while_the_vocabulary_of_qwen_opens(qwen_path: Path) -> None:
    def work() -> None:
        with GGUFFile(qwen_path) as file:
            Tokenizer.from_metadata(file.metadata)

    assert gap_of_work(work) <= LONGEST_GAP
