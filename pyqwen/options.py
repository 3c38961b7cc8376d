"""What the calls that write text take by keyword, in one place: a new option is a line here.

All are typed for checkers (PEP 692). What is not an option of the call itself is a setting of its sampling,
which ``sampling.py`` checks by name and range.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypedDict, cast

from pyqwen.sampling import SamplingOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LogitsProcessor: TypeAlias = (
    "Callable[[list[int], npt.NDArray[np.float32]], npt.NDArray[np.float32] | None]"
)
"""``process(ids, logits)``: see ``RequestOptions.logits_processor``."""
ToolLike = Callable[..., Any] | Mapping[str, Any]
"""A tool: a function, or OpenAI's dict."""


class OpenSession(Protocol):
    """A :class:`pyqwen.Session`."""

    @property
    def tokens(self) -> list[int]:
        """What it holds."""

    def rewind(self, n: int) -> None:
        """Hold the first ``n`` of them only."""


class FormatOptions(TypedDict, total=False):
    """Keywords of all calls that write text: what the answer must look like."""

    response_format: Any
    """A ``Constraint``, a JSON schema, a type that pydantic can describe, or OpenAI's forms."""
    strict: bool
    """Whether a schema that cannot be enforced in full is refused."""


class RequestOptions(SamplingOptions, FormatOptions, total=False):
    """Keywords of all calls that write text."""

    session: OpenSession | str | os.PathLike[str] | None
    """What holds the positions of prompt and answer afterwards: an open session, or a file, which is loaded
    before if it is there, and written when the answer is complete."""
    adapter: str | Mapping[str, float] | None
    """The name of one of ``Model(adapters=...)``, or several with the factors that each is multiplied by;
    None: the model as it is."""
    timeout: float | None
    """Seconds after which the answer ends as it is, with ``finish_reason`` ``timeout``; waiting counts."""
    prompt_logprobs: bool | None
    """Whether ``Completion.prompt_logprobs`` is filled in, with the ``top_logprobs`` likeliest tokens. The
    whole prompt is read for it, whatever is cached."""
    logits_processor: LogitsProcessor | None
    """``process(ids, logits)`` is called for each token, with prompt and answer so far and the model's
    logits, float32 (real tokens), which it may change or replace by what it returns. They are valid until
    it returns, and come before masks, penalties and temperature. Slow, and in the engine's thread: while it
    runs, all requests of the model wait, and it must not call the model. What it raises ends this request
    only."""


class GenerateOptions(RequestOptions, total=False):
    """Keywords of ``Model.generate`` and its relatives."""

    special: bool
    """Whether the names of control tokens in a text mean these tokens."""


class ConversationOptions(RequestOptions, total=False):
    """Keywords of ``Model.run_tools``, which has its tools beside them."""

    template: str | None
    """The name of another template that the file holds."""
    template_variables: Mapping[str, Any] | None
    """What the template sees besides the messages."""
    continue_final_message: bool | None
    """Whether the answer goes on with the last message, an assistant's, instead of following it."""
    tool_choice: str | Mapping[str, Any] | None
    """"auto", "none", "required", or the name of the tool that has to be called; OpenAI's dict, too."""
    parallel_tool_calls: bool
    """Whether one answer may have several calls."""


class ChatOptions(ConversationOptions, total=False):
    """Keywords of ``Model.chat`` and its relatives."""

    tools: Sequence[ToolLike] | None
    """What the model may call: functions, and OpenAI's dicts."""


class InfillOptions(RequestOptions, total=False):
    """Keywords of ``Model.infill`` and its relatives."""

    files: Mapping[str, str] | None
    """Other files of the repository, by name; the last ones are the first to be kept where not all fit."""
    filename: str | None
    """The name of the file to fill in, where it is to be told."""
    repository: str | None
    """The name of the repository, told along with files."""


def sampling_of(options: RequestOptions, kind: type) -> SamplingOptions:
    """Return the keywords that are no options of this ``kind`` of calls: settings, and unknown names."""
    own = kind.__annotations__.keys() - SamplingOptions.__annotations__.keys()
    return cast(
        SamplingOptions, {name: value for name, value in options.items() if name not in own}
    )
