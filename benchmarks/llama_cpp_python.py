"""llama-cpp-python's tests and examples, run against pyqwen.compat: which pass, and why others do not.

    python benchmarks/llama_cpp_python.py FOLDER MODEL.gguf SMALL.gguf [-o results/llama-cpp-python.md]

FOLDER is the unpacked source distribution of llama-cpp-python 0.3.36; nothing of it is copied, changed or
built. `pyqwen.compat.install()` is called before each, which is the import that they change. What they
fetch from the Hugging Face hub lies in a cache made for them: MODEL (a Qwen2.5-Instruct) in place of
Qwen3.5-0.8B and of the embedding model, SMALL (SmolLM2-135M) of stories15M; models of other architectures are
not there. README examples run as they are written, in a folder where the paths they name are links to MODEL.
Needs pytest and scipy. Takes about two minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

COMMIT = "0" * 40  # of the stand-ins' repositories
STAND_INS = {  # repository, file -> which model stands in
    ("lmstudio-community/Qwen3.5-0.8B-GGUF", "Qwen3.5-0.8B-Q8_0.gguf"): "model",
    ("ggml-org/models", "tinyllamas/stories15M-q4_0.gguf"): "small",
    ("CompendiumLabs/bge-small-en-v1.5-gguf", "bge-small-en-v1.5-q4_k_m.gguf"): "model",
}
PATHS = re.compile(r'"((?:\./)?(?:path/to|models)/[\w./-]+\.(?:gguf|bin))"')

# In front of what runs. The tests import the package that binds llama.h's structures; one test uses it.
PRELUDE = """\
import sys, types, warnings
import pyqwen.compat
pyqwen.compat.install()
pyqwen.compat._internals = sys.modules["llama_cpp._internals"] = types.ModuleType("llama_cpp._internals")
"""

# What stands in a name and in what a failure says -> why. The first that fits counts.
REASONS: tuple[tuple[str, str, str], ...] = (
    (r"test_real_model", "", "llama.h's functions: not part of the high-level API"),
    (r"recurrent|hybrid", "", "recurrent models: another architecture"),
    (
        r"",
        r"llama_model_(default_params|load)",
        "llama.h's functions: not part of the high-level API",
    ),
    (r"", r"ChatHandler|file_path\.png", "images"),
    (r"", r"functionary", "a model from the network, and its tokenizer"),
    (r"", r"llama_cpp\.server|create_app", "the server: `pyqwen serve`"),
    (r"", r"langchain\.llms", "a name that LangChain has no more"),
    (r"", r"fastapi|No module named 'uvicorn'", "needs FastAPI"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("small", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    models = {"model": args.model.resolve(), "small": args.small.resolve()}
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(args.folder.resolve(), models, Path(scratch))
        parts = {
            "tests": bench.tests(),
            "README examples": bench.readme(),
            "examples/high_level_api": bench.examples(),
        }
    text = report(parts, models)
    if args.output is not None:
        args.output.write_text(text, encoding="utf-8")
    print(text)


class Bench:
    """Runs what the folder has; each result is a name, and what its failure says ("" if it passed)."""

    def __init__(self, folder: Path, models: dict[str, Path], scratch: Path) -> None:
        self._folder, self._models, self._scratch = folder, models, scratch
        hub = scratch / "hub"
        for (repo, file), which in STAND_INS.items():
            base = hub / f"models--{repo.replace('/', '--')}"
            link = base / "snapshots" / COMMIT / file
            link.parent.mkdir(parents=True)
            link.symlink_to(models[which])
            (base / "refs").mkdir()
            (base / "refs" / "main").write_text(COMMIT)
        self._environment = {**os.environ, "HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1"}

    def _python(self, code: str, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", PRELUDE + code, *arguments],
            cwd=cwd,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=600,
        )

    def tests(self) -> dict[str, str]:
        """Their tests, by name."""
        xml = self._scratch / "results.xml"
        code = "import pytest; sys.exit(pytest.main(sys.argv[1:]))"
        options = ["-q", "-p", "no:cacheprovider", "--tb=short", f"--junitxml={xml}", "tests"]
        done = self._python(code, self._folder, *options)
        if not xml.exists():
            sys.exit(done.stdout + done.stderr)
        return {
            f"{case.get('classname', '').split('.')[-1]}::{case.get('name')}": _failure(case)
            for case in ET.parse(xml).getroot().iter("testcase")
        }

    def readme(self) -> dict[str, str]:
        """The Python blocks of the README, by heading."""
        results: dict[str, str] = {}
        heading = ""
        text = (self._folder / "README.md").read_text(encoding="utf-8")
        for found in re.finditer(r"^#+ ([^\n]*)$|^```python\n(.*?)^```$", text, re.M | re.S):
            if found[1]:
                heading = found[1]
                continue
            block = found[2]
            if not re.search(r"^\w+ = |^from|^import", block, re.M):  # what another block prints
                continue
            number = 1 + sum(name.startswith(f"{heading} ") for name in results)
            place = Path(tempfile.mkdtemp(dir=self._scratch))
            for path in PATHS.findall(block):
                link = place / path
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(self._models["model"])
            begin = "" if "import" in block else "from llama_cpp import Llama\n"
            done = self._python(begin + block, place)
            said = done.stderr + block if done.returncode else ""
            results[f"{heading} {number}"] = said
        return results

    def examples(self) -> dict[str, str]:
        """Their example programs, by name."""
        results = {}
        for path in sorted((self._folder / "examples" / "high_level_api").glob("*.py")):
            code = f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')"
            done = self._python(code, self._scratch, "-m", str(self._models["model"]))
            results[path.name] = done.stderr if done.returncode else ""
        return results


def _failure(case: ET.Element) -> str:
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            return f"{kind}: {found.get('message', '')}\n{found.text or ''}"
    return ""


def reason(name: str, said: str) -> str:
    """Why something did not pass, if that is known."""
    for pattern, words, why in REASONS:
        if re.search(pattern, name) and re.search(words, said):
            return why
    return "**not explained**"


def report(parts: dict[str, dict[str, str]], models: dict[str, Path]) -> str:
    lines = [
        "# llama-cpp-python's tests and examples against pyqwen.compat",
        "",
        "Made by `benchmarks/llama_cpp_python.py`, which says how, with llama-cpp-python 0.3.36, "
        f"{models['model'].name} and {models['small'].name}.",
        "",
        "| | all | pass |",
        "|---|--:|--:|",
    ]
    for part, results in parts.items():
        passed = sum(not said for said in results.values())
        lines.append(f"| {part} | {len(results)} | {passed} |")
    for part, results in parts.items():
        lines += ["", f"| {part} | |", "|---|---|"]
        for name, said in results.items():
            lines.append(f"| {name} | {'passes' if not said else reason(name, said)} |")
            if said and reason(name, said).startswith("**"):
                print(name, said[-3000:], sep="\n", file=sys.stderr)
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
