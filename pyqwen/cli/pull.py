"""``pyqwen pull``: bring a model to this machine."""

from __future__ import annotations

import argparse

from pyqwen.cli.console import ProgressBar, print_json, say
from pyqwen.cli.local_models import model_as_json
from pyqwen.cli.options import Verbs, add_json_option, add_verb


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "pull",
        run,
        summary="fetch a model, or find it in the cache",
        description="Prints the path of its file. A file that is here already is checked against its "
        "SHA-256. An interrupted download is continued by the same command. With HF_HUB_OFFLINE=1 "
        "the network is not used.",
        examples=(
            "pyqwen pull qwen2.5-coder-1.5b",
            "pyqwen pull Qwen/Qwen2.5-0.5B-Instruct-GGUF:q8_0",
        ),
    )
    parser.add_argument("name", metavar="NAME", help="catalog name or Hugging Face REPO[:QUANT]")
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    from pyqwen import catalog
    from pyqwen.units import format_bytes

    with ProgressBar("downloading", "bytes") as bar:
        model = catalog.pull(args.name, progress=bar.update, say=bar.say, notice=bar.say)
    if args.json:
        print_json(model_as_json(model))
        return 0
    terms = f"{model.license.name}, {model.license.url}" if model.license else "not known"
    say(f"{model.name} ({format_bytes(model.size)}, from the {model.source}), license: {terms}")
    print(model.path)
    return 0
