"""pyqwen as a chat model of LangChain: streaming, tools, structured output, asyncio.

    pip install langchain-core
    python examples/langchain_chat.py "What is RoPE?"

In a program: ``ChatPyQwen(model="qwen2.5-coder-1.5b")``, wherever LangChain takes a chat model.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    convert_to_openai_messages,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr

from pyqwen import ChatCompletion, Chunk, Model


class ChatPyQwen(BaseChatModel):
    """A model on this machine. It is loaded by the first call, and freed with the object or by ``close``."""

    model: str = "qwen2.5-coder-1.5b"
    """A name of pyqwen's catalog, or a GGUF file."""
    context: int | None = None
    """The most tokens of a conversation; None: as the model was trained."""
    options: dict[str, Any] = {}  # noqa: RUF012 (pydantic copies it)
    """Keywords of ``pyqwen.Model.chat``: temperature, max_tokens, seed, ..."""
    _open: Model | None = PrivateAttr(None)

    @property
    def _llm_type(self) -> str:
        return "pyqwen"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "context": self.context, **self.options}

    @property
    def opened(self) -> Model:
        """The pyqwen model itself."""
        if self._open is None:
            self._open = Model(self.model, context=self.context)
        return self._open

    def close(self) -> None:
        if self._open is not None:
            self._open.close()

    def _arguments(
        self, messages: list[BaseMessage], stop: list[str] | None, more: dict[str, Any]
    ) -> dict[str, Any]:
        options = {**self.options, **more, "messages": convert_to_openai_messages(messages)}
        return options | ({"stop": stop} if stop else {})

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **more: Any,
    ) -> ChatResult:
        return _result(self.opened.chat(**self._arguments(messages, stop, more)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **more: Any,
    ) -> ChatResult:
        return _result(await self.opened.achat(**self._arguments(messages, stop, more)))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **more: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with self.opened.stream_chat(**self._arguments(messages, stop, more)) as stream:
            for chunk in stream:
                piece = _piece(chunk)
                if run_manager is not None:
                    run_manager.on_llm_new_token(chunk.text, chunk=piece)
                yield piece
            yield _last_piece(stream.completion)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **more: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with self.opened.astream_chat(**self._arguments(messages, stop, more)) as stream:
            async for chunk in stream:
                piece = _piece(chunk)
                if run_manager is not None:
                    await run_manager.on_llm_new_token(chunk.text, chunk=piece)
                yield piece
            yield _last_piece(stream.completion)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | Any],
        *,
        tool_choice: str | None = None,
        **more: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools. ``tool_choice`` is "auto", "none", "any" (or "required"), or a tool's name."""
        choice = "required" if tool_choice == "any" else tool_choice or "auto"
        described = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=described, tool_choice=choice, **more)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **more: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Answers that are instances of a pydantic model or dataclass, or follow a JSON schema.

        The grammar of the schema guides the model: no retries, no tools. None if the answer was cut.
        """
        answer = self.bind(response_format=schema, **more)
        if include_raw:
            return answer | RunnableLambda(
                lambda raw: {"raw": raw, "parsed": _parsed(raw), "parsing_error": None}
            )
        return answer | RunnableLambda(_parsed)


def _parsed(message: AIMessage) -> Any:
    return message.additional_kwargs.get("parsed")


def _result(reply: ChatCompletion) -> ChatResult:
    calls = getattr(reply, "tool_calls", None) or []
    message = AIMessage(
        content=reply.text,
        tool_calls=[
            {"name": c.name, "args": c.arguments, "id": c.id} for c in calls if not c.error
        ],
        invalid_tool_calls=[
            {"name": c.name, "args": c.arguments_json, "id": c.id, "error": c.error}
            for c in calls
            if c.error
        ],
        usage_metadata=_usage(reply),
        response_metadata={"finish_reason": reply.finish_reason, "seed": reply.seed},
        additional_kwargs={"parsed": getattr(reply, "parsed", None)},
    )
    return ChatResult(generations=[ChatGeneration(message=message)])


def _piece(chunk: Chunk) -> ChatGenerationChunk:
    calls = [
        {"index": c.index, "id": c.id, "name": c.name, "args": c.arguments}
        for c in getattr(chunk, "tool_calls", None) or []
    ]
    return ChatGenerationChunk(message=AIMessageChunk(content=chunk.text, tool_call_chunks=calls))


def _last_piece(reply: ChatCompletion) -> ChatGenerationChunk:
    facts = {"finish_reason": reply.finish_reason, "seed": reply.seed}
    return ChatGenerationChunk(
        message=AIMessageChunk(
            content="",
            usage_metadata=_usage(reply),
            response_metadata=facts,
            additional_kwargs={"parsed": getattr(reply, "parsed", None)},
        )
    )


def _usage(reply: ChatCompletion) -> UsageMetadata:
    usage = reply.usage
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        input_token_details={"cache_read": usage.cached_tokens},
    )


if __name__ == "__main__":
    for part in ChatPyQwen().stream(" ".join(sys.argv[1:]) or "What is RoPE?"):
        print(part.text, end="", flush=True)
    print()
