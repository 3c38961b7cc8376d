"""``pyqwen serve``: models over HTTP."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from pyqwen.cli.adapters import add_adapter_option, named_adapters
from pyqwen.cli.console import UsageError, say
from pyqwen.cli.options import (
    Verbs,
    add_cache_option,
    add_context_option,
    add_draft_option,
    add_kv_type_option,
    add_threads_option,
    add_verb,
    given,
    positive_int,
)


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "serve",
        run,
        summary="answer clients of OpenAI, Anthropic, Ollama and llama.cpp over HTTP",
        description="With a web page. Only this machine can reach it unless --host says otherwise.",
        examples=(
            "pyqwen serve",
            "pyqwen serve -m qwen2.5-coder-1.5b -m qwen2.5-0.5b --port 11434",
            "PYQWEN_API_KEY=secret pyqwen serve --host 0.0.0.0",
            "OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=none some-program",
        ),
    )
    parser.add_argument(
        "-m",
        "--model",
        dest="models",
        action="append",
        metavar="MODEL",
        help="a model, by file or name; may be given several times: the first is loaded at once, the "
        "others when they are asked for (default: the default model)",
    )
    parser.add_argument(
        "--alias",
        dest="aliases",
        action="append",
        default=[],
        metavar="NAME",
        help="another name that clients may use; with several models the first alias is the first "
        "model's, and so on; '*': any name",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (%(default)s)"
    )
    parser.add_argument(
        "--port", type=_port, default=8080, metavar="N", help="port (%(default)s); 0: a free one"
    )
    parser.add_argument(
        "--api-key",
        dest="api_keys",
        action="append",
        metavar="KEY",
        help="a key that clients must send, also from PYQWEN_API_KEY, where others of this machine "
        "cannot read it; may be given several times",
    )
    parser.add_argument(
        "--allow-open",
        action="store_true",
        help="listen on an address that others can reach although no key is asked for",
    )
    parser.add_argument(
        "--allow-host",
        dest="hosts",
        action="append",
        default=[],
        metavar="NAME",
        help="a name of this server, such as that of a proxy, besides IP addresses and localhost",
    )
    parser.add_argument(
        "--cors",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="pages that may call, such as https://app.example; '*': all; may be given several times",
    )
    parser.add_argument(
        "--parallel",
        type=positive_int,
        metavar="N",
        help="requests that run together; more wait (default: 4)",
    )
    parser.add_argument(
        "--queue",
        type=_not_negative,
        default=64,
        metavar="N",
        help="requests that may wait for one model (%(default)s)",
    )
    parser.add_argument(
        "--unload-after",
        type=positive_int,
        metavar="SECONDS",
        help="free a model that nobody asked for so long (default: only for another one)",
    )
    add_context_option(parser)
    add_threads_option(parser)
    add_kv_type_option(parser)
    add_cache_option(parser)
    add_draft_option(parser)
    add_adapter_option(
        parser,
        "clients ask for it as a model of its own name, its file's; SCALE is what it then has (1)",
    )
    parser.add_argument("--no-ui", dest="ui", action="store_false", help="no web page")
    parser.add_argument(
        "--allow-pull", action="store_true", help="let clients fetch models (Ollama's /api/pull)"
    )


def run(args: argparse.Namespace) -> int:
    try:
        from pyqwen.serve import create_app
        from pyqwen.serve.run import is_loopback, open_socket, serve
    except ImportError as error:
        if error.name in ("starlette", "uvicorn", "msgspec", "h11"):
            raise UsageError(
                f"serve needs {error.name}, which comes with: pip install 'pyqwen[serve]'"
            ) from error
        raise
    keys = args.api_keys or [key for key in [os.environ.get("PYQWEN_API_KEY")] if key]
    if not keys and not is_loopback(args.host) and not args.allow_open:
        raise UsageError(
            f"others can reach {args.host}: give a key (--api-key, PYQWEN_API_KEY), or --allow-open "
            "to answer everybody"
        )
    from pyqwen.cli.inputs import find_model

    models = args.models or [None]
    sources = {name or _default_name(): str(find_model(name)) for name in models}
    options: dict[str, Any] = given(args, "context", "threads", "kv_type", "cache")
    if args.draft != "off":
        options["draft"] = args.draft if args.draft == "ngram" else find_model(args.draft)
    if args.parallel is not None:
        options["max_sequences"] = args.parallel
    paths, factors = named_adapters(args.adapters)
    if paths and len(models) > 1:
        raise UsageError("--adapter goes with one model: which of these is it for?")
    if paths:
        options["adapters"] = paths
    names = {_served_name(name): path for name, path in sources.items()}
    if len(names) < len(models):
        raise UsageError("two models have the same name; rename a file")
    try:
        app = create_app(
            names,
            aliases=args.aliases,
            api_key=keys,
            cors=args.cors,
            hosts=[*args.hosts, args.host],
            queue=args.queue,
            unload_after=args.unload_after,
            allow_pull=args.allow_pull,
            ui=args.ui,
            adapter_scales=factors,
            **options,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    try:
        sock = open_socket(args.host, args.port)
    except OSError as error:
        raise OSError(f"cannot listen on {args.host}:{args.port}: {error.strerror}") from error
    with sock:
        return serve(app, sock, lambda url: say(f"listening on {url}"))


def _default_name() -> str:
    from pyqwen import catalog

    return catalog.DEFAULT_MODEL


def _served_name(name: str) -> str:
    """What clients call a model: its name, or its file without the folder."""
    from pyqwen.catalog.names import parse_name

    if parse_name(name) is not None and not os.path.lexists(name):
        return name
    return Path(name).name.removesuffix(".gguf")


def _port(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return value


def _not_negative(text: str) -> int:
    return 0 if text.strip() == "0" else positive_int(text)
