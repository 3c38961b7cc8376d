"""What can go wrong, in words for the person who chats: what it is, and what can be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyqwen


@dataclass(frozen=True)
class Problem:
    """``remedies`` are names of the window's actions, shown as buttons."""

    title: str
    text: str
    remedies: tuple[str, ...] = ()

    @classmethod
    def no_model(cls) -> Problem:
        return cls("No model is open", "Choose one to begin.", ("choose_model",))

    @classmethod
    def too_large(cls, name: str, plan: pyqwen.MemoryPlan) -> Problem:
        need, free = gigabytes(plan.total), gigabytes(plan.available)
        text = f"{short_name(name)} takes {need} with a context of {plan.context:,} tokens, "
        text += f"and {free} are free."
        if plan.longest_context > 512:
            text += f" A context of {plan.longest_context:,} would fit: see Settings."
        else:
            text += " Choose a smaller model, or close other programs."
        return cls("Not enough memory", text, ("choose_model", "settings", "open_anyway"))


def describe(error: BaseException) -> Problem:
    """A pyqwen error, whose message already says what and where, with what to do here."""
    text = str(error) or type(error).__name__
    match error:
        case pyqwen.ModelNotFoundError():
            return Problem("The model is not here", text, ("choose_model", "retry_open"))
        case pyqwen.ContextOverflowError():
            text = f"{text.partition(':')[0]}. Begin a new chat, or raise the context in Settings."
            return Problem("The conversation is too long", text, ("new_chat", "settings"))
        case pyqwen.OutOfMemoryError():
            return Problem("Out of memory", text, ("choose_model", "settings"))
        case pyqwen.ModelFileError():
            return Problem("The model file cannot be used", text, ("choose_model", "retry_open"))
        case pyqwen.ConstraintError():
            return Problem("The JSON schema cannot be used", text, ("json_mode",))
        case pyqwen.PyQwenError():
            return Problem("The model could not answer", text, ("regenerate",))
    return Problem(f"Something failed ({type(error).__name__})", text, ("regenerate",))


def short_name(model: str) -> str:
    """The name of a model, or of its file, as it is shown."""
    return Path(model).stem if model.endswith(".gguf") else model


def gigabytes(count: float) -> str:
    """Bytes as people read them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
