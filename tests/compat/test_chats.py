"""create_chat_completion: shapes of llama-cpp-python, tools, formats, and handlers of programs."""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyqwen.compat as llama_cpp
from pyqwen.compat import Llama, LlamaGrammar, llama_chat_format
from pyqwen.errors import ContextOverflowError, TemplateError

HELLO = [{"role": "user", "content": "Hello"}]
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 6}
USER = {
    "name": "UserDetail",
    "parameters": {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"enum": [1, 2]}},
        "required": ["name", "age"],
    },
}
CHOICE = {"type": "function", "function": {"name": "UserDetail"}}


def keys(name: str) -> set[str]:
    return set(typing.get_type_hints(getattr(llama_cpp, name)))


def said(answer: Any) -> Any:
    return answer["choices"][0]["message"]["content"]


def test_the_shape(fresh: Llama) -> None:
    answer: Any = fresh.create_chat_completion(HELLO, **GREEDY, logprobs=True, top_logprobs=2)
    assert set(answer) == keys("CreateChatCompletionResponse")
    (choice,) = answer["choices"]
    assert set(choice) == keys("ChatCompletionResponseChoice")
    assert set(choice["message"]) == {"role", "content"}
    assert answer["id"].startswith("chatcmpl-")
    assert (answer["object"], choice["finish_reason"]) == ("chat.completion", "length")
    assert answer["usage"]["completion_tokens"] == 6
    entries = choice["logprobs"]["content"]
    assert len(entries) == 6
    assert set(entries[0]) == keys("ChatCompletionLogprobToken")
    assert [len(entry["top_logprobs"]) for entry in entries] == [2] * 6
    assert fresh.n_tokens == answer["usage"]["total_tokens"]
    plain = fresh.pyqwen_model.chat(HELLO, max_tokens=6, temperature=0, repetition_penalty=1)
    assert said(answer) == plain.text


def test_a_stream_is_the_whole_in_pieces(fresh: Llama) -> None:
    whole: Any = fresh.create_chat_completion(HELLO, **GREEDY)
    chunks: Any = list(fresh.create_chat_completion(HELLO, **GREEDY, stream=True))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant"}
    assert deltas[-1] == {}
    assert "".join(delta["content"] for delta in deltas[1:-1]) == said(whole)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert all(set(chunk) == keys("CreateChatCompletionStreamResponse") for chunk in chunks)


@pytest.fixture(scope="module")
def roomy(make_tiny_model: Any) -> Iterator[Llama]:
    """What leads this model to tools is longer than its ``n_ctx``, which does not count."""
    with Llama(str(make_tiny_model(context=4096)), n_ctx=700, n_threads=1) as llama:
        yield llama


@pytest.mark.parametrize("older", [False, True])
def test_a_tool_that_is_chosen(roomy: Llama, older: bool) -> None:
    offer: dict[str, Any] = {"tools": [{"type": "function", "function": USER}]}
    offer["tool_choice"] = CHOICE
    if older:
        offer = {"functions": [USER], "function_call": {"name": "UserDetail"}}
    answer: Any = roomy.create_chat_completion(HELLO, **offer)
    assert answer["usage"]["prompt_tokens"] > roomy.n_ctx()
    (choice,) = answer["choices"]
    message = choice["message"]
    assert message["content"] is None
    assert choice["finish_reason"] == "tool_calls"
    (call,) = message["tool_calls"]
    assert set(call) == keys("ChatCompletionMessageToolCall")
    assert message["function_call"] == call["function"]
    assert set(json.loads(call["function"]["arguments"])) == {"name", "age"}
    assert roomy.n_ctx() == 700
    deltas = [
        piece
        for chunk in roomy.create_chat_completion(HELLO, **offer, stream=True, seed=3)
        for piece in typing.cast(Any, chunk)["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert deltas[0]["function"]["name"] == "UserDetail"
    assert deltas[0]["id"]
    assert all(set(delta) <= keys("ChatCompletionMessageToolCallChunk") for delta in deltas)
    arguments = "".join(delta["function"]["arguments"] for delta in deltas)
    assert set(json.loads(arguments)) == {"name", "age"}


def test_messages_with_older_names(fresh: Llama) -> None:
    call = {"name": "f", "arguments": '{"a": 1}'}
    older = [*HELLO, {"role": "assistant", "function_call": call}]
    older += [{"role": "function", "name": "f", "content": "2"}]
    calls = [{"id": "call_0", "type": "function", "function": call}]
    newer = [*HELLO, {"role": "assistant", "content": None, "tool_calls": calls}]
    newer += [{"role": "tool", "name": "f", "content": "2"}]
    assert llama_cpp.llama.Llama is Llama
    ask = fresh.create_chat_completion
    assert said(ask(older, **GREEDY)) == said(ask(newer, **GREEDY))
    assert older[1]["function_call"] is call  # not changed


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_object", "schema": {"enum": ["a", 1]}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["a", 1]}}},
    ],
)
def test_forms_of_answers(fresh: Llama, form: Any) -> None:
    answer = fresh.create_chat_completion(HELLO, response_format=form)
    assert json.loads(said(answer)) in ("a", 1)
    grammar = LlamaGrammar.from_string('root ::= "yes"')
    text = fresh.create_chat_completion(HELLO, grammar=grammar, response_format={"type": "text"})
    assert said(text) == "yes"


def test_room(fresh: Llama) -> None:
    with pytest.raises(ContextOverflowError, match="exceed context window of 256"):
        fresh.create_chat_completion([{"role": "user", "content": "x y z " * 200}])
    ends = dict.fromkeys(fresh.pyqwen_tokenizer.eog_ids, float("-inf"))
    answer: Any = fresh.create_chat_completion(HELLO, logit_bias=ends)
    assert answer["usage"]["total_tokens"] == 256


def test_formats_that_are_not_the_files(tiny_model_path: Path) -> None:
    with pytest.warns(
        UserWarning, match="chat_format='vicuna': the file has a chat template of another"
    ):
        Llama(str(tiny_model_path), chat_format="vicuna").close()
    with Llama(str(tiny_model_path), chat_format="chatml") as llama:  # as the file's
        assert said(llama.create_chat_completion(HELLO, max_tokens=2)) is not None
    for own in ("chat_template.default", None):
        with Llama(str(tiny_model_path), chat_format=own) as llama:
            assert llama.create_chat_completion(HELLO, max_tokens=2)
    with pytest.raises(ValueError, match=r"chat_format 'unheard' .* chatml"):
        Llama("no file is looked for", chat_format="unheard")


def test_formats_of_files_without_a_template(
    make_tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyqwen.text.chat_template import ChatTemplate

    path = str(make_tiny_model(metadata={"tokenizer.ggml.bos_token_id": 330}))
    named = ChatTemplate.from_metadata

    def without(metadata: Any, tokenizer: Any, **options: Any) -> Any:
        if metadata.get("tokenizer.chat_template", "").startswith("{%- if messages"):
            raise TemplateError("the file has no chat template")
        return named(metadata, tokenizer, **options)

    monkeypatch.setattr(ChatTemplate, "from_metadata", without)
    talk = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "<|im_end|>"},
    ]
    bos, eos = "<|endoftext|>", "<|im_end|>"
    expected = {
        "llama-2": f"{bos}[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A {eos}{bos}[INST] {eos} [/INST]",
        "mistral-instruct": f"{bos}[INST] S [/INST][INST] U [/INST]A{eos}[INST] {eos} [/INST]",
        "zephyr": f"<|system|>\nS{eos}\n<|user|>\nU{eos}\n<|assistant|>\nA{eos}\n<|user|>\n{eos}{eos}\n"
        "<|assistant|>\n",
        "vicuna": f"{bos}S USER: U ASSISTANT: A{eos}USER: {eos} ASSISTANT:",
        "alpaca": f"{bos}S\n\n### Instruction:\nU\n\n### Response:\nA{eos}\n\n"
        f"### Instruction:\n{eos}\n\n### Response:\n",
    }
    for name, text in expected.items():
        with Llama(path, n_ctx=400, chat_format=name) as llama:
            assert llama.create_chat_completion(talk, max_tokens=1)
            ids = llama.pyqwen_model.chat_prompt(talk)
            assert llama.detokenize(ids, special=True).decode() == text
            written = text.count(eos) - 1  # what a user writes is no control token
            assert ids.count(llama.token_eos()) == written
    with pytest.warns(UserWarning, match="'snoozy': this format is not known here"):
        Llama(path, chat_format="snoozy").close()
    made = llama_chat_format.format_mistral_instruct(talk[1:2])
    assert made.prompt == "<s>[INST] U [/INST]"
    assert made.added_special


@pytest.fixture
def registry() -> Iterator[None]:
    before = dict(llama_chat_format._registered)
    yield
    llama_chat_format._registered.clear()
    llama_chat_format._registered.update(before)


@pytest.mark.usefixtures("registry")
def test_formats_that_a_program_registers(fresh: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    @llama_chat_format.register_chat_format("mine")
    def mine(messages: list[Any], **kwargs: Any) -> Any:
        text = "".join(message["content"] for message in messages)
        return llama_chat_format.ChatFormatterResponse(prompt=f"Q: {text} A:", stop="Q:")

    monkeypatch.setattr(fresh, "chat_format", "mine")
    answer: Any = fresh.create_chat_completion(HELLO, **GREEDY)
    assert said(answer) == fresh("Q: Hello A:", **GREEDY, stop="Q:")["choices"][0]["text"]
    assert set(answer) == keys("CreateChatCompletionResponse")
    chunks: Any = list(fresh.create_chat_completion(HELLO, **GREEDY, stream=True))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content", "") for delta in deltas) == said(answer)
    assert (deltas[0], deltas[-1]) == ({"role": "assistant"}, {})
    called: Any = fresh.create_chat_completion(
        HELLO, tools=[{"type": "function", "function": USER}], tool_choice=CHOICE
    )
    (call,) = called["choices"][0]["message"]["tool_calls"]
    assert set(json.loads(call["function"]["arguments"])) == {"name", "age"}


def test_handlers_of_programs(fresh: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def handler(*, llama: Any, messages: Any, **kwargs: Any) -> Any:
        asked.update(kwargs, messages=messages)
        return llama.create_completion("x", max_tokens=1)

    monkeypatch.setattr(fresh, "chat_handler", handler)
    assert typing.cast(Any, fresh.create_chat_completion(HELLO))["object"] == "text_completion"
    assert asked["messages"] is HELLO
    assert (asked["temperature"], asked["stop"]) == (0.2, [])
    # The handler of a built-in format uses the file's template, and does not come back here.
    built_in = llama_chat_format.get_chat_completion_handler("chatml")
    monkeypatch.setattr(fresh, "chat_handler", built_in)
    plain = fresh.pyqwen_model.chat(HELLO, max_tokens=6, temperature=0, repetition_penalty=1)
    assert said(fresh.create_chat_completion(HELLO, **GREEDY)) == plain.text


def test_templates_of_programs(fresh: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    template = "{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}"
    formatter = llama_chat_format.Jinja2ChatFormatter(template, "</s>", "<s>", stop_token_ids=[2])
    assert formatter(messages=HELLO).prompt == "<s>[Hello]"
    monkeypatch.setattr(fresh, "chat_handler", formatter.to_chat_handler())
    answer = fresh.create_chat_completion(HELLO, **GREEDY)
    assert said(answer) == fresh("<s>[Hello]", **GREEDY)["choices"][0]["text"]
    config = {"chat_template": template, "bos_token": "<s>", "eos_token": "</s>"}
    of_config = llama_chat_format.hf_tokenizer_config_to_chat_formatter(config)
    assert of_config(messages=HELLO).prompt == "<s>[Hello][]"
    with pytest.raises(TemplateError):
        llama_chat_format.Jinja2ChatFormatter("{% if %}", "", "")
    with pytest.raises(TypeError, match="bos_token"):
        llama_chat_format.hf_tokenizer_config_to_chat_formatter({"chat_template": template})


def test_a_model_that_thinks(make_tiny_model: Any) -> None:
    with Llama(str(make_tiny_model(architecture="qwen3")), n_ctx=128, n_threads=1) as llama:
        begin, end = (llama.tokenize(text, special=True)[0] for text in (b"<think>", b"</think>"))
        script = [begin, *llama.tokenize(b"fox"), end, *llama.tokenize(b"dog")]
        read = None

        def write(ids: Any, scores: Any) -> Any:
            nonlocal read
            read = len(ids) if read is None else read
            at = len(ids) - read
            scores[:] = -1e9
            scores[script[at] if at < len(script) else llama.token_eos()] = 0
            return scores

        answer: Any = llama.create_chat_completion(HELLO, logits_processor=[write])
        message = answer["choices"][0]["message"]
        assert (message["reasoning_content"], message["content"]) == ("fox", "dog")
        read = None
        chunks: Any = list(
            llama.create_chat_completion(HELLO, logits_processor=[write], stream=True)
        )
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        for name in ("reasoning_content", "content"):
            assert "".join(delta.get(name, "") for delta in deltas) == message[name]
