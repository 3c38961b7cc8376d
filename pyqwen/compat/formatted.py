"""Conversations whose prompt a formatter of the program makes: a completion, in the shape of a chat."""

from __future__ import annotations

from collections.abc import Iterator
from reprlib import repr as brief
from typing import Any

from pyqwen.compat.llama_grammar import LlamaGrammar


def answer_formatted(formatter: Any, llama: Any, messages: list[Any], asked: dict[str, Any]) -> Any:
    """Answer with ``formatter``'s prompt; ``asked`` are arguments of ``create_chat_completion``.

    Calls of tools are only what the grammar of a tool that was chosen by name makes sure of.
    """
    stream = bool(asked.pop("stream", False))
    offered = {
        name: asked.pop(name, None)
        for name in ("functions", "function_call", "tools", "tool_choice")
    }
    response_format = asked.pop("response_format", None)
    wants_logprobs, tops = asked.pop("logprobs", None), asked.pop("top_logprobs", None)
    made = formatter(messages=messages, **offered)
    prompt = llama.tokenize(
        made.prompt.encode("utf-8", "surrogatepass"), add_bos=not made.added_special, special=True
    )
    name, schema = _chosen(offered)
    if schema is not None:
        asked["grammar"] = LlamaGrammar.from_json_schema(_json(schema))
    elif response_format is not None and response_format.get("type") == "json_object":
        wanted = response_format.get("schema") or {"type": "object"}
        asked["grammar"] = LlamaGrammar.from_json_schema(_json(wanted))
    asked["stop"] = [*_list(asked.pop("stop", None)), *_list(made.stop)]
    asked["logprobs"] = (tops or 0) if wants_logprobs else None
    answer = llama.create_completion(
        prompt, stream=stream, stopping_criteria=made.stopping_criteria, **asked
    )
    return _chunks(answer, name) if stream else _whole(answer, name)


def _json(value: Any) -> str:
    import json

    return json.dumps(value)


def _list(texts: Any) -> list[str]:
    if texts is None:
        return []
    return [text for text in ([texts] if isinstance(texts, str) else texts) if text]


def _chosen(offered: dict[str, Any]) -> tuple[str | None, Any]:
    """The name and the parameters of the tool that must be called, if one is."""
    functions = offered["functions"] or [tool["function"] for tool in offered["tools"] or ()]
    choice = offered["function_call"] or offered["tool_choice"]
    if not isinstance(choice, dict) or not functions:
        return None, None
    name = choice.get("function", choice).get("name")
    for function in functions:
        if function.get("name") == name:
            return name, function.get("parameters") or {"type": "object"}
    raise ValueError(f"the tool {brief(name)} is chosen, but not offered")


def _whole(answer: Any, tool: str | None) -> Any:
    (choice,) = answer["choices"]
    message: dict[str, Any] = {"role": "assistant", "content": choice["text"]}
    reason = choice["finish_reason"]
    if tool is not None:
        function = {"name": tool, "arguments": choice["text"]}
        call = {"id": f"call_0_{answer['id']}", "type": "function", "function": function}
        message |= {"content": None, "tool_calls": [call], "function_call": dict(function)}
        reason = "tool_calls"
    made = {
        "index": 0,
        "message": message,
        "logprobs": _logprobs(choice["logprobs"]),
        "finish_reason": reason,
    }
    return {**_head(answer, "chat.completion"), "choices": [made], "usage": answer["usage"]}


def _chunks(chunks: Iterator[Any], tool: str | None) -> Iterator[Any]:
    is_first = True
    for chunk in chunks:
        head = _head(chunk, "chat.completion.chunk")
        (choice,) = chunk["choices"]
        if is_first:
            yield {**head, "choices": [_delta({"role": "assistant"})]}
        delta, reason = {"content": choice["text"]}, choice["finish_reason"]
        if tool is not None:
            function = {"name": tool if is_first else None, "arguments": choice["text"]}
            call = {"index": 0, "id": f"call_0_{chunk['id']}", "type": "function"}
            delta = {"tool_calls": [{**call, "function": function}]}
        is_first = False
        if reason is not None:
            delta, reason = {}, "tool_calls" if tool is not None else reason
        yield {**head, "choices": [_delta(delta, _logprobs(choice["logprobs"]), reason)]}


def _delta(delta: Any, logprobs: Any = None, reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}


def _head(answer: Any, kind: str) -> dict[str, Any]:
    return {
        "id": f"chat{answer['id']}",
        "object": kind,
        "created": answer["created"],
        "model": answer["model"],
    }


def _logprobs(legacy: Any) -> Any:
    if legacy is None:
        return None
    content = [
        {
            "token": token,
            "logprob": logprob,
            "bytes": None,
            "top_logprobs": [
                {"token": text, "logprob": value, "bytes": None} for text, value in tops.items()
            ],
        }
        for token, logprob, tops in zip(
            legacy["tokens"], legacy["token_logprobs"], legacy["top_logprobs"], strict=True
        )
    ]
    return {"content": content, "refusal": None}
