"""The exceptions of pyqwen: everything that can go wrong at run time is a ``PyQwenError``.

Invalid arguments of a call are ``ValueError`` or ``TypeError``, as everywhere in Python.
"""

from __future__ import annotations

from typing import Any


class PyQwenError(Exception):
    """Base of all run-time errors of this package."""


class ModelFileError(PyQwenError, ValueError):
    """A model file cannot be opened, read or used.

    ``offset`` is the byte position in the file, ``field`` the key or tensor concerned, where known.
    """

    def __init__(
        self, message: str, *, offset: int | None = None, field: str | None = None
    ) -> None:
        super().__init__(message)
        self.offset = offset
        self.field = field


class ModelFormatError(ModelFileError):
    """The bytes of a model file break the rules of its format."""


class UnsupportedModelError(ModelFileError):
    """A well-formed file that holds something this version does not run."""


class ModelChangedError(ModelFileError):
    """A memory-mapped model file was changed or truncated while it was in use."""


class ModelNotFoundError(ModelFileError, FileNotFoundError):
    """No model at that path, or of that name in the catalog, the cache or the network."""

    def __str__(self) -> str:  # OSError would print its errno tuple
        return str(self.args[0]) if self.args else ""


class FileAccessError(ModelFileError, OSError):
    """The operating system refused to open, read or write a file; ``errno`` says why."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class SessionFileError(PyQwenError, ValueError):
    """A session file is damaged, no such file, or was saved with another model or other settings."""


class ContextOverflowError(PyQwenError, ValueError):
    """A prompt, or a prompt with its answer, does not fit the context.

    ``tokens`` is how many there are, ``context`` how many fit; None where they were not counted.
    """

    def __init__(
        self, message: str, *, tokens: int | None = None, context: int | None = None
    ) -> None:
        super().__init__(message)
        self.tokens = tokens
        self.context = context


class OutOfMemoryError(PyQwenError, MemoryError):
    """The memory that an operation needs could not be allocated; the model stays usable."""


class NoThreadError(OutOfMemoryError, RuntimeError):
    """The operating system gives no further thread to this process."""


class NumericError(PyQwenError, ArithmeticError):
    """The model produced values that are not numbers: its weights are damaged."""


class ConstraintError(PyQwenError, ValueError):
    """A constraint on the output (schema, grammar, regular expression) is invalid or unsatisfiable, or a
    finished answer does not meet it.

    ``path`` is a JSON pointer (``#/properties/age``): into the schema, or for an answer, which
    ``completion`` then is, into the answer. None where it is not known, or there is no schema.
    """

    def __init__(self, message: str, *, path: str | None = None, completion: Any = None) -> None:
        super().__init__(message)
        self.path = path
        self.completion = completion


class TemplateError(PyQwenError, ValueError):
    """A chat template is invalid, exceeds its limits or refuses the messages."""


class CancelledError(PyQwenError):
    """Someone else ended the request, for example by closing the model."""


class ClosedError(PyQwenError, RuntimeError):
    """The model or stream was already closed."""
