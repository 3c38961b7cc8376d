"""Programs that import llama_cpp, with the real packages: LangChain and LlamaIndex on pyqwen.compat.

They run in processes of their own, since packages that were imported keep what ``install`` gave them.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.clients, pytest.mark.smollm]

BEGIN = """
import json, sys
import pyqwen.compat
pyqwen.compat.install()
path = sys.argv[1]
"""

LANGCHAIN = (
    BEGIN
    + """
from langchain_community.llms import LlamaCpp
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate

llm = LlamaCpp(model_path=path, temperature=0, max_tokens=16, n_ctx=256, n_gpu_layers=-1, seed=1)
chain = PromptTemplate.from_template("The capital of {country} is") | llm | StrOutputParser()
whole = chain.invoke({"country": "France"})
pieces = list(chain.stream({"country": "France"}))
stopped = llm.invoke("The capital of France is", stop=["."])
yes = LlamaCpp(model_path=path, n_ctx=256, grammar='root ::= "yes" | "no"').invoke("Is it? ")
print(json.dumps([whole, pieces, stopped, yes, llm.get_num_tokens("The capital of France is")]))
"""
)

CHAT = (
    BEGIN
    + """
from langchain_community.chat_models import ChatLlamaCpp
from langchain_core.messages import HumanMessage, SystemMessage
from pydantic import BaseModel

class Person(BaseModel):
    name: str
    age: int

chat = ChatLlamaCpp(model_path=path, temperature=0, max_tokens=40, n_ctx=2048, repeat_penalty=1.0)
messages = [SystemMessage("Be brief."), HumanMessage("Say hello.")]
whole = chat.invoke(messages)
added = None
for piece in chat.stream(messages):
    added = piece if added is None else added + piece
person = chat.with_structured_output(Person).invoke("Jason is 25 years old.")
reason = whole.response_metadata["finish_reason"]
print(json.dumps([whole.content, added.content, reason, person.model_dump()]))
"""
)

LLAMA_INDEX = (
    BEGIN
    + """
from llama_index.core.llms import ChatMessage
from llama_index.llms.llama_cpp import LlamaCPP

llm = LlamaCPP(
    model_path=path,
    temperature=0.0,
    max_new_tokens=16,
    context_window=512,
    model_kwargs={"n_gpu_layers": 1},
    completion_to_prompt=lambda text: text,
    messages_to_prompt=lambda messages: "\\n".join(str(m.content) for m in messages),
)
whole = llm.complete("The capital of France is").text
pieces = [piece.delta for piece in llm.stream_complete("The capital of France is")]
chat = llm.chat([ChatMessage(role="user", content="The capital of France is")]).message.content
print(json.dumps([whole, pieces, chat, llm.metadata.context_window]))
"""
)


def is_here(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it
        return False


@pytest.fixture
def run(smollm_path: Path, unavailable: Callable[[str], Any]) -> Callable[[str, str, str], Any]:
    def run(package: str, module: str, code: str) -> Any:
        if not is_here(module):
            unavailable(f"{package} (pip install --no-deps {package}, and what it imports)")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, str(smollm_path)],
            capture_output=True,
            text=True,
            timeout=250,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_a_langchain_chain(run: Callable[..., Any], smollm_path: Path) -> None:
    whole, pieces, stopped, yes, count = run(
        "langchain-community", "langchain_community", LANGCHAIN
    )
    assert whole.startswith(" Paris")
    assert "".join(pieces) == whole
    assert len(pieces) > 3
    assert stopped == whole.partition(".")[0]
    assert yes in ("yes", "no")
    assert count == 5


def test_a_langchain_chat(run: Callable[..., Any]) -> None:
    whole, streamed, reason, person = run("langchain-community", "langchain_community", CHAT)
    assert whole == streamed
    assert whole
    assert reason in ("stop", "length")
    assert sorted(person) == ["age", "name"]


def test_llama_index(run: Callable[..., Any]) -> None:
    whole, pieces, chat, context = run(
        "llama-index-llms-llama-cpp", "llama_index.llms.llama_cpp", LLAMA_INDEX
    )
    assert whole.startswith(" Paris")
    assert "".join(pieces) == whole == chat
    assert context == 512
