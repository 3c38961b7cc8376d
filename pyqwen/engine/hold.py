"""What an open session holds in the cache: its tokens, and the blocks pinned for them.

The engine's worker pins and unpins; the session's owner reads the tokens, and changes them only while no
request of the session runs.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyqwen.engine.prefix_tree import Path, PrefixTree


class Hold:
    """The positions of one session."""

    def __init__(self, adapter: Hashable = None, source: int | None = None) -> None:
        """``adapter``: with which they are computed. ``source``: the number of the file they come from, if
        they do: whatever that says is of no concern to those who read the same tokens otherwise."""
        self.adapter, self.source = adapter, source
        self.tokens: list[int] = []
        self.has_answer = False  # a request that wrote left something
        self._tree: PrefixTree | None = None
        self._path: Path = []
        self._closed = False

    def salt(self, adapter: Hashable) -> Hashable:
        """What the positions depend on besides tokens, if they are computed with this adapter."""
        return adapter if self.source is None else (self.source, adapter)

    def path(self, tree: PrefixTree) -> Path:
        """The blocks that are pinned in ``tree``: none if the model was unloaded since."""
        return self._path if self._tree is tree else []

    def pin(self, tree: PrefixTree, path: Path) -> None:
        """Hold these blocks and no others; a closed session holds none."""
        if self._closed:
            return
        tree.pin(path)
        self.release()
        self._tree, self._path = tree, path

    def shrink(self, length: int) -> None:
        """Hold the blocks of the first ``length`` tokens only."""
        if self._tree is not None and len(self._path) > (blocks := self._tree.blocks_of(length)):
            self.pin(self._tree, self._path[:blocks])

    def take(self, other: Hold) -> None:
        """Hold what another one does, which holds nothing afterwards."""
        if self._closed:
            other.release()
            return
        self.release()
        self.adapter, self.source, self.tokens = other.adapter, other.source, other.tokens
        self._tree, self._path = other._tree, other._path
        other._tree, other._path = None, []

    def close(self) -> None:
        """Hold nothing any more, whatever an answer that is still being written leaves."""
        self.release()
        self._closed = True

    def release(self) -> None:
        """Hold nothing."""
        if self._tree is not None:
            self._tree.unpin(self._path)
        self._tree, self._path = None, []
