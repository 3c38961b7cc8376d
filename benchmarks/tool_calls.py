"""How often a model calls the right tool with the right arguments, and leaves tools alone where none is due.

    python benchmarks/tool_calls.py MODEL.gguf [--unseen] [--peer URL] [--modes MODE ...] [--json OUT]

``tool_prompts.json`` has eight tools and 60 prompts: 30 need calls, 8 of them two, and 30 need none. The
way tools are offered was chosen on them; ``tool_prompts_unseen.json`` has as many prompts for eight other
tools, written afterwards and never used to choose anything. Greedy, with the settings that are each
program's own. ``--peer`` asks llama.cpp's server (``llama-server -m MODEL.gguf -c 32768 -np 8``) the same.
An answer is right if its calls are the expected ones, in any order, with nothing missing, nothing added,
and every argument one of those that count as right.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

Call = dict[str, Any]
HERE = Path(__file__).parent
DATA: dict[str, list[Any]] = {}  # "tools" and "prompts", from a file
MODES = ("auto", "required", "named")
MOST_TOKENS = 160  # of an answer; calls are shorter


def is_right(call: Call, wanted: Call) -> bool:
    """Whether a call is one that was wanted. A choice None: the argument may be left out."""
    if call["name"] != wanted["name"]:
        return False
    choices, given = wanted["arguments"], call["arguments"]
    if not isinstance(given, dict) or set(given) - set(choices):
        return False
    return all(_fits(given.get(name), right) for name, right in choices.items())


def _fits(value: Any, choices: list[Any]) -> bool:
    if isinstance(value, str):
        plain = value.strip().rstrip(";").casefold()
        return any(isinstance(c, str) and c.casefold() == plain for c in choices)
    return any(value == c and isinstance(value, bool) == isinstance(c, bool) for c in choices)


def all_right(calls: list[Call], wanted: list[Call]) -> bool:
    left = list(calls)
    for one in wanted:
        match = next((call for call in left if is_right(call, one)), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def tasks(mode: str) -> list[dict[str, Any]]:
    """The prompts of a mode, with its ``tool_choice``. Only auto has those that need no tool."""
    found = []
    for prompt in DATA["prompts"]:
        calls = prompt["calls"]
        if mode == "auto":
            found.append({**prompt, "choice": "auto"})
        elif mode == "required" and calls:
            found.append({**prompt, "choice": "required"})
        elif mode == "named" and calls:
            named = [call for call in calls if call["name"] == calls[0]["name"]]
            found.append({**prompt, "calls": named, "choice": calls[0]["name"]})
    return found


def judge(mode: str, answers: list[dict[str, Any]]) -> dict[str, Any]:
    """What the answers (tasks with ``made``, ``text``) come to. Named: one right call is enough."""

    def right(answer: dict[str, Any]) -> bool:
        if mode == "named":
            made = answer["made"]
            return len(made) == 1 and any(is_right(made[0], call) for call in answer["calls"])
        return all_right(answer["made"], answer["calls"])

    needed = [answer for answer in answers if answer["calls"]]
    others = [answer for answer in answers if not answer["calls"]]
    names = [
        sorted(c["name"] for c in a["made"]) == sorted(c["name"] for c in a["calls"])
        or (mode == "named" and [c["name"] for c in a["made"]] == [a["choice"]])
        for a in needed
    ]
    single = [a for a in needed if len(a["calls"]) == 1]
    result: dict[str, Any] = {
        "prompts": len(answers),
        "right": sum(map(right, needed)),
        "right names": sum(names),
        "of": len(needed),
        "right, one call": sum(map(right, single)),
        "of one call": len(single),
    }
    if others:
        result["free of calls"] = sum(not a["made"] for a in others)
        result["of no calls"] = len(others)
    return result


async def ask_pyqwen(path: str, mode: str, at_once: int) -> list[dict[str, Any]]:
    from pyqwen import Model

    with Model(path, context=4096, max_sequences=at_once) as model:

        async def ask(task: dict[str, Any]) -> dict[str, Any]:
            reply = await model.achat(
                task["prompt"],
                tools=DATA["tools"],
                tool_choice=task["choice"],
                temperature=0,
                max_tokens=MOST_TOKENS,
            )
            made = [
                {"name": call.name, "arguments": call.arguments, "error": call.error}
                for call in reply.tool_calls
            ]
            return {**task, "made": made, "text": reply.text, "ended": reply.finish_reason}

        todo = tasks(mode)
        first = await ask(todo[0])  # the others find its beginning in the cache
        return [first, *await asyncio.gather(*map(ask, todo[1:]))]


def ask_llama(server: str, mode: str, at_once: int) -> list[dict[str, Any]]:
    """llama.cpp's server at an address, with the template of the file."""
    import urllib.request
    from concurrent.futures import ThreadPoolExecutor

    url = f"{server.rstrip('/')}/v1/chat/completions"

    def ask(task: dict[str, Any]) -> dict[str, Any]:
        choice, tools = task["choice"], DATA["tools"]
        if mode == "named":  # it knows no names: it is offered this tool alone
            tools = [tool for tool in tools if tool["function"]["name"] == choice]
            choice = "required"
        body = {
            "messages": [{"role": "user", "content": task["prompt"]}],
            "tools": tools,
            "tool_choice": choice,
            "parallel_tool_calls": mode != "named",
            "temperature": 0,
            "max_tokens": MOST_TOKENS,
        }
        request = urllib.request.Request(
            url, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            answer = json.load(response)["choices"][0]
        made = []
        for call in answer["message"].get("tool_calls") or []:
            try:
                arguments = json.loads(call["function"]["arguments"])
            except ValueError:
                arguments = None
            made.append({"name": call["function"]["name"], "arguments": arguments})
        text = answer["message"].get("content") or ""
        return {**task, "made": made, "text": text, "ended": answer["finish_reason"]}

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(ask, tasks(mode)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--unseen", action="store_true", help="prompts that nothing was chosen on")
    parser.add_argument("--peer", metavar="URL", help="ask this server of llama.cpp instead")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--parallel", type=int, default=8, help="prompts at once (8)")
    parser.add_argument("--json", type=Path, help="write all answers here")
    arguments = parser.parse_args()
    prompts = "tool_prompts_unseen.json" if arguments.unseen else "tool_prompts.json"
    DATA.update(json.loads((HERE / prompts).read_text("utf-8")))
    report: dict[str, Any] = {"model": Path(arguments.model).name}
    for mode in arguments.modes:
        start = time.process_time()
        if arguments.peer:
            answers = ask_llama(arguments.peer, mode, arguments.parallel)
        else:
            answers = asyncio.run(ask_pyqwen(arguments.model, mode, arguments.parallel))
        report[mode] = {
            **judge(mode, answers),
            "processor seconds": round(time.process_time() - start),
        }
        print(mode, json.dumps(report[mode]), flush=True)
        if arguments.json:
            report[mode]["answers"] = answers
            arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
