"""llama.cpp's own tests of its server, run against `pyqwen serve`: which pass, and why others cannot.

    python benchmarks/llama_server_tests.py FOLDER MODEL.gguf [-o results/llama-server-tests.md]

FOLDER is tools/server/tests of llama.cpp (llama-cpp-python's source distribution has it in vendor/llama.cpp);
nothing of it is copied or changed. Its tests want a model of their own from the network, and start their
server with many flags; here they meet one that runs already (DEBUG_EXTERNAL), with another model. So those
cannot pass that assert words or token counts of that model, or need other flags. Needs openai, requests,
aiohttp, wget, prometheus-client, pytest and pytest-timeout. Takes about five minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

KEY = "sk-this-is-the-secret-key"  # of their tests

# What a whole file is about, where that is nothing of pyqwen serve.
OTHER_FEATURES = {
    "test_compat_gcp": "Google's prediction protocol",
    "test_ctx_shift": "context shift: pyqwen never drops text silently",
    "test_kv_keep_only_active": "flags of llama.cpp's cache",
    "test_lora": "adapters, and a model from the network",
    "test_mcp_servers": "MCP in the server",
    "test_proxy": "llama.cpp's proxy",
    "test_rerank": "reranking",
    "test_router": "processes of a router",
    "test_sleep": "llama.cpp's sleep",
    "test_slot_save": "slots in files",
    "test_speculative": "a draft model from the network",
    "test_tools_builtin": "tools inside the server",
    "test_vision_api": "images",
    "test_embedding": "an embedding model from the network",
    "test_template": "templates given by flags",
    "test_stream": "streams that are resumed",
}

# Name of a test, and what its failure says -> why. The first that fits counts.
REASONS: tuple[tuple[str, str, str], ...] = (
    (r"cors_origins|cors_options|cors_proxy", "", "open to pages by default; ours are named first"),
    (r"local_media|vision|image", "", "images"),
    (r"infill", "", "a model that was trained to fill in the middle"),
    (r"template|prefill|continue_final_message_vllm|date_inside", "", "templates given by flags"),
    (r"verbose_debug", "", "prompts in answers: not told"),
    (r"post_sampling|backend_sampling", "", "probabilities after the sampler: not supported"),
    (
        r"server_slots|metrics_disabled|no_ui|split_model|aliases_and_tags|multiple_addr",
        "",
        "other flags",
    ),
    (
        r"server_props|stream_vs_non_stream|different_seed|tokens_input",
        "",
        "a server with a seed by flag",
    ),
    (r"server_models", "", "one name only; here are several"),
    (
        r"metrics_(prometheus|prompt_proc|predicted_total|embedding|timings)",
        "",
        "what llama.cpp counts inside",
    ),
    (r"bos", "", "a model with a beginning-of-text token"),
    (r"return_progress|telemetry", "", "batches of a size by flag"),
    (r"thinking_history", "", "templates given by flags"),
    (r"empty_messages", "", "no messages: refused, as by Anthropic"),
    (r"chat_completion_stream", "llama-test-model|model", "another name of the model by flag"),
    (
        r"tool_streaming|content_block_indices|without_tool_call",
        "",
        "a prompt with tools is longer than 256 tokens",
    ),
    (r"messages7", "", "two answers in a row: allowed"),
    (r"", r"match_regex|in_content|re_content", "words of another model"),
    (
        r"",
        r"n_prompt|prompt_tokens|cached_tokens|prompt_n|predicted_n|== \d+$",
        "counts of another model",
    ),
    (r"nocache_long|unified|response_fields|prompt_cache", "", "counts of another model"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    rows = run(args.folder, args.model, [], None)
    rows |= run(args.folder, args.model, ["unit/test_security.py"], KEY)
    text = report(rows, args.model)
    if args.output is not None:
        args.output.write_text(text, encoding="utf-8")
    print(text)


def run(folder: Path, model: Path, files: list[str], key: str | None) -> dict[str, tuple[str, str]]:
    """Each test's name -> (outcome, what its failure says)."""
    command = [sys.executable, "-m", "pyqwen", "serve", "-m", str(model), "--port", "0"]
    command += ["--alias", "tinyllama-2", "--alias", "*", "--parallel", "2", "-c", "256"]
    command += ["--api-key", key] if key else []
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    port = ""
    for line in server.stderr:
        if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
            port = found[1]
            break
    if not files:
        known = sorted(path.stem for path in (folder / "unit").glob("test_*.py"))
        files = [f"unit/{name}.py" for name in known if name not in OTHER_FEATURES]
        files.remove("unit/test_security.py")
    with tempfile.TemporaryDirectory() as scratch:
        xml = Path(scratch) / "results.xml"
        tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
        tests += ["--timeout=60", "--tb=short", f"--junitxml={xml}", *files]
        environment = {**os.environ, "DEBUG_EXTERNAL": "1", "PORT": port}
        try:
            subprocess.run(
                tests, cwd=folder, env=environment, check=False, stdout=subprocess.DEVNULL
            )
        finally:
            server.kill()
            server.wait()
        return {
            f"{case.get('classname', '').split('.')[-1]}::{case.get('name')}": outcome(case)
            for case in ET.parse(xml).getroot().iter("testcase")
        }


def outcome(case: ET.Element) -> tuple[str, str]:
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            return kind, f"{found.get('message', '')}\n{found.text or ''}"
    return "passed", ""


def reason(name: str, message: str) -> str:
    said = "\n".join(
        line for line in message.splitlines() if line.startswith(("E ", ">")) or "assert" in line
    )
    for pattern, words, why in REASONS:
        if re.search(pattern, name) and re.search(words, said, re.MULTILINE):
            return why
    return ""


def report(rows: dict[str, tuple[str, str]], model: Path) -> str:
    files = Counter(name.partition("::")[0] for name in rows)
    passed = Counter(
        name.partition("::")[0] for name, (kind, _) in rows.items() if kind == "passed"
    )
    lines = [
        "# llama.cpp's tests of its server against pyqwen serve",
        "",
        "Made by `benchmarks/llama_server_tests.py`, which says how, with the tests "
        f"in llama-cpp-python 0.3.36 and {model.name}. {sum(passed.values())} of {len(rows)} pass.",
        "",
        "| file | tests | pass |",
        "|---|--:|--:|",
        *(f"| {name} | {files[name]} | {passed[name]} |" for name in sorted(files)),
        "",
        "Not run: " + "; ".join(f"{name} ({why})" for name, why in OTHER_FEATURES.items()) + ".",
        "",
        "| why others do not pass | tests |",
        "|---|--:|",
    ]
    why = {
        name: reason(name, text)
        for name, (kind, text) in rows.items()
        if kind in ("failure", "error")
    }
    for text, count in Counter(why.values()).most_common():
        lines.append(f"| {text or '**not explained**'} | {count} |")
    lines.append("")
    unexplained = sorted(name for name, text in why.items() if not text)
    if unexplained:
        lines += ["Not explained:", "", *(f"- {name}" for name in unexplained), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
