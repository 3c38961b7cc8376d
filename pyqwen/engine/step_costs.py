"""What a step costs by its rows, measured while the engine runs: whether a draft is worth its rows.

A pass over the weights costs nearly the same for one row and for a few, until the processor multiplies
longer than it waits for memory; where that is, only measuring tells. Times are kept by rows and by
depth, as rows far behind the beginning of a long text attend to more.
"""

from __future__ import annotations

from collections import deque

_BESIDE_SECONDS = 0.2  # how long reading a prompt may hold up the answers written beside it
_BESIDE_ROWS = 16  # but never fewer rows than this
MOST_ROWS = 16  # of a step with drafts: LOGIT_ROWS of csrc/model/session.c
_WINDOW = 7  # times that a median is taken of
TRUSTED_STEPS = 400  # for so many steps a time of another number of rows is believed
_SLOPE = 0.25  # of one row's time, for each further row, as long as nothing is known
_READING_GAIN = 1.5  # a row of a few costs this much of a row of a prompt


class _Times:
    """The times of steps of some rows: their median, and when the last was taken."""

    __slots__ = ("last", "median", "seconds")

    def __init__(self) -> None:
        self.seconds: deque[float] = deque(maxlen=_WINDOW)
        self.median = 0.0
        self.last = 0

    def add(self, seconds: float, step: int) -> None:
        self.seconds.append(seconds)
        self.median = sorted(self.seconds)[len(self.seconds) // 2]
        self.last = step


class StepCosts:
    """Seconds of steps, as measured last; the engine's worker is its only user."""

    def __init__(self) -> None:
        self._by_depth: dict[int, dict[int, _Times]] = {}
        self._steps = 0
        self._curve: list[float] = []
        self._curve_of = (-1, -1)  # what the curve was made of: step, depth
        self.rows_per_second = 0.0
        """Of prompts; 0: not known yet."""

    def note_reading(self, rows_per_second: float) -> None:
        """A part of a prompt was read so fast."""
        self.rows_per_second += 0.5 * (rows_per_second - self.rows_per_second)

    def rows_beside(self) -> int:
        """How many rows of prompts are read in a step of answers."""
        return max(_BESIDE_ROWS, int(self.rows_per_second * _BESIDE_SECONDS))

    def note(self, rows: int, depth: int, seconds: float) -> None:
        """A step of ``rows`` rows behind ``depth`` tokens took this long."""
        self._steps += 1
        if rows <= MOST_ROWS:
            self._times_at(depth).setdefault(rows, _Times()).add(seconds, self._steps)

    def is_stale(self, rows: int, depth: int, steps: int) -> bool:
        """Whether no step of so many rows was among the last ``steps``."""
        times = self._times_at(depth).get(rows)
        return times is None or self._steps - times.last > steps

    def most_to_try(self, depth: int) -> int:
        """How many rows may be tried: not many more than were, as far ones may cost far more."""
        tried = [
            n for n, t in self._times_at(depth).items() if self._steps - t.last < TRUSTED_STEPS
        ]
        return 2 * max(tried, default=0) + 2

    def seconds(self, rows: int, depth: int) -> float:
        """What a step of so many rows will take; 0 if nothing is known yet."""
        curve = self.curve(depth)
        if rows < len(curve):
            return curve[rows]
        return max(curve[-1], rows / self.rows_per_second) if self.rows_per_second else 0.0

    def curve(self, depth: int) -> list[float]:
        """The same for 0 to ``MOST_ROWS`` rows; between what was measured, straight lines."""
        made_of = self._steps, _bucket(depth)
        if self._curve_of != made_of:
            self._curve = self._make_curve(self._times_at(depth))
            self._curve_of = made_of
        return self._curve

    def _make_curve(self, table: dict[int, _Times]) -> list[float]:
        fresh = self._steps - TRUSTED_STEPS
        known = sorted((rows, t.median) for rows, t in table.items() if t.last >= fresh)
        if not known:
            return [0.0] * (MOST_ROWS + 1)
        first_rows, first = known[0]
        slope = _SLOPE * first / first_rows
        if self.rows_per_second:
            slope = min(slope, _READING_GAIN / self.rows_per_second)
        curve = [max(first - slope * (first_rows - rows), 0.0) for rows in range(first_rows + 1)]
        for rows, seconds in known[1:]:
            before, last = len(curve) - 1, curve[-1]
            rise = max(seconds - last, 0.0) / (rows - before)  # more rows never take less time
            curve += [last + rise * i for i in range(1, rows - before + 1)]
        return curve + [curve[-1] + slope * i for i in range(1, MOST_ROWS + 2 - len(curve))]

    def _times_at(self, depth: int) -> dict[int, _Times]:
        bucket = _bucket(depth)
        table = self._by_depth.get(bucket)
        if table is None:
            table = self._by_depth[bucket] = {}
            if len(self._by_depth) > 1:  # a little deeper: about as before
                nearest = min(
                    (b for b in self._by_depth if b != bucket), key=lambda b: abs(b - bucket)
                )
                for rows, times in self._by_depth[nearest].items():
                    copy = table[rows] = _Times()
                    copy.add(times.median, times.last)
        return table


def _bucket(depth: int) -> int:
    return (depth // 2048).bit_length()
