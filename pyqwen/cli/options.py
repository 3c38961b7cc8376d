"""Arguments that several verbs share, spelled as in llama.cpp where it has them."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from typing import Any, TypeAlias

from pyqwen.cli.console import UsageError
from pyqwen.sampling import SAMPLERS

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

LARGEST = 2**31 - 1  # what the C core counts with
RANDOM_SEED = -1  # llama.cpp's word for none
KV_TYPES = (
    "f16",
    "q8_0",
    "f32",
    "q4_0",
    "q5_1",
)  # those of the core, which is not loaded to show the help

# Flag, name of the field of SamplingParams, type, help. A flag that is not given leaves the model's
# own default in force.
_SAMPLING: tuple[tuple[str, str, type, str], ...] = (
    ("--temp", "temperature", float, "temperature; 0 always takes the likeliest token"),
    ("--top-k", "top_k", int, "sample from the K likeliest tokens; 0 or -1: all"),
    ("--top-p", "top_p", float, "sample from the likeliest tokens that hold this probability"),
    ("--min-p", "min_p", float, "drop tokens less likely than this times the likeliest"),
    (
        "--repeat-penalty",
        "repetition_penalty",
        float,
        "penalty of tokens in the text so far; 1: off",
    ),
    (
        "--presence-penalty",
        "presence_penalty",
        float,
        "penalty of tokens used in the answer; 0: off",
    ),
    ("--frequency-penalty", "frequency_penalty", float, "the same for each time they were used"),
    ("--typical", "typical_p", float, "sample from tokens about as surprising as usual; 1: off"),
    (
        "--dry-multiplier",
        "dry_multiplier",
        float,
        "penalty of tokens that repeat a run of tokens of the text so far; 0: off",
    ),
    ("--dry-base", "dry_base", float, "what each further token of the run multiplies it by: 1.75"),
    ("--dry-allowed-length", "dry_allowed_length", int, "the shortest run that is penalized: 2"),
    (
        "--xtc-probability",
        "xtc_probability",
        float,
        "how often the likeliest tokens are left out but for one; 0: off",
    ),
    (
        "--xtc-threshold",
        "xtc_threshold",
        float,
        "the probability from which tokens are likely: 0.1",
    ),
    (
        "--top-nsigma",
        "top_n_sigma",
        float,
        "drop logits more standard deviations below the largest than this; 0 or -1: off",
    ),
    ("--seed", "seed", int, "the same seed gives the same answer; -1: another one each time"),
)

# Names of llama.cpp that are not ours.
_SAMPLER_NAMES = {
    "typ_p": "typical_p",
    "typical": "typical_p",
    "typ": "typical_p",
    "temp": "temperature",
}

# The flags without their dashes, as /set of pyqwen chat takes them.
SAMPLING_FLAGS = {flag.removeprefix("--"): field for flag, field, _, _ in _SAMPLING}


def add_verb(
    verbs: Verbs,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    summary: str,
    description: str = "",
    examples: tuple[str, ...],
) -> argparse.ArgumentParser:
    """Add a verb; ``run`` gets the parsed arguments and returns the exit code."""
    parser = verbs.add_parser(
        name,
        help=summary,
        description=textwrap.fill(f"{summary[0].upper()}{summary[1:]}. {description}", 80),
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, parser=parser)
    add_debug_option(parser)
    return parser


def add_debug_option(parser: argparse.ArgumentParser) -> None:
    """``--debug``, which may stand before or after the verb."""
    parser.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show the debug log, and the traceback of an error",
    )


def add_model_option(
    parser: argparse.ArgumentParser, *, fetches: bool = True, default: str = "the default model"
) -> None:
    """``-m``; ``fetches`` says whether the verb downloads a model that is not here."""
    parser.add_argument(
        "-m",
        "--model",
        metavar="MODEL",
        help="GGUF file, name in the catalog (pyqwen list) or Hugging Face REPO[:QUANT]; "
        + (
            f"without it {default}, which is fetched on first use"
            if fetches
            else f"without it {default}; it must be on this machine (pyqwen pull)"
        ),
    )


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def add_context_option(parser: argparse.ArgumentParser, default: int | None = None) -> None:
    parser.add_argument(
        "-c",
        "--ctx-size",
        dest="context",
        type=positive_int,
        default=default,
        metavar="N",
        help="longest text in tokens (default: %s)" % (default or "what the model was trained for"),
    )


def add_threads_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-t",
        "--threads",
        type=positive_int,
        metavar="N",
        help="threads (default: PYQWEN_THREADS, or one for each fast core)",
    )


def add_kv_type_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kv-type",
        type=kv_type,
        metavar="T|TK,TV",
        help=f"type of the key/value cache, or those of keys and values: {', '.join(KV_TYPES)}; auto: "
        "f16, or the best smaller one where the context would not fit (default: f16)",
    )


def kv_type(text: str) -> str | tuple[str, str]:
    """``T``, ``TK,TV`` or ``auto``."""
    names = text.split(",")
    if text == "auto":
        return text
    if len(names) > 2 or not set(KV_TYPES).issuperset(names):
        raise argparse.ArgumentTypeError(
            f"{text!r}: take one of {', '.join(KV_TYPES)}, auto, or two for keys and values such as q8_0,q5_1"
        )
    return names[0] if len(names) == 1 else (names[0], names[1])


def add_cache_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-cache",
        dest="cache",
        action="store_false",
        help="neither use nor keep packed weights in the cache (they make the next start faster)",
    )


def add_draft_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--draft",
        metavar="ngram|MODEL|off",
        default="ngram",
        help="what guesses the next tokens, so that one pass checks several: look them up in the "
        "text, a smaller model of the same vocabulary, or nothing; the answer is the same "
        "(default: ngram)",
    )


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "sampling", "What is not given is taken from the model: pyqwen inspect shows its defaults."
    )
    for flag, field, kind, text in _SAMPLING:
        group.add_argument(
            flag, dest=field, type=kind, metavar="X" if kind is float else "N", help=text
        )
    group.add_argument(
        "--dry-sequence-breaker",
        dest="dry_breakers",
        action="append",
        type=text_argument,
        metavar="TEXT",
        help="a text that such runs do not reach across, instead of line break, colon, quotation mark "
        "and asterisk; may be given several times; none: no text at all",
    )
    group.add_argument(
        "--samplers",
        type=_sampler_names,
        metavar="A;B;...",
        help="what of all this is applied, and in which order (default: "
        + ";".join(SAMPLERS)
        + ")",
    )


def add_generation_options(parser: argparse.ArgumentParser) -> None:
    """What ``run`` and ``chat`` share: the model, its memory, the system prompt, sampling."""
    add_model_option(parser)
    parser.add_argument("-s", "--system", type=text_argument, metavar="TEXT", help="system prompt")
    parser.add_argument(
        "-n",
        "--max-tokens",
        type=_token_limit,
        metavar="N",
        help="longest answer in tokens; -1: to the end of the context (default: the same, but at "
        "most 8192)",
    )
    parser.add_argument(
        "--stop",
        action="append",
        type=text_argument,
        metavar="TEXT",
        help="a text that ends the answer and is not shown; may be given several times",
    )
    add_context_option(parser)
    add_threads_option(parser)
    add_kv_type_option(parser)
    add_cache_option(parser)
    add_draft_option(parser)
    add_sampling_options(parser)


def given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return those of the named arguments that the user gave."""
    return {name: value for name in names if (value := getattr(args, name)) is not None}


def generation_overrides(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings the user gave, by their names in ``SamplingParams``, checked."""
    from pyqwen import SamplingParams

    names = ("max_tokens", "stop", "dry_breakers", "samplers", *SAMPLING_FLAGS.values())
    overrides = given(args, *names)
    breakers = overrides.get("dry_breakers", [])
    if "none" in breakers:  # llama.cpp's word; what comes after it counts
        overrides["dry_breakers"] = breakers[len(breakers) - breakers[::-1].index("none") :]
    if overrides.get("seed") == RANDOM_SEED:
        del overrides["seed"]
    try:
        SamplingParams(**overrides)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return overrides


def text_argument(argument: str) -> str:
    """An argument that is text for a model; Python has decoded it, whatever bytes were given."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(
            f"{argument!r} is not UTF-8 text; convert it first (iconv)"
        ) from None
    return argument


def _sampler_names(text: str) -> list[str]:
    """``top_k;temperature``, also by llama.cpp's names."""
    names = [name.strip().replace("-", "_") for name in text.split(";") if name.strip()]
    return [_SAMPLER_NAMES.get(name, name) for name in names]


def _token_limit(text: str) -> int:
    return LARGEST if text.strip() == "-1" else positive_int(text)


def positive_int(text: str) -> int:
    value = _whole_number(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def int_list(text: str) -> list[int]:
    """``512`` or ``128,512``: whole numbers from 0 on."""
    values = [_whole_number(part) for part in text.split(",")]
    if min(values) < 0:
        raise argparse.ArgumentTypeError(f"{min(values)} is negative")
    return values


def _whole_number(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if value > LARGEST:
        raise argparse.ArgumentTypeError(f"{text} is more than {LARGEST:,}")
    return value
