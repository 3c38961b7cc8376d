"""What is known of a model file without opening the model, for the lists that Ollama's clients show."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyqwen.errors import PyQwenError
from pyqwen.serve.fields import RawJson
from pyqwen.serve.registry import Served


async def file_facts(served: Served) -> RawJson:
    """Size, date, digest, details and hyperparameters; looked up once for each model."""
    if not served.facts:
        served.facts = await asyncio.to_thread(_facts, served)
    return served.facts


def _facts(served: Served) -> RawJson:
    from pyqwen import catalog

    path = served.path
    if path is not None and not path.exists():
        path = catalog.locate(str(path))
    if path is None:
        return _record(served.name, 0, None, {}, {}, "", False)
    from pyqwen.loading.inspection import inspect

    try:
        facts = inspect(path)
    except (PyQwenError, OSError):
        return _record(served.name, path.stat().st_size, path, {}, {}, "", False)
    kinds = {kind: share.bytes for kind, share in facts.types.items()}
    architecture = str(facts.metadata.get("general.architecture", ""))
    details = {
        "family": architecture,
        "families": [architecture],
        "parameter_size": _short_count(facts.parameters),
        "quantization_level": max(kinds, key=kinds.__getitem__, default=""),
    }
    info: RawJson = {
        "general.architecture": architecture,
        "general.parameter_count": facts.parameters,
        "general.basename": facts.name or path.stem,
    }
    if facts.config is not None:
        info |= {
            f"{architecture}.context_length": facts.config.context,
            f"{architecture}.embedding_length": facts.config.hidden,
            f"{architecture}.block_count": facts.config.layers,
        }
    template = facts.chat_template or ""
    can_fill = "qwen" in architecture and "coder" in path.name.lower()
    return _record(
        served.name, facts.file_bytes, path, details, info, template, can_fill, facts.license
    )


def _record(
    name: str,
    size: int,
    path: Path | None,
    details: RawJson,
    info: RawJson,
    template: str,
    can_fill: bool,
    license_name: str | None = None,
) -> RawJson:
    changed = path.stat().st_mtime if path is not None else 0.0
    capabilities = ["completion"]
    if "tools" in template:
        capabilities.append("tools")
    if can_fill:
        capabilities.append("insert")
    if "<think>" in template or "enable_thinking" in template:
        capabilities.append("thinking")
    return {
        "size": size,
        "modified_at": datetime.fromtimestamp(changed, UTC).isoformat(),
        "digest": hashlib.sha256(f"{name} {size} {changed}".encode()).hexdigest(),
        "details": {"parent_model": "", "format": "gguf", **_DETAILS, **details},
        "model_info": info,
        "template": template,
        "license": license_name or "",
        "capabilities": capabilities,
    }


_DETAILS: dict[str, Any] = {
    "family": "",
    "families": [],
    "parameter_size": "",
    "quantization_level": "",
}


def _short_count(parameters: int) -> str:
    """``1.5B``, ``135M``."""
    if parameters >= 10**9:
        return f"{parameters / 1e9:.1f}B"
    return f"{parameters / 1e6:.0f}M"
