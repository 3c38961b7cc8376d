"""``pyqwen list``: the models on this machine, and those of the catalog."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pyqwen.cli.console import print_json, print_table
from pyqwen.cli.local_models import license_as_json, model_as_json
from pyqwen.cli.options import Verbs, add_json_option, add_verb

if TYPE_CHECKING:
    from pyqwen.catalog import License, LocalModel


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "list",
        run,
        summary="list the models on this machine and in the catalog",
        examples=("pyqwen list", "pyqwen list --json"),
    )
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    from pyqwen import catalog
    from pyqwen.units import format_bytes

    models = catalog.list_models()
    entries = catalog.entries()
    if args.json:
        known = [
            {
                "name": e.name,
                "repo": e.repo,
                "quant": e.default_quant,
                **license_as_json(e.license),
            }
            for e in entries
        ]
        print_json({"models": [model_as_json(model) for model in models], "catalog": known})
        return 0
    if models:
        print_table(
            [
                (m.name, format_bytes(m.size), _packed(m), _terms(m.license), str(m.path))
                for m in models
            ],
            ("ON THIS MACHINE", "SIZE", "PACKED", "LICENSE", "FILE"),
        )
        print()
    print_table(
        [(e.name, _terms(e.license), f"{e.repo}:{e.default_quant}") for e in entries],
        ("IN THE CATALOG", "LICENSE", "pyqwen pull NAME FETCHES"),
    )
    return 0


def _packed(model: LocalModel) -> str:
    """What its packed weights take in the cache."""
    from pyqwen.loading.packed_cache import stored_bytes
    from pyqwen.units import format_bytes

    size = stored_bytes(model.paths)
    return format_bytes(size) if size else "-"


def _terms(license: License | None) -> str:
    if license is None:
        return "not known"
    return f"{license.name}: {license.restriction}" if license.restriction else license.name
