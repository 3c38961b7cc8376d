"""What the calls that write text take by keyword, in one place: a new option is a line here.

All are typed for checkers (PEP 692). What is not an option of the call itself is a setting of its sampling,
which ``sampling.py`` checks by name and range.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, cast

from pyqwen.sampling import SamplingOptions


class FormatOptions(TypedDict, total=False):
    """Keywords of all calls that write text: what the answer must look like."""

    response_format: Any
    """A ``Constraint``, a JSON schema, a type that pydantic can describe, or OpenAI's forms."""
    strict: bool
    """Whether a schema that cannot be enforced in full is refused."""


class GenerateOptions(SamplingOptions, FormatOptions, total=False):
    """Keywords of ``Model.generate`` and its relatives."""

    special: bool
    """Whether the names of control tokens in a text mean these tokens."""


class ChatOptions(SamplingOptions, FormatOptions, total=False):
    """Keywords of ``Model.chat`` and its relatives."""

    template: str | None
    """The name of another template that the file holds."""
    template_variables: Mapping[str, Any] | None
    """What the template sees besides the messages."""


def sampling_of(options: GenerateOptions | ChatOptions, kind: type) -> SamplingOptions:
    """Return the keywords that are no options of this ``kind`` of calls: settings, and unknown names."""
    own = kind.__annotations__.keys() - SamplingOptions.__annotations__.keys()
    return cast(
        SamplingOptions, {name: value for name, value in options.items() if name not in own}
    )
