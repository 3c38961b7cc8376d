"""``pyqwen rm``: delete a model from the cache."""

from __future__ import annotations

import argparse

from pyqwen.cli.options import Verbs, add_verb


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "rm",
        run,
        summary="delete a model from the cache, with its packed weights",
        description="Deletes without asking; a file outside the caches is never touched.",
        examples=("pyqwen rm smollm2-135m",),
    )
    parser.add_argument("name", metavar="NAME", help="a name that pyqwen list shows")


def run(args: argparse.Namespace) -> int:
    from pyqwen import catalog
    from pyqwen.loading import packed_cache

    for path in (*catalog.remove(args.name).paths, *packed_cache.prune()):
        print(f"removed {path}")
    return 0
