"""Rows of batches, and what came back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

URL = "/v1/chat/completions"


def row(custom_id: Any, content: str = "Hello!", url: str = URL, **body: Any) -> dict[str, Any]:
    """A chat of one message, answered greedily with few tokens, unless ``body`` says otherwise."""
    usual = {"messages": [{"role": "user", "content": content}]} if url == URL else {}
    whole = {**usual, "max_tokens": 3, "temperature": 0, **body}
    if url == "/v1/responses":
        whole["max_output_tokens"] = whole.pop("max_tokens")
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": whole}


def answers(path: Path) -> dict[str, Any]:
    """The rows of an output by their custom_id, each of which is there once."""
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    by_name = {one["custom_id"]: one for one in rows}
    assert len(by_name) == len(rows), "a row is there twice"
    return by_name


def text(answer: Any) -> str:
    """What a chat answered."""
    return str(answer["response"]["body"]["choices"][0]["message"]["content"])
