"""What type checkers see: the options of calls by name and type, and what a stream ends with."""

from __future__ import annotations

import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from pyqwen import SamplingParams
from pyqwen.sampling import SamplingOptions

SNIPPET = """\
import pyqwen
from pyqwen import Chunk, Model, SamplingParams

def good(model: Model, messages: list[dict[str, object]]) -> None:
    model.generate("x", max_tokens=5, temperature=0, stop=["a"], logit_bias={1: 2.0}, seed=None)
    model.chat("x", params=SamplingParams(top_k=3), stop="a", logprobs=True)
    model.generate("<s>", special=True)
    model.chat("x", template="tool_use", template_variables={"enable_thinking": False})
    model.generate("x", timeout=1.5, prompt_logprobs=True, logits_processor=lambda ids, row: row)
    model.chat("x", continue_final_message=True)
    answers: list[pyqwen.Completion] = model.generate_n("x", 3, seed=1)
    messages.append(model.chat_n("x", 3, timeout=None)[0].message)
    streams: list[pyqwen.Stream[pyqwen.ChatCompletion]] = model.stream_chat_n("x", 2)
    filled: pyqwen.Completion = model.infill("a", "b", files={"c": "d"}, filename="e")
    with model.stream_chat("x", max_tokens=5) as stream:
        for chunk in stream:
            text: str = chunk.text
    messages.append(stream.completion.message)
    messages.append(model.stream_chat("x").result().message)
    chat: pyqwen.ChatCompletion = model.stream_chat("x").result()
    plain: pyqwen.Completion = model.stream("x").result()

async def good_async(model: Model) -> list[Chunk]:
    stream = model.astream_chat("x", max_tokens=5)
    message = (await stream.result()).message
    print(message, stream.completion.message)
    await model.achat("x", seed=1)
    print((await model.achat_n("x", 2))[0].message, (await model.ainfill("a", "b")).text)
    return [chunk async for chunk in model.astream("x", top_p=0.5)]

async def bad(model: Model) -> None:
    model.generate("x", max_token=5)  # wrong: call-arg
    model.generate("x", max_tokens="5")  # wrong: arg-type
    model.stream("x", max_token=5)  # wrong: call-arg
    model.stream("x", temperature="warm")  # wrong: arg-type
    model.chat("x", max_token=5)  # wrong: call-arg
    model.chat("x", stop=5)  # wrong: arg-type
    model.chat("x", special=True)  # wrong: call-arg
    model.chat("x", template=5)  # wrong: arg-type
    model.generate("x", timeout="1")  # wrong: arg-type
    model.generate("x", logits_processor="f")  # wrong: arg-type
    model.generate("x", continue_final_message=True)  # wrong: call-arg
    model.generate_n("x", "3")  # wrong: arg-type
    model.chat_n("x", 3, special=True)  # wrong: call-arg
    model.infill("a", "b", files=["c"])  # wrong: arg-type
    model.stream_chat("x", max_token=5)  # wrong: call-arg
    model.stream_chat("x", logit_bias=[1])  # wrong: arg-type
    await model.agenerate("x", max_token=5)  # wrong: call-arg
    await model.achat("x", max_tokens="5")  # wrong: arg-type
    model.astream("x", max_token=5)  # wrong: call-arg
    model.astream_chat("x", max_tokens="5")  # wrong: arg-type
    SamplingParams().replace(max_token=5)  # wrong: call-arg
    model.stream("x").completion.message  # wrong: union-attr
    model.stream("x").result().message  # wrong: attr-defined
    other: pyqwen.ChatCompletion = model.stream("x").result()  # wrong: assignment
"""


def test_options_are_the_settings() -> None:
    assert typing.get_type_hints(SamplingOptions) == typing.get_type_hints(SamplingParams)
    assert SamplingOptions.__required_keys__ == frozenset()


def test_mypy_on_a_program(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "program.py").write_text(SNIPPET, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "cache", "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = re.findall(r"^program\.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    wrong = [
        (str(number), line.split("# wrong: ")[1])
        for number, line in enumerate(SNIPPET.splitlines(), 1)
        if "# wrong: " in line
    ]
    assert len(wrong) > 20
    assert found == wrong, done.stdout + done.stderr
