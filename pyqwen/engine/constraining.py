"""What a response format means for one request: its settings, its guide, and what becomes of its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pyqwen.constraints.thinking import AfterThinking
from pyqwen.errors import ConstraintError
from pyqwen.text.reasoning import BEGIN, END

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyqwen.constraints.grammars import Grammars
    from pyqwen.constraints.response_format import Guided, ResponseFormat
    from pyqwen.engine.request import Generation
    from pyqwen.sampling import SamplingOptions, SamplingParams
    from pyqwen.text.tokenizer import Tokenizer
    from pyqwen.tools.guiding import CallsFormat


_NO_PENALTIES: SamplingOptions = {
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


class Asked(Protocol):
    """What is known of the answer."""

    @property
    def may_think(self) -> bool:
        """Whether the model may think first."""

    @property
    def in_reasoning(self) -> bool:
        """Whether the prompt has begun that."""

    @property
    def begun(self) -> Mapping[str, Any] | None:
        """The message that the answer goes on with."""


def without_penalties(defaults: SamplingParams) -> SamplingParams:
    """Recommended settings without the penalties, which are meant for prose."""
    return defaults.replace(**_NO_PENALTIES)


def constrained(
    given: SamplingParams, defaults: SamplingParams, wanted: ResponseFormat
) -> SamplingParams:
    """Complete the settings of a call whose answer has a format.

    Penalties that a model recommends for prose are left out, for they make it avoid what must come again:
    names, quotes, brackets. Those that are given hold for JSON, but not for the tokens that structure it,
    and not for other grammars. The end is where the grammar says, whatever ``ignore_eos``.
    """
    settings = given.over(without_penalties(defaults)).replace(ignore_eos=False)
    return settings if wanted.is_json else settings.replace(**_NO_PENALTIES)


def constrain(
    request: Generation,
    wanted: ResponseFormat | CallsFormat,
    grammars: Grammars,
    tokenizer: Tokenizer,
    asked: Asked,
) -> None:
    """Let a format guide a request: now if it is compiled, else when the request is prepared."""
    begun: str = asked.begun["content"] if asked.begun is not None and not asked.may_think else ""

    def apply(guided: Guided) -> None:
        guide = guided.guide
        if begun:
            guide.start_behind(tokenizer.encode(begun, add_bos=False))
        request.constraint = guide
        if asked.may_think:
            request.constraint = AfterThinking(
                guide,
                begin=_tag(tokenizer, BEGIN),
                end=_tag(tokenizer, END),
                between=tokenizer.encode("\n\n", add_bos=False),
                is_open=asked.in_reasoning,
            )
        request.unenforced = guided.unenforced
        request.conclusion = lambda completion: guided.conclude(completion, begun)

    guided = wanted.find(grammars)
    if guided is not None:
        apply(guided)
    else:
        request.preparation = lambda: apply(wanted.make(grammars))


def _tag(tokenizer: Tokenizer, text: str) -> int:
    ids = tokenizer.encode(text, special=True, add_bos=False)
    if len(ids) != 1:
        raise ConstraintError(
            f"this model writes {text} in {len(ids)} tokens, and its answer cannot be told from what it "
            "thinks; turn thinking off, such as by template_variables={'enable_thinking': False}"
        )
    return ids[0]
