"""What constraints cost: processor time per token, and the time before the first token.

    python benchmarks/constraint_cost.py MODEL.gguf [--runs 5] [--tokens 120]

Constrained and free answers alternate. The first token's time is that of an ordinary schema, one that was not
used before, when the vocabulary for grammars is there already. Wall times mean something on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

from pyqwen import Constraint, Model

PROMPT = "List ten cities in Europe with country, population and two sights each, as JSON."
CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "country": {"type": "string"},
        "population": {"type": "integer"},
        "sights": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
    },
    "required": ["city", "country", "population", "sights"],
    "additionalProperties": False,
}
SCHEMA = {"type": "array", "items": CITY, "minItems": 10, "maxItems": 10}


def fresh(i: int) -> Constraint:
    """An ordinary schema that was not used before."""
    return Constraint.json({**SCHEMA, "title": f"Cities {i}"})


def measure(model: Model, constraint: Constraint | None, tokens: int) -> dict[str, float]:
    start, cpu = time.perf_counter(), time.process_time()
    first = 0.0
    with model.stream_chat(
        PROMPT,
        response_format=constraint,
        temperature=0,
        repetition_penalty=1.0,
        max_tokens=tokens,
        ignore_eos=True,
    ) as stream:
        for _ in stream:
            first = first or time.perf_counter() - start
        done = stream.result()
    n = done.usage.completion_tokens
    wall = time.perf_counter() - start - first
    return {
        "cpu_ms": 1e3 * (time.process_time() - cpu) / n,
        "wall_ms": 1e3 * wall / max(1, n - 1),
        "first_ms": 1e3 * first,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=120)
    args = parser.parse_args()
    with Model(args.model, context=2048) as model:
        measure(model, None, 8)
        start, cpu = time.perf_counter(), time.process_time()
        measure(model, fresh(-1), 1)
        setup: dict[str, Any] = {
            "first_constraint_ms": round(1e3 * (time.perf_counter() - start)),
            "first_constraint_cpu_ms": round(1e3 * (time.process_time() - cpu)),
        }
        free, bound = [], []
        for i in range(args.runs):
            free.append(measure(model, None, args.tokens))
            bound.append(measure(model, fresh(i), args.tokens))
    for name in ("cpu_ms", "wall_ms", "first_ms"):
        a, b = (statistics.median(run[name] for run in runs) for runs in (free, bound))
        setup[name] = {"free": round(a, 2), "constrained": round(b, 2), "ratio": round(b / a, 3)}
    print(json.dumps(setup, indent=2))


if __name__ == "__main__":
    main()
