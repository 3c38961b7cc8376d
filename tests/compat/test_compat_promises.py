"""The promise about errors, for pyqwen.compat: as tests/test_promises.py, with its arguments."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from pyqwen.compat import Llama, LlamaGrammar, LlamaState, llama_chat_format
from pyqwen.compat.arguments import _WITHOUT_EFFECT

_PROMISES = Path(__file__).parents[1] / "test_promises.py"
_spec = importlib.util.spec_from_file_location("hostile_arguments", _PROMISES)
assert _spec is not None
assert _spec.loader is not None
promises = importlib.util.module_from_spec(_spec)
sys.modules["hostile_arguments"] = promises
_spec.loader.exec_module(promises)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

keywords = promises.keywords
broken = promises._broken  # fails with all that broke the promise


def attempt(call: Callable[[], Any], what: str) -> None:
    def run() -> Any:
        result = call()
        if isinstance(result, Generator):  # what a stream raises comes with its first piece
            next(result, None)
            result.close()
        elif isinstance(result, Llama):
            result.close()
        return None

    promises.attempt(run, what)


@pytest.mark.parametrize("name", keywords(Llama)[1:])
def test_opening(tiny_model_path: Path, name: str) -> None:
    # What has no effect on the model needs none.
    given: dict[str, Any] = {"n_threads": 1, "vocab_only": name in _WITHOUT_EFFECT}
    for kind, value in promises.HOSTILE.items():
        options = {**given, name: value}
        attempt(lambda o=options: Llama(str(tiny_model_path), **o), f"{name} = {kind}")


def test_paths_and_repositories(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    for kind, value in promises.HOSTILE.items():
        attempt(lambda v=value: Llama(v), f"model_path = {kind}")
        attempt(lambda v=value: Llama.from_pretrained(v, "*"), f"repo_id = {kind}")
        for name in keywords(Llama.from_pretrained)[1:]:
            options = {"repo_id": "org/repo", "filename": "a.gguf", name: value}
            attempt(lambda o=options: Llama.from_pretrained(**o), f"{name} = {kind}")


WRITING = {
    "create_completion": {"prompt": "Hi", "max_tokens": 1},
    "create_chat_completion": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
    "generate": {"tokens": [1, 2, 3]},
    "sample": {},
}


@pytest.mark.parametrize("method", WRITING)
def test_what_it_is_asked(fresh: Llama, method: str) -> None:
    fresh.eval([1, 2, 3])
    call = getattr(fresh, method)
    for kind, value in promises.HOSTILE.items():
        for name in keywords(call):
            if name == "max_tokens" and not (isinstance(value, int) and 0 < value < 100):
                value = value if not isinstance(value, int | None) else 2  # valid, and long
            options = {**WRITING[method], name: value}
            attempt(lambda o=options: call(**o), f"{method}({name}={kind})")


def test_everything_else(fresh: Llama) -> None:
    def state(value: Any) -> LlamaState:
        return LlamaState(value, value, value, value, value, value)

    calls: dict[str, Callable[[Any], Any]] = {
        "tokenize": fresh.tokenize,
        "detokenize": fresh.detokenize,
        "eval": fresh.eval,
        "embed": fresh.embed,
        "create_embedding": fresh.create_embedding,
        "load_state": fresh.load_state,
        "load_state(LlamaState)": lambda value: fresh.load_state(state(value)),
        "set_cache": fresh.set_cache,
        "set_seed": fresh.set_seed,
        "n_tokens": lambda value: setattr(fresh, "n_tokens", value),
        "from_string": LlamaGrammar.from_string,
        "from_file": LlamaGrammar.from_file,
        "from_json_schema": LlamaGrammar.from_json_schema,
        "Jinja2ChatFormatter": lambda value: llama_chat_format.Jinja2ChatFormatter(value, "", ""),
        "tokenizer_config": llama_chat_format.hf_tokenizer_config_to_chat_formatter,
        "get_chat_completion_handler": llama_chat_format.get_chat_completion_handler,
    }
    for kind, value in promises.HOSTILE.items():
        for name, call in calls.items():
            attempt(lambda c=call, v=value: c(v), f"{name}({kind})")
            attempt(lambda c=call, v=value: c([v]), f"{name}([{kind}])")
