"""Errors of the operating system, at the border of the package: what failed, as one of its own errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from pyqwen.errors import FileAccessError, PyQwenError

_LONGEST = 1000  # characters of a name in a message

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


def raising_file_errors(
    function: Callable[_Arguments, _Result],
) -> Callable[_Arguments, _Result]:
    """Decorate a public function: an ``OSError`` in it becomes a ``FileAccessError`` that names the file."""

    @wraps(function)
    def call(*args: _Arguments.args, **keywords: _Arguments.kwargs) -> _Result:
        try:
            return function(*args, **keywords)
        except PyQwenError:
            raise
        except OSError as error:
            where = f"{str(error.filename)[:_LONGEST]}: " if error.filename else ""
            ours = FileAccessError(f"{where}{error.strerror or error}")
            ours.errno, ours.strerror, ours.filename = error.errno, error.strerror, error.filename
            raise ours from error

    return call
