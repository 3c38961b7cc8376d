"""What each token is for, decided in one place from all that a checkpoint's files say.

Roles (beginning, end, padding ...), which tokens end an answer, which are control tokens, and whether
any is put before or after a text. Where files disagree, one of them is believed and a note says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyqwen.errors import ModelFormatError
from pyqwen.quantize.checkpoint.added_tokens import ROLES, AddedToken
from pyqwen.quantize.checkpoint.chat_templates import DEFAULT, tokens_written
from pyqwen.text.vocabulary import ALWAYS_CONTROL, END_TEXTS, TokenKind

# Tokens of infilling (llama.cpp, src/llama-vocab.cpp): Qwen2.5 does not mark them as special, but they are
# for programs to write, as those in ALWAYS_CONTROL are.
_INFILLING = re.compile(r"<(\||\uff5c)?(fim[-_\u2581]|code_(prefix|suffix|middle))")
# What GGUF calls the key of a role, where it is not the name that Hugging Face's files use.
_KEYS = {"unk": "unknown", "sep": "seperator", "pad": "padding"}
_ADDABLE = ("bos", "eos", "sep")
# Classes of tokenizers that obey add_bos_token and add_eos_token; the others only carry them along, and
# GPT-2's obeys where there is no tokenizer.json.
_OBEYING, _OBEYING_WITHOUT = ("Llama", "CodeLlama", "Gemma"), "GPT2"


@dataclass(frozen=True)
class TokenSources:
    """What the files say. ``settings`` is tokenizer_config.json, ``document`` tokenizer.json or empty."""

    byte_level: bool  # byte-level BPE, not SentencePiece
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    settings: Mapping[str, Any]
    document: Mapping[str, Any]
    added: Sequence[AddedToken]
    named: Mapping[str, str]  # texts by role
    special: frozenset[str]  # texts that a file names as special
    templates: Mapping[str, str]


@dataclass
class TokenRoles:
    """``ids`` and ``add`` are by role; ``kinds`` are those of tokens that are not what they were."""

    ids: dict[str, int] = field(default_factory=dict)
    add: dict[str, bool] = field(default_factory=dict)
    kinds: dict[int, TokenKind] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def keys(self) -> dict[str, Any]:
        """The ``tokenizer.*`` keys and their values."""
        keys: dict[str, Any] = {
            f"tokenizer.ggml.{_KEYS.get(role, role)}_token_id": i for role, i in self.ids.items()
        }
        keys.update((f"tokenizer.ggml.add_{role}_token", add) for role, add in self.add.items())
        named = sorted(self.templates.keys() - {DEFAULT})
        keys.update((f"tokenizer.chat_template.{name}", self.templates[name]) for name in named)
        if named:
            keys["tokenizer.chat_templates"] = named
        if DEFAULT in self.templates:
            keys["tokenizer.chat_template"] = self.templates[DEFAULT]
        return keys


def decide_roles(
    sources: TokenSources, tokens: Sequence[str], kinds: Sequence[int], where: str
) -> TokenRoles:
    """Decide for the vocabulary ``tokens``, whose ``kinds`` are those of ordinary tokens so far.

    ``ModelFormatError`` where a beginning or end is none of the tokens; ``where`` names the checkpoint.
    """
    return _Decision(sources, tokens, kinds, where).made


class _Decision:
    def __init__(
        self, sources: TokenSources, tokens: Sequence[str], kinds: Sequence[int], where: str
    ) -> None:
        self._from, self._tokens, self._kinds, self._where = sources, tokens, kinds, where
        self._ids: dict[str, int] = {}
        for i, text in enumerate(tokens):
            if kinds[i] != TokenKind.UNUSED:
                self._ids.setdefault(text, i)
        self._ids.update((token.text, token.id) for token in sources.added)
        self._written = [text for t in sources.templates.values() for text in tokens_written(t)]
        self.made = TokenRoles(templates=sources.templates)
        self._decide_ids()
        self._decide_ends()
        self._decide_kinds()
        self._decide_added()
        self._check_templates()

    def _note(self, text: str) -> None:
        if text not in self.made.notes:
            self.made.notes.append(text)

    # Which token is what

    def _decide_ids(self) -> None:
        for role in ROLES:
            text = self._from.named.get(role)
            named = None if text is None else self._ids.get(text)
            if text is not None and named is None:
                self._note(f"the tokenizer's {role}_token, {text!r:.60}, is none of its tokens")
            given = self._from.config.get(f"{role}_token_id")
            if named is not None:
                self.made.ids[role] = named
                if role in ("bos", "pad") or type(given) is not int:
                    continue  # config.json has these from the base model, and nobody reads them
                if given != named:
                    self._note(
                        f"{role}: config.json says token {given}, the tokenizer says {named} "
                        f"({text!r:.60}), which is believed"
                    )
            elif type(given) is int:
                if 0 <= given < len(self._tokens) and not self._is_padding_row(given):
                    self.made.ids[role] = given
                elif role in ("bos", "eos") and given >= len(self._tokens):
                    raise ModelFormatError(
                        f"{self._where}: {role}_token_id in config.json is {given}, but there are "
                        f"{len(self._tokens):,} tokens",
                        field=f"{role}_token_id",
                    )
                else:
                    self._note(
                        f"{role}_token_id in config.json is {given}, no token of the model: dropped"
                    )

    def _is_padding_row(self, i: int) -> bool:
        return self._kinds[i] == TokenKind.UNUSED and i not in {t.id for t in self._from.added}

    def _decide_ends(self) -> None:
        """The tokens that end an answer beside ``eos``: GGUF has room for two, ``eot`` and ``eom``.

        Readers know the usual ones by their texts, so that these need no key.
        """
        lists = [
            (name, ends)
            for name, source in (
                ("generation_config.json", self._from.generation),
                ("config.json", self._from.config),
            )
            if (ends := self._end_list(source.get("eos_token_id"), name))
        ]
        ends = list(lists[0][1]) if lists else []  # generation_config.json alone, where it says
        if "eos" not in self.made.ids and ends:
            self.made.ids["eos"] = ends[0]
        ends = [i for i in ends if i != self.made.ids.get("eos")]
        unknown = [i for i in ends if self._tokens[i] not in END_TEXTS]
        for role, i in zip(("eot", "eom"), unknown, strict=False):
            self.made.ids[role] = i
        for i in unknown[2:]:
            self._note(
                f"token {i}, {self._tokens[i]!r:.60}, should end an answer, too, but GGUF has no more "
                f"room for such tokens: give it as a stop string"
            )
        if "eos" not in self.made.ids and not self._ids.keys() & END_TEXTS:
            self._note("no file names a token that ends an answer: answers end at their limit")

    def _end_list(self, value: Any, name: str) -> list[int]:
        ends = []
        for i in value if isinstance(value, list) else [] if value is None else [value]:
            if type(i) is int and 0 <= i < len(self._tokens) and not self._is_padding_row(i):
                ends.append(i)
            else:
                self._note(
                    f"eos_token_id in {name} names {i!r:.40}, no token of the model: dropped"
                )
        return list(dict.fromkeys(ends))

    # Which tokens structure a prompt

    def _decide_kinds(self) -> None:
        for token in self._from.added:
            self.made.kinds[token.id] = self._kind(token)
        for text in (*self._from.special, *self._written):
            i = self._ids.get(text)
            if i is not None and self._kinds[i] == TokenKind.NORMAL and _is_bracketed(text):
                self.made.kinds.setdefault(i, TokenKind.CONTROL)

    def _kind(self, token: AddedToken) -> TokenKind:
        said = set(token.flags.values())
        if len(said) > 1:
            files = " and ".join(sorted(token.flags))
            self._note(
                f"{files} do not agree whether {token.text!r:.60} is special: it counts as such"
            )
        if True in said or token.text in self._from.special | ALWAYS_CONTROL:
            return TokenKind.CONTROL
        if _INFILLING.match(token.text):
            return TokenKind.CONTROL
        if looks_special(token.text):
            if not said:
                return TokenKind.CONTROL
            if token.text in self._written:
                # What a template writes must not be what a user can write.
                self._note(
                    f"{token.text!r:.60} is not marked as special, but the chat template writes it: it "
                    "counts as special"
                )
                return TokenKind.CONTROL
        return TokenKind.USER_DEFINED

    # What is put around a text

    def _decide_added(self) -> None:
        add = self.made.add
        for role, i in self._by_post_processor():
            if role == "eos" and i is not None and i != self.made.ids.get("eos"):
                self._move_end(i)
            add[role] = i is not None and i == self.made.ids.get(role)
        name = str(self._from.settings.get("tokenizer_class"))
        obeys = (
            not self._from.byte_level
            or name.startswith(_OBEYING)
            or (name.startswith(_OBEYING_WITHOUT) and not self._from.document)
        )
        for role in _ADDABLE:
            declared = self._from.settings.get(f"add_{role}_token")
            if not isinstance(declared, bool) or role in add:
                continue
            if declared and not obeys:
                self._note(
                    f"add_{role}_token is true in tokenizer_config.json, but the tokenizer adds no such "
                    "token: it is not added"
                )
                declared = False
            add[role] = declared

    def _move_end(self, i: int) -> None:
        """Texts end with another token than answers, as in Qwen3-Embedding: GGUF's ``eos`` is that one, as
        llama.cpp's converter has it."""
        old = self.made.ids.get("eos")
        self.made.ids["eos"] = i
        if old is None:
            return
        self._note(
            f"tokenizer.json ends each text with {self._tokens[i]!r:.60}: it becomes eos in the place of "
            f"{self._tokens[old]!r:.60}, which still ends answers"
        )
        free = [role for role in ("eot", "eom") if role not in self.made.ids]
        if free:
            self.made.ids[free[0]] = old

    def _by_post_processor(self) -> Iterator[tuple[str, int | None]]:
        """Which tokens the post-processor of tokenizer.json puts before and after a text."""
        post = self._from.document.get("post_processor") or {}
        for step in post.get("processors") or [post]:
            if not isinstance(step, dict) or step.get("type") != "TemplateProcessing":
                continue
            template = step.get("single") or []
            if len(template) > 1:
                for role, end in (("bos", template[0]), ("eos", template[-1])):
                    text = end.get("SpecialToken", {}).get("id")
                    if text is not None:
                        i = self._ids.get(text)
                        if i is not None:
                            self.made.ids.setdefault(role, i)
                        yield role, i

    # Whether the templates' tokens exist

    def _check_templates(self) -> None:
        if unknown := [text for text in self._written if text not in self._ids]:
            texts = ", ".join(f"{text!r:.90}" for text in dict.fromkeys(unknown))
            self._note(
                f"the chat template writes {texts:.400}: no tokens of this model, but ordinary text"
            )
        for role in ("bos", "eos"):
            uses = any(f"{role}_token" in text for text in self._from.templates.values())
            if uses and role not in self.made.ids:
                self._note(
                    f"the chat template writes {role}_token, which the model has not: it is empty"
                )


def looks_special(text: str) -> bool:
    """Control tokens that their files do not mark as such (llama.cpp, does_token_look_special)."""
    return (
        text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
        or (text.startswith("<|") and text.endswith("|>"))
        or (text.startswith("<\uff5c") and text.endswith("\uff5c>"))
        or (text.startswith("<unused") and text.endswith(">"))
    )


def _is_bracketed(text: str) -> bool:
    return len(text) > 2 and (text[0], text[-1]) in (("<", ">"), ("[", "]"))
