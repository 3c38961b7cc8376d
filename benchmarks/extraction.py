"""What constraints do to the content of answers: facts extracted from 60 texts, by policy.

    python benchmarks/extraction.py MODEL.gguf [--texts N] [--policies free,flexible,...]

Each text comes with the right answer (data/extraction.jsonl: a line with a task, then its texts). Counted
are the fields that are right: strings but for case and outer blanks, numbers by value, lists by their common
part. Policies: ``free`` asks for JSON without a constraint and takes it out of a Markdown fence; ``flexible``
and ``compact`` constrain, the answer begins with ``{``; ``fence`` lets the model write the fence around it,
which is cut; ``prefill`` puts the fence's beginning into the prompt, ``prefill-compact`` the same with
compact JSON; ``penalties`` is ``flexible`` with the penalties that the model recommends for prose.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pyqwen import Constraint, Model

DATA = Path(__file__).parent / "data" / "extraction.jsonl"
FENCE = "```json\n"
POLICIES = ("free", "flexible", "compact", "fence", "prefill", "prefill-compact", "penalties")


def read_tasks() -> list[tuple[dict[str, Any], str, Any]]:
    """(task, text, answer) of all texts, the tasks in turn."""
    tasks: list[list[Any]] = []
    for line in DATA.read_text("utf-8").splitlines():
        item = json.loads(line)
        if "schema" in item:
            tasks.append([item])
        else:
            tasks[-1].append((tasks[-1][0], item["text"], item["answer"]))
    columns = zip(*(texts[1:] for texts in tasks), strict=True)
    return [item for column in columns for item in column]


def right_fields(answer: Any, wanted: Any) -> tuple[float, float]:
    """How many fields are right, and how many there are."""
    if isinstance(wanted, dict):
        given = answer if isinstance(answer, dict) else {}
        parts = [right_fields(given.get(name), value) for name, value in wanted.items()]
        return sum(p[0] for p in parts), sum(p[1] for p in parts)
    if isinstance(wanted, list):
        given = answer if isinstance(answer, list) else [answer]
        if not wanted:
            return float(answer == []), 1.0
        length = max(len(given), len(wanted))
        if isinstance(wanted[0], dict):
            filled = [*given, *[None] * length][: len(wanted)]
            parts = [right_fields(g, w) for g, w in zip(filled, wanted, strict=True)]
            extra = max(0, len(given) - len(wanted)) * len(wanted[0])
            return sum(p[0] for p in parts), sum(p[1] for p in parts) + extra
        common = {_plain(g) for g in given} & {_plain(w) for w in wanted}
        return len(common) / length, 1.0
    return float(_plain(answer) == _plain(wanted)), 1.0


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip().casefold()
    return value if isinstance(value, bool | int | float | None) else repr(value)


def prompt_of(model: Model, policy: str, task: dict[str, Any], text: str) -> list[int]:
    """The prompt as ids, with the beginning of the fence where the policy has it."""
    schema = json.dumps(task["schema"], ensure_ascii=False)
    content = f"{task['instruction']}\nAnswer with JSON by this schema: {schema}\n\nText:\n{text}"
    rendered = model.chat_template.render([{"role": "user", "content": content}])
    ids = model.tokenizer.encode_segments(rendered.segments)
    return ids + (model.tokenizer.encode(FENCE) if policy.startswith("prefill") else [])


def constraint_of(policy: str, schema: Any) -> Constraint | None:
    if policy == "free":
        return None
    if policy == "fence":
        both = json.dumps({"x-guidance": {"whitespace_pattern": r"\n[ ]{0,16}|[ ]"}, **schema})
        return Constraint.lark(f'start: "```json\\n" body "\\n```" | body\nbody: %json {both}\n')
    return Constraint.json(schema, whitespace="compact" if "compact" in policy else "flexible")


def read_answer(text: str) -> Any:
    fenced = re.search(r"```(?:json)?\n(.*?)(?:```|$)", text, re.DOTALL)
    try:
        return json.loads(fenced[1] if fenced else text)
    except ValueError:
        return None


def ask(model: Model, policy: str, item: Any, max_tokens: int) -> dict[str, float]:
    task, text, wanted = item
    penalty = model.defaults.repetition_penalty if policy in ("free", "penalties") else 1.0
    done = model.generate(
        prompt_of(model, policy, task, text),
        response_format=constraint_of(policy, task["schema"]),
        temperature=0,
        repetition_penalty=penalty,
        max_tokens=max_tokens,
    )
    answer = read_answer(done.text)
    right, of = right_fields(answer, wanted)
    tokens = done.usage.completion_tokens
    return {"right": right, "fields": of, "readable": answer is not None, "tokens": tokens}


def report(policy: str, results: list[dict[str, float]]) -> str:
    total = {name: sum(result[name] for result in results) for name in results[0]}
    n = len(results)
    return (
        f"{policy:16} {n:3} texts  {100 * total['right'] / total['fields']:5.1f} % of "
        f"{total['fields']:.0f} fields right  {100 * total['readable'] / n:5.1f} % readable  "
        f"{total['tokens'] / n:5.1f} tokens"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--texts", type=int, default=60)
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--max-tokens", type=int, default=400)
    args = parser.parse_args()
    policies = args.policies.split(",")
    results: dict[str, list[dict[str, float]]] = {policy: [] for policy in policies}
    start = time.process_time()
    with (
        Model(args.model, context=4096, max_sequences=len(policies) + 1) as model,
        ThreadPoolExecutor(len(policies)) as pool,
    ):
        for i, item in enumerate(read_tasks()[: args.texts], 1):
            model.generate(prompt_of(model, "free", *item[:2]), max_tokens=0)  # read once for all
            answers = pool.map(lambda p, item=item: ask(model, p, item, args.max_tokens), policies)
            for policy, result in zip(policies, answers, strict=True):
                results[policy].append(result)
            if i % 10 == 0 or i == args.texts:
                print(f"after {time.process_time() - start:.0f} s of processor time", flush=True)
                for policy in policies:
                    print(report(policy, results[policy]), flush=True)


if __name__ == "__main__":
    main()
