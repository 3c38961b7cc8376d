"""A way to name the tokens of a tiny model that write a text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pyqwen import Model


@pytest.fixture(scope="session")
def byte_tokens() -> Callable[[Model, str], list[int]]:
    """Token ids that write a text byte by byte."""

    def ids(model: Model, text: str) -> list[int]:
        by_bytes = {model.tokenizer.token_bytes(i): i for i in range(model.tokenizer.vocab_size)}
        return [by_bytes[bytes([value])] for value in text.encode()]

    return ids
