"""Byte-level BPE (``tokenizer.ggml.model`` = "gpt2"): text to ids and ids to bytes.

The core does the work (csrc/tokenizer); this module makes ``str`` into what it takes, and keeps
Ctrl-C working meanwhile.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from pyqwen._native import CancelFlag
from pyqwen.interruptible import run_interruptibly
from pyqwen.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_LONG = 1 << 20  # bytes; such a text takes long enough that somebody may want to stop it
_SURROGATES = re.compile("[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]")


class ByteLevelBPE:
    """Encoder and byte table of one byte-level BPE vocabulary. Thread-safe."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._handle = vocabulary.handle

    def encode(self, texts: Sequence[str], control: bool) -> list[int]:
        """Ids of ``texts`` joined, whatever is in them; surrogates count as in UTF-16.

        With ``control``, control tokens are recognized inside each, but not across their ends.
        """
        try:
            parts = [text.encode("utf-8") for text in texts]
        except UnicodeEncodeError:
            parts = _without_surrogates(texts)
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        cuts = list(accumulate(map(len, parts)))[:-1]
        work = partial(self._handle.encode, data, control=control, cuts=cuts)
        if len(data) < _LONG or threading.current_thread() is not threading.main_thread():
            return work()
        cancel = CancelFlag()
        try:
            return run_interruptibly(cancel, partial(work, cancel=cancel))
        except RuntimeError:  # no thread could be started: then Ctrl-C has to wait
            return work()

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a token, which must be in range."""
        return self._handle.decode((token,))

    def all_bytes(self) -> tuple[bytes, npt.NDArray[np.uint32]]:
        """The bytes of all tokens, one after the other, and how many each has."""
        return self._handle.all_bytes()

    def decode(self, ids: Sequence[int]) -> bytes:
        """The bytes of tokens, which must be in range."""
        return self._handle.decode(ids)


def _without_surrogates(texts: Sequence[str]) -> list[bytes]:
    """``texts`` in UTF-8, which has no surrogates.

    A pair becomes the character it means, a lone one U+FFFD; each such character is a part of its
    own, lest the text of a control token comes of it that was not there before.
    """
    joined = "".join(texts)
    found = [match.span() for match in _SURROGATES.finditer(joined)]
    inside = {begin + 1 for begin, end in found if end - begin == 2}
    bounds = {0, *accumulate(map(len, texts)), *(i for span in found for i in span)} - inside
    return [
        joined[a:b].encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
        for a, b in pairwise(sorted(bounds))
    ]
