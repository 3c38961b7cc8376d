"""The check of a finished answer by a schema that the grammar could not enforce in full."""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any

from pyqwen.constraints.answers import AnswerError, read_json

_log = logging.getLogger("pyqwen")


def validate(text: str, schema: str) -> None:
    """Raise ``AnswerError`` where an answer, a JSON text, does not meet the schema, a JSON text.

    Numbers are compared as they are written: 0.59 is a multiple of 0.01, unlike their binary fractions.
    """
    answer = read_json(text, exact=True)
    try:
        wrong = _best_of(validator(schema).iter_errors(answer))
    except re.error as error:  # patterns of other dialects: the grammar knew them
        _log.debug("an answer was not checked, for Python has no such pattern: %s", error)
        return
    except RecursionError:
        raise AnswerError("it is nested too deeply to be checked") from None
    except Exception as error:  # references that lead nowhere, for example
        raise AnswerError(f"it cannot be checked by its schema: {error}") from None
    if wrong is not None:
        raise AnswerError(f"{wrong.message:.200}", tuple(wrong.absolute_path))


def _best_of(errors: Any) -> Any:
    from jsonschema.exceptions import best_match

    return best_match(errors)


@lru_cache(maxsize=64)
def validator(schema: str) -> Any:
    """The validator of a schema, a JSON text."""
    from jsonschema import Draft202012Validator
    from referencing.jsonschema import EMPTY_REGISTRY

    loaded = read_json(schema, exact=True)
    return Draft202012Validator(loaded, registry=EMPTY_REGISTRY)  # which fetches nothing
