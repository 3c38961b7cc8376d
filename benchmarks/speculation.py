"""Tokens per second with and without drafts, and what the drafts were worth: pyqwen beside itself.

  python benchmarks/speculation.py MODEL.gguf --draft SMALLER.gguf -t 2        # about 4 minutes for a 1.5B
  python benchmarks/speculation.py MODEL.gguf --cases edit,story --rounds 3
  python benchmarks/speculation.py MODEL.gguf --peer-python OTHER/bin/python   # xllamacpp is installed there

Every round runs each case once with each way to draft, in an order that turns from round to round, and
checks that the answers are the same. Rates are of decoding, from the first token to the last; ratios are
those of one round, and the table has their median. Answers of earlier rounds are forgotten, as they would
be looked up. llama.cpp writes other answers than pyqwen: it is compared by its own gain.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from pyqwen import ChatCompletion, Model
from pyqwen.engine.ngrams import RecentAnswers

CODE = '''\
def load_config(path):
    """Read a configuration file and return its settings."""
    settings = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            if "=" not in line:
                raise ValueError(f"{path}:{number}: no equals sign")
            key, value = line.split("=", 1)
            settings[key.strip()] = value.strip()
    return settings


def save_config(path, settings):
    """Write settings to a configuration file."""
    with open(path, "w", encoding="utf-8") as file:
        for key, value in sorted(settings.items()):
            file.write(f"{key} = {value}\\n")
'''
REPORT = """\
On 3 March the station at Bergen counted 412 passengers, 37 bicycles and 5 dogs. On 4 March the station at
Bergen counted 388 passengers, 41 bicycles and 2 dogs. On 3 March the station at Voss counted 127
passengers, 64 bicycles and 9 dogs. On 4 March the station at Voss counted 143 passengers, 58 bicycles and
11 dogs. On 3 March the station at Flam counted 96 passengers, 12 bicycles and 3 dogs.
"""
LABELS = """\
{
  "menu.file.open": "Open file",
  "menu.file.save": "Save file",
  "menu.file.close": "Close file",
  "menu.edit.undo": "Undo the last change",
  "menu.edit.redo": "Redo the last change",
  "dialog.quit.title": "Quit the program?",
  "dialog.quit.text": "Some files have not been saved yet.",
  "dialog.quit.confirm": "Quit without saving"
}
"""
COPYING = ("edit", "rename", "table", "translate")
CASES = {
    "edit": f"Add type hints to both functions and change nothing else. Answer with the whole code only.\n\n"
    f"```python\n{CODE}```",
    "rename": f"Rename the variable `settings` to `options` everywhere and change nothing else. Answer with "
    f"the whole code only.\n\n```python\n{CODE}```",
    "table": f"Make a Markdown table of this report with the columns Date, Station, Passengers, Bicycles and "
    f"Dogs. Answer with the table only.\n\n{REPORT}",
    "translate": f"Translate the values of this JSON into German, keep the keys. Answer with the JSON only."
    f"\n\n```json\n{LABELS}```",
    "chat": "What is the difference between a process and a thread, and when should I use which?",
    "story": "Tell me a story about a lighthouse keeper who finds a map.",
}
GOALS = {case: 2.2 if case in COPYING else 0.97 for case in CASES}


def ask(model: Model, case: str, temperature: float, tokens: int) -> ChatCompletion:
    drafts = model._engine._speculator
    drafts.recent = RecentAnswers()
    return model.chat(CASES[case], temperature=temperature, seed=1, max_tokens=tokens)


def measure(args: argparse.Namespace, ways: dict[str, Model]) -> list[dict[str, Any]]:
    rows = []
    for model in ways.values():  # pages of the file, costs of rows
        model.chat("Count from 1 to 20.", temperature=0, max_tokens=24)
    for number in range(args.rounds):
        for temperature in args.temperatures:
            for case in args.cases:
                order = list(ways)
                turn = number + args.cases.index(case)
                answers = {}
                for name in order[turn % len(order) :] + order[: turn % len(order)]:
                    start = time.process_time()
                    done = answers[name] = ask(ways[name], case, temperature, args.tokens)
                    rows.append(
                        {
                            "round": number,
                            "case": case,
                            "temperature": temperature,
                            "way": name,
                            "tokens": len(done.token_ids),
                            "rate": done.timings.decode_tokens_per_second,
                            "processor_seconds": time.process_time() - start,  # with the prompt
                            "drafted": done.timings.drafted,
                            "accepted": done.timings.accepted,
                        }
                    )
                    print(".", end="", file=sys.stderr, flush=True)
                assert len({tuple(done.token_ids) for done in answers.values()}) == 1, case
    print(file=sys.stderr)
    return rows


def peer(args: argparse.Namespace) -> list[dict[str, Any]]:
    """llama.cpp, by a process of its own for each way to draft: see xllamacpp_worker.py."""
    worker = Path(__file__).with_name("xllamacpp_worker.py")
    rows = []
    for way in args.peer_ways:
        job = {
            "model": str(args.model),
            "draft": str(args.draft) if args.draft else None,
            "threads": args.threads,
            "way": way,
            "tokens": args.tokens,
            "prompts": [[case, t, CASES[case]] for t in args.temperatures for case in args.cases],
        }
        command = [args.peer_python, str(worker), json.dumps(job)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows += [{"round": 0, **row} for row in json.loads(done.stdout.splitlines()[-1])]
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return rows


def table(rows: list[dict[str, Any]], base: str) -> str:
    """A line for each case and temperature: the rate without drafts, and ratios and acceptance with."""
    ways = list(dict.fromkeys(row["way"] for row in rows if row["way"] != base))
    head = ["case", "temperature", f"{base}, tokens/s"]
    head += [f"{way}: times, accepted of drafted" for way in ways]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for case, temperature in dict.fromkeys((row["case"], row["temperature"]) for row in rows):
        these = [r for r in rows if (r["case"], r["temperature"]) == (case, temperature)]
        alone = {row["round"]: row["rate"] for row in these if row["way"] == base}
        cells = [case, str(temperature), f"{median(alone.values()):.1f}"]
        for way in ways:
            mine = [row for row in these if row["way"] == way]
            ratio = median([row["rate"] / alone[row["round"]] for row in mine])
            drafted, accepted = (sum(row[key] for row in mine) for key in ("drafted", "accepted"))
            share = f"{accepted / drafted:.0%} of {drafted}" if drafted else "none"
            cells.append(f"{ratio:.2f}, {share}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--draft", type=Path, help="a smaller model that drafts")
    parser.add_argument("-t", "--threads", type=int)
    parser.add_argument("--cases", type=lambda text: text.split(","), default=list(CASES))
    parser.add_argument(
        "--temperatures", type=lambda text: [float(t) for t in text.split(",")], default=[0.0, 0.7]
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--peer-python", help="a Python with xllamacpp, to measure llama.cpp, too")
    parser.add_argument(
        "--peer-ways",
        type=lambda text: text.split(","),
        default=["none", "ngram_simple", "ngram_mod", "ngram_map_k"],
        help="none, ngram_simple, ngram_mod, ngram_map_k, ngram_map_k4v, ngram_cache, draft",
    )
    parser.add_argument("--save", type=Path, help="write all measurements to this file, as JSON")
    args = parser.parse_args()
    settings: dict[str, Any] = {"context": 4096, "threads": args.threads, "max_sequences": 1}
    drafts: dict[str, Any] = {"without": None, "ngram": "ngram"}
    if args.draft:
        drafts[args.draft.stem] = args.draft
    ways = {name: Model(args.model, draft=draft, **settings) for name, draft in drafts.items()}
    first = ways["without"]
    print(
        f"{args.model.name}, {first.isa}, {first.threads} threads, {args.tokens} tokens at most\n"
    )
    rows = measure(args, ways)
    for model in ways.values():
        model.close()
    print(table(rows, "without"))
    if args.peer_python:
        theirs = peer(args)
        print(f"\nllama.cpp\n\n{table(theirs, 'none')}")
        rows += [{**row, "way": f"llama.cpp {row['way']}"} for row in theirs]
    if args.save:
        args.save.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
