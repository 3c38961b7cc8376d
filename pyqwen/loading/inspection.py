"""What is in a model file, as facts: for ``pyqwen inspect`` and for programs."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyqwen import _native
from pyqwen.errors import PyQwenError, TemplateError
from pyqwen.loading.config import ModelConfig
from pyqwen.loading.generation_defaults import GenerationDefaults, read_defaults
from pyqwen.loading.gguf_file import GGUFFile, TensorInfo
from pyqwen.text.chat_template import ChatTemplate
from pyqwen.text.tokenizer import Tokenizer

_LONGEST_TEXT = 200  # of a metadata value; the chat template is thousands long


@dataclass(frozen=True, slots=True)
class TypeShare:
    """How many tensors have a type, and the bytes and elements they take together."""

    tensors: int
    bytes: int
    elements: int


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """``padding`` rows behind the ``tokens`` can be read but never written."""

    model: str
    pre_tokenizer: str
    tokens: int
    padding: int
    bos_id: int | None
    eos_id: int | None
    end_ids: list[int]
    adds_bos: bool


@dataclass(frozen=True, slots=True)
class Inspection:
    """The facts about a file. What could not be found out is None, and ``problems`` says why."""

    path: Path
    name: str | None
    gguf_version: int
    shards: int
    file_bytes: int
    tensor_bytes: int
    parameters: int
    bits_per_weight: float
    types: dict[str, TypeShare]
    config: ModelConfig | None
    tokenizer: TokenizerFacts | None
    chat_template: str | None
    defaults: GenerationDefaults | None
    license: str | None
    license_url: str | None
    license_restriction: str | None
    metadata: dict[str, Any]
    tensors: list[TensorInfo]
    problems: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as a dictionary for JSON."""
        facts = asdict(self)
        facts["path"] = str(self.path)
        return facts


def inspect(path_or_name: str | os.PathLike[str]) -> Inspection:
    """Return what is in a GGUF file; no weights are read.

    A file that breaks the format raises ``ModelFileError``. What else is wrong, such as an
    architecture that does not run or a broken template, is listed under ``problems``.
    """
    from pyqwen import catalog

    path = catalog.resolve(os.fspath(path_or_name))
    problems: list[str] = []
    with GGUFFile(path) as file:
        metadata, tensors = file.metadata, file.tensors
        config = _config_of(file, problems)
        tokenizer = _tokenizer_of(file, path.name, problems)
        defaults = None
        if config is not None:
            defaults = read_defaults(
                metadata, hidden=config.hidden, layers=config.layers, source=path.name
            )
            problems.extend(defaults.ignored)
        if tokenizer is not None:
            _check_template(file, tokenizer, path.name, problems)
        known = catalog.license_of(path)
        stated = _text(metadata, "general.license", problems)
        link = _text(metadata, "general.license.link", problems)
        elements = sum(math.prod(tensor.shape) for tensor in tensors)
        return Inspection(
            path=path,
            name=_text(metadata, "general.name", problems),
            gguf_version=file.version,
            shards=file.shards,
            file_bytes=file.file_bytes,
            tensor_bytes=file.tensor_bytes,
            parameters=elements,
            bits_per_weight=8 * file.tensor_bytes / elements if elements else 0.0,
            types=_type_shares(tensors),
            config=config,
            tokenizer=_tokenizer_facts(file, tokenizer, config) if tokenizer else None,
            chat_template=_text(metadata, "tokenizer.chat_template", problems),
            defaults=defaults,
            license=known.name if known else stated,
            license_url=known.url if known else link,
            license_restriction=known.restriction if known else None,
            metadata={key: _shortened(value) for key, value in metadata.items()},
            tensors=tensors,
            problems=problems,
        )


def _text(metadata: Mapping[str, Any], key: str, problems: list[str]) -> str | None:
    """The value of a key that holds text; what else it holds is a problem."""
    value = metadata.get(key)
    if value is None or isinstance(value, str):
        return value
    problems.append(f"the key {key} holds {type(value).__name__}, not a text")
    return None


def _config_of(file: GGUFFile, problems: list[str]) -> ModelConfig | None:
    try:
        return ModelConfig.from_native(_native.read_config(file.handle))
    except PyQwenError as error:
        problems.append(str(error))
        return None


def _tokenizer_of(file: GGUFFile, source: str, problems: list[str]) -> Tokenizer | None:
    try:
        return Tokenizer.from_metadata(file.metadata, source=source)
    except PyQwenError as error:
        problems.append(str(error))
        return None


def _check_template(file: GGUFFile, tokenizer: Tokenizer, source: str, problems: list[str]) -> None:
    try:
        template = ChatTemplate.from_metadata(file.metadata, tokenizer, source=source)
        template.render("Hello")
        problems.extend(f"chat template: {repair}" for repair in template.repairs)
    except TemplateError as error:
        problems.append(str(error))


def _type_shares(tensors: list[TensorInfo]) -> dict[str, TypeShare]:
    """The types of the file, the one with the most bytes first."""
    count: Counter[str] = Counter()
    n_bytes: Counter[str] = Counter()
    elements: Counter[str] = Counter()
    for tensor in tensors:
        count[tensor.type] += 1
        n_bytes[tensor.type] += tensor.n_bytes
        elements[tensor.type] += math.prod(tensor.shape)
    return {
        name: TypeShare(count[name], size, elements[name]) for name, size in n_bytes.most_common()
    }


def _tokenizer_facts(
    file: GGUFFile, tokenizer: Tokenizer, config: ModelConfig | None
) -> TokenizerFacts:
    rows = config.vocab_rows if config else tokenizer.vocab_size
    return TokenizerFacts(
        model=str(file.metadata.get("tokenizer.ggml.model", "")),
        pre_tokenizer=str(file.metadata.get("tokenizer.ggml.pre", "")),
        tokens=tokenizer.vocab_size,
        padding=rows - tokenizer.vocab_size,
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
        end_ids=sorted(tokenizer.eog_ids),
        adds_bos=tokenizer.add_bos,
    )


def _shortened(value: Any) -> Any:
    """A value for display: of a long list or text only how long it is, or its beginning."""
    if isinstance(value, list) and len(value) > 8:
        return f"[{len(value):,} values]"
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return f"{value[:_LONGEST_TEXT]}… ({len(value):,} characters)"
    return value
