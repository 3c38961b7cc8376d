"""Conversations: ``Llama.create_chat_completion``, whole or in chunks, in llama-cpp-python's shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pyqwen.compat.completions import Completions, limit_of, new_head, usage_of
from pyqwen.compat.llama_chat_format import LlamaChatCompletionHandler, handler_of, template_of
from pyqwen.compat.llama_grammar import constraint_of
from pyqwen.compat.processors import Watch
from pyqwen.compat.sampling import sampling_options
from pyqwen.compat.state import check_room
from pyqwen.errors import ContextOverflowError

if TYPE_CHECKING:
    from pyqwen.compat.llama_grammar import LlamaGrammar
    from pyqwen.compat.llama_types import (
        ChatCompletionLogprobs,
        CreateChatCompletionResponse,
        CreateChatCompletionStreamResponse,
    )
    from pyqwen.engine.stream import Stream
    from pyqwen.results import ChatCompletion, TokenLogprob


class Chats(Completions):
    """A part of :class:`pyqwen.compat.Llama`."""

    chat_format: str | None
    chat_handler: LlamaChatCompletionHandler | None

    def create_chat_completion(
        self,
        messages: list[Any],
        functions: list[Any] | None = None,
        function_call: Any = None,
        tools: list[Any] | None = None,
        tool_choice: Any = None,
        temperature: float = 0.2,
        top_p: float = 0.95,
        top_k: int = 40,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        stream: bool = False,
        stop: str | list[str] | None = [],  # noqa: B006  as there; never changed
        seed: int | None = None,
        response_format: Any = None,
        max_tokens: int | None = None,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        repeat_penalty: float = 1.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: str | None = None,
        logits_processor: Any = None,
        grammar: LlamaGrammar | None = None,
        logit_bias: dict[int, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
    ) -> CreateChatCompletionResponse | Iterator[CreateChatCompletionStreamResponse]:
        """Answer a conversation, with the chat template of the file.

        Calls of tools are read from the answer and follow their schemas, whatever ``chat_format`` says. A
        ``chat_handler``, and a format that the program registered itself, take the place of all this.
        What a thinking model writes before its answer is in ``reasoning_content``.
        """
        answer = self.chat_handler or handler_of(self.chat_format) or _with_template
        return cast(
            "CreateChatCompletionResponse",
            answer(
                llama=self,
                messages=messages,
                functions=functions,
                function_call=function_call,
                tools=tools,
                tool_choice=tool_choice,
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                min_p=min_p,
                typical_p=typical_p,
                stream=stream,
                stop=stop,
                seed=seed,
                response_format=response_format,
                max_tokens=max_tokens,
                presence_penalty=presence_penalty,
                frequency_penalty=frequency_penalty,
                repeat_penalty=repeat_penalty,
                tfs_z=tfs_z,
                mirostat_mode=mirostat_mode,
                mirostat_tau=mirostat_tau,
                mirostat_eta=mirostat_eta,
                model=model,
                logits_processor=logits_processor,
                grammar=grammar,
                logit_bias=logit_bias,
                logprobs=logprobs,
                top_logprobs=top_logprobs,
            ),
        )

    def answer_with_template(
        self,
        messages: Any,
        *,
        functions: Any = None,
        function_call: Any = None,
        tools: Any = None,
        tool_choice: Any = None,
        stream: bool = False,
        seed: int | None = None,
        response_format: Any = None,
        max_tokens: int | None = None,
        model: str | None = None,
        logits_processor: Any = None,
        grammar: LlamaGrammar | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        **sampling: Any,
    ) -> Any:
        """``create_chat_completion`` with the file's template, whatever handlers there are."""
        asked = {
            **_offer(functions, function_call, tools, tool_choice),
            "template": template_of(self.chat_format),
            **self._adapter,
        }
        options: dict[str, Any] = {
            **sampling_options(**sampling),
            "max_tokens": limit_of(max_tokens),
            "seed": self._seeds.take(seed),
            "logits_processor": Watch(logits_processor, None, self.n_vocab()).hook(),
            "response_format": format_of(response_format) or constraint_of(grammar),
        }
        if logprobs:
            options |= {"logprobs": True, "top_logprobs": top_logprobs or 0}
        answer = _Answer(self, model)
        answer.begin(messages_of(messages), asked, options)
        return answer.chunks() if stream else answer.whole()

    def create_chat_completion_openai_v1(self, *args: Any, **kwargs: Any) -> Any:
        """As ``create_chat_completion``, with the types of the ``openai`` package."""
        try:
            from openai.types.chat import ChatCompletion, ChatCompletionChunk
        except ImportError as error:
            raise ImportError(
                "create_chat_completion_openai_v1 needs the openai package: pip install openai"
            ) from error
        answer: Any = self.create_chat_completion(*args, **kwargs)
        if kwargs.get("stream"):
            return (ChatCompletionChunk(**chunk) for chunk in answer)
        return ChatCompletion(**answer)


def _with_template(*, llama: Chats, messages: Any, **asked: Any) -> Any:
    return llama.answer_with_template(messages, **asked)


def messages_of(messages: Any) -> Any:
    """Messages with the names of today for what were functions and their calls."""
    if not isinstance(messages, list | tuple):
        return messages
    made: list[Any] = []
    for message in messages:
        if isinstance(message, Mapping) and message.get("role") == "function":
            message = {**message, "role": "tool"}
        elif isinstance(message, Mapping) and message.get("function_call"):
            message = dict(message)
            call = {"id": "call_0", "type": "function", "function": message.pop("function_call")}
            message.setdefault("tool_calls", [call])
            message.setdefault("content", None)
        made.append(message)
    return made


def format_of(given: Any) -> Any:
    """What pyqwen calls ``response_format``: a schema may lie beside the type ``json_object``."""
    if isinstance(given, Mapping) and given.get("type") == "text":
        return None
    if isinstance(given, Mapping) and given.get("type") == "json_object" and given.get("schema"):
        return {"type": "json_schema", "json_schema": {"schema": given["schema"]}}
    return given


def _offer(functions: Any, function_call: Any, tools: Any, choice: Any) -> dict[str, Any]:
    """Tools and their choice; the older names of the same are read, too."""
    if functions is not None:
        if not isinstance(functions, list | tuple):
            raise TypeError(f"functions must be a list, not {type(functions).__name__}")
        tools = [{"type": "function", "function": function} for function in functions]
    if function_call is not None:
        choice = function_call
    if not tools:  # none are offered, so there is nothing to choose
        return {}
    return {"tools": tools, "tool_choice": choice}


@dataclass
class _Answer:
    """One answer."""

    llama: Chats
    name: str | None

    def begin(self, messages: Any, asked: dict[str, Any], options: dict[str, Any]) -> None:
        """Hand it to the engine; raises what is wrong with it."""
        model = self.llama.pyqwen_model
        name = self.llama.model_path if self.name is None else self.name
        self.head = new_head("chat.completion", name, "chatcmpl-")
        try:
            self.ids = model.chat_prompt(messages, **cast(Any, asked))
        except ContextOverflowError as error:
            check_room(error.tokens or model.context, self.llama.n_ctx())  # its words
            raise
        room = model.context - len(self.ids)  # with tools; see ROOM_FOR_TOOLS
        if "tools" not in asked:
            check_room(len(self.ids), self.llama.n_ctx())
            room = self.llama.n_ctx() - len(self.ids)
        limit = options["max_tokens"]
        if limit is None or (isinstance(limit, int) and limit > room):
            options["max_tokens"] = room
        self.running: Stream[ChatCompletion] = model.stream_chat(
            messages, **cast(Any, {**asked, **options})
        )

    def whole(self) -> CreateChatCompletionResponse:
        """Wait for the answer."""
        with self.running as stream:
            done = stream.result()
        message: dict[str, Any] = {"role": "assistant", "content": done.text}
        if done.reasoning is not None:
            message["reasoning_content"] = done.reasoning
        if done.tool_calls:
            message["content"] = done.text or None
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments_json},
                }
                for call in done.tool_calls
            ]
            if len(done.tool_calls) == 1:
                message["function_call"] = dict(message["tool_calls"][0]["function"])
        choice = {
            "index": 0,
            "message": message,
            "logprobs": chat_logprobs(done.logprobs),
            "finish_reason": self._reason(done.finish_reason),
        }
        self._finish(done)
        usage = usage_of(done, len(done.token_ids))
        return cast(
            "CreateChatCompletionResponse", {**self.head, "choices": [choice], "usage": usage}
        )

    def chunks(self) -> Iterator[CreateChatCompletionStreamResponse]:
        """First the role, then pieces, and at last why it ended."""
        self.head["object"] = "chat.completion.chunk"
        yield self._chunk({"role": "assistant"})
        with self.running as stream:
            for chunk in stream:
                delta: dict[str, Any] = {}
                if chunk.reasoning:
                    delta["reasoning_content"] = chunk.reasoning
                if chunk.text:
                    delta["content"] = chunk.text
                if chunk.tool_calls:
                    delta["tool_calls"] = [self._call_delta(call) for call in chunk.tool_calls]
                if delta or chunk.logprobs:
                    yield self._chunk(delta or {"content": ""}, chunk.logprobs)
        done = stream.completion
        yield self._chunk({}, None, self._reason(done.finish_reason))
        self._finish(done)

    def _call_delta(self, call: Any) -> dict[str, Any]:
        delta: dict[str, Any] = {"index": call.index}
        if call.id is not None:
            delta["id"] = call.id
        function = {"name": call.name, "arguments": call.arguments}
        return {**delta, "type": "function", "function": function}

    def _chunk(
        self, delta: dict[str, Any], logprobs: Any = None, reason: str | None = None
    ) -> CreateChatCompletionStreamResponse:
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": chat_logprobs(logprobs),
            "finish_reason": reason,
        }
        return cast("CreateChatCompletionStreamResponse", {**self.head, "choices": [choice]})

    def _reason(self, reason: Any) -> str:
        return {"cancelled": "stop", "timeout": "length"}.get(reason, str(reason))

    def _finish(self, done: ChatCompletion) -> None:
        self.llama._note([*self.ids, *done.token_ids])


def chat_logprobs(logprobs: list[TokenLogprob] | None) -> ChatCompletionLogprobs | None:
    """Log-probabilities as chat completions have them."""
    if logprobs is None:
        return None

    def entry(one: TokenLogprob) -> dict[str, Any]:
        return {"token": one.text, "logprob": one.logprob, "bytes": list(one.bytes)}

    content = [{**entry(one), "top_logprobs": [entry(top) for top in one.top]} for one in logprobs]
    return cast("ChatCompletionLogprobs", {"content": content, "refusal": None})
