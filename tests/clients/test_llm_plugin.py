"""examples/llm_pyqwen with the real llm: as a library, and by its command line."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "llm_pyqwen"

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("default")]


@pytest.fixture
def plugin(
    unavailable: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Any:
    """The plugin's module, as llm would load it."""
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path / "llm"))
    if importlib.util.find_spec("llm") is None:
        unavailable("llm (pip install llm)")
    spec = importlib.util.spec_from_file_location("llm_pyqwen", FOLDER / "llm_pyqwen.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "llm_pyqwen", module)
    spec.loader.exec_module(module)
    yield module
    module._opened.cache_clear()


def test_answers_and_conversations(plugin: Any, tiny_model_path: Path) -> None:
    model = plugin.PyQwen(str(tiny_model_path))
    options = {"temperature": 0, "max_tokens": 12, "seed": 1}
    response = model.prompt("Hello", system="Be brief.", **options)
    chunks = list(response)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]
    expected = plugin._opened(str(tiny_model_path)).chat(messages, **options)
    assert "".join(chunks) == expected.text
    assert response.usage().output == expected.usage.completion_tokens
    conversation = model.conversation()
    first = conversation.prompt("One", **options).text()
    second = conversation.prompt("Two", **options)
    messages = [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "Two"},
    ]
    assert second.text() == plugin._opened(str(tiny_model_path)).chat(messages, **options).text


def test_errors_are_those_of_llm(plugin: Any, tiny_model_path: Path) -> None:
    import llm

    model = plugin.PyQwen(str(tiny_model_path))
    with pytest.raises(llm.ModelError, match="context"):
        model.prompt("word " * 3000).text()
    with pytest.raises(ValueError, match="temperature"):
        model.prompt("a", temperature=-1).text()


@pytest.mark.qwen
def test_schema_and_tools(plugin: Any, qwen_path: Path) -> None:
    import json

    model = plugin.PyQwen(str(qwen_path))
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "rain": {"type": "boolean"}},
        "required": ["city", "rain"],
    }
    text = model.prompt("It rains in Oslo.", schema=schema, temperature=0).text()
    assert json.loads(text) == {"city": "Oslo", "rain": True}

    def get_weather(city: str) -> str:
        """Tell the weather in a city."""
        return f"In {city} it is 11 degrees."

    chain = model.chain(
        "What is the weather in Oslo?", tools=[get_weather], options={"temperature": 0}
    )
    assert "11" in chain.text()


def test_by_its_command_line(plugin: Any, smollm_path: Path, tmp_path: Path) -> None:
    """Installed as a plugin, it finds the models in the cache."""
    cache = tmp_path / "cache"
    (cache / "models").mkdir(parents=True)
    (cache / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf").symlink_to(smollm_path)
    site = tmp_path / "site"
    source = shutil.copytree(FOLDER, tmp_path / "source")  # building leaves files beside it
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, source]
    subprocess.run(command, check=True, timeout=120)
    environment = os.environ | {"PYTHONPATH": str(site), "PYQWEN_CACHE": str(cache)}
    run = lambda *a: subprocess.run(  # noqa: E731
        [sys.executable, "-m", "llm", *a],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    listed = run("models")
    assert "pyqwen/smollm2-135m" in listed.stdout, listed.stdout + listed.stderr
    done = run(
        "-m", "pyqwen/smollm2-135m", "-o", "temperature", "0", "-o", "max_tokens", "8", "Say hello."
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
