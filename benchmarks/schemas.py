"""How many schemas are accepted, and how many of the finished answers are valid.

    python benchmarks/schemas.py MODEL.gguf [--max-tokens 2048] [-j 8] [--only TEXT] [--sample N] [--show]

data/schemas.jsonl has 280 schemas: of what programs ask for, with references, and of all kinds that the JSON
Schema test suite knows, two of which nothing can meet. Each is asked for once; answers are validated by
``jsonschema``, with numbers as they are written. What is raised for an answer counts as invalid.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema

from pyqwen import ConstraintError, Model
from pyqwen.constraints.rewriting import modernized

DATA = Path(__file__).parent / "data" / "schemas.jsonl"


def is_valid(text: str, schema: Any) -> str:
    """Empty for a valid answer, else what is wrong with it."""
    exact = json.loads(json.dumps(modernized(schema)), parse_float=Decimal)
    try:
        answer = json.loads(text, parse_float=_exact)
        jsonschema.Draft202012Validator(exact).validate(answer)
    except (ValueError, ArithmeticError, jsonschema.ValidationError) as error:
        return str(error).partition("\n")[0]
    except re.error:  # a pattern that Python does not know, such as \\p{Lu}
        return ""
    return ""


def _exact(number: str) -> Decimal | float:
    try:
        return Decimal(number) if abs(Decimal(number).adjusted()) < 300 else float(number)
    except ArithmeticError:  # an exponent of 20 digits
        return float(number)


def ask(model: Model, item: dict[str, Any], max_tokens: int, seed: int) -> dict[str, Any]:
    start = time.monotonic()
    facts: dict[str, Any] = {"name": item["name"], "kind": item["kind"], "tokens": 0}
    prompt = (
        f"{item['prompt']}\nAnswer with JSON by this schema: {json.dumps(item['schema'])[:1500]}"
    )
    format_ = {"type": "json_schema", "json_schema": {"schema": item["schema"]}}
    try:
        done = model.chat(prompt, response_format=format_, seed=seed, max_tokens=max_tokens)
    except ConstraintError as error:
        text = error.completion.text if error.completion is not None else ""
        outcome = "invalid" if error.completion is not None else "refused"
        return {**facts, "outcome": outcome, "why": str(error), "text": text}
    why = is_valid(done.text, item["schema"]) if done.finish_reason == "stop" else ""
    outcome = "cut" if done.finish_reason == "length" else "invalid" if why else "valid"
    facts["tokens"] = done.usage.completion_tokens
    facts["unenforced"] = list(done.unenforced)
    facts["seconds"] = round(time.monotonic() - start, 1)
    return {**facts, "outcome": outcome, "why": why, "text": done.text}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--max-tokens", type=int, default=2048)
    parser.add_argument("-j", "--jobs", type=int, default=8)
    parser.add_argument("--only", default="", help="schemas whose name or kind has this in it")
    parser.add_argument("--sample", type=int, default=1, help="every n-th schema")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print the answers, too")
    args = parser.parse_args()
    items = [json.loads(line) for line in DATA.read_text("utf-8").splitlines()]
    items = [i for i in items if args.only in i["name"] + " " + i["kind"]][:: args.sample]
    counts: Counter[str] = Counter()
    tokens = 0
    start = time.process_time()
    with (
        Model(args.model, context=4096, max_sequences=args.jobs) as model,
        ThreadPoolExecutor(args.jobs) as pool,
    ):
        for i, result in enumerate(
            pool.map(lambda item: ask(model, item, args.max_tokens, args.seed), items), 1
        ):
            counts[result["outcome"]] += 1
            tokens += result["tokens"]
            if args.show or result["outcome"] != "valid":
                print(json.dumps(result, ensure_ascii=False)[:600], flush=True)
            if i % 50 == 0:
                print(f"{i} of {len(items)}: {dict(counts)}", flush=True)
    n, finished = len(items), counts["valid"] + counts["invalid"]
    print(
        f"{n} schemas: {100 * (n - counts['refused']) / n:.1f} % accepted; of {finished} finished "
        f"answers {100 * counts['valid'] / max(1, finished):.1f} % valid; {100 * counts['cut'] / n:.1f} % "
        f"cut at {args.max_tokens:,} tokens; {tokens:,} tokens, {time.process_time() - start:.0f} s of "
        "processor time"
    )


if __name__ == "__main__":
    main()
