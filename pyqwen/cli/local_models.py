"""Models on this machine, as JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyqwen.catalog import License, LocalModel


def model_as_json(model: LocalModel) -> dict[str, Any]:
    """A local model as ``list`` and ``pull`` print it."""
    from pyqwen.loading.packed_cache import stored_bytes

    return {
        "name": model.name,
        "path": str(model.path),
        "files": [str(path) for path in model.paths],
        "size": model.size,
        "packed_size": stored_bytes(model.paths),
        "sha256": list(model.sha256),
        "source": model.source,
        **license_as_json(model.license),
    }


def license_as_json(license: License | None) -> dict[str, Any]:
    """A license as ``list`` and ``pull`` print it; None is one that is not known."""
    return {
        "license": license.id if license else None,
        "license_url": license.url if license else None,
        "restriction": license.restriction if license else None,
    }
