"""A Hugging Face checkpoint as a source of weights: the tensors and keys that GGUF gives it.

What is here is what llama.cpp's converter writes: names, the order of the rotated rows, vectors as F32,
matrices in the type they have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyqwen.errors import ModelFormatError
from pyqwen.loading.safetensors_file import StoredTensor
from pyqwen.quantize.checkpoint.architecture import (
    TensorPlan,
    check_tensors,
    interleave_halves,
    plan_tensors,
    rope_factors,
    second_copy,
    without_output,
)
from pyqwen.quantize.checkpoint.directory import Checkpoint
from pyqwen.quantize.checkpoint.hyperparameters import Hyperparameters, read_hyperparameters
from pyqwen.quantize.checkpoint.metadata import add_general, add_hyperparameters, read_sampling
from pyqwen.quantize.checkpoint.name_prefixes import canonical_names
from pyqwen.quantize.checkpoint.sentence_modules import read_sentence_modules
from pyqwen.quantize.checkpoint.tokenizer_metadata import read_tokenizer
from pyqwen.quantize.encode import BadValues, encode, to_float32
from pyqwen.quantize.source.model_source import ModelSource, SourceTensor, plain_values, set_key
from pyqwen.quantize.tensor_names import tensor_names

if TYPE_CHECKING:
    import gguf

Bytes = npt.NDArray[np.uint8]


class _CheckpointTensor(SourceTensor):
    """``rotary_heads`` of the plan above 0: rows of a head come in GGUF's order."""

    def __init__(self, plan: TensorPlan, stored: StoredTensor, head_dim: int) -> None:
        is_vector = len(plan.shape) == 1
        kind = "F32" if is_vector else stored.dtype
        super().__init__(plan.target, stored.name, kind, plan.shape, stored.file.path)
        self._stored = stored
        self._head_dim = head_dim if plan.rotary_heads else 0

    def read_raw(self, start: int, stop: int) -> Bytes:
        if len(self.shape) == 1:
            values = self._stored.read_rows(0, self.columns)
            return to_float32(values, self._stored.dtype).view(np.uint8).reshape(1, -1)
        if not self._head_dim:
            return self._read(start, stop)
        # The rows of a head are reordered among themselves, so its rows are read together.
        first = start - start % self._head_dim
        last = -(-stop // self._head_dim) * self._head_dim
        rows = interleave_halves(self._read(first, last), self._head_dim)
        return np.ascontiguousarray(rows[start - first : stop - first], dtype=np.uint8)

    def _read(self, start: int, stop: int) -> Bytes:
        rows = self._stored.read_rows(start, stop)
        return rows.reshape(stop - start, -1).view(np.uint8)

    def place(self, row: int, column: int) -> str:
        if self._head_dim:  # back to the order of the checkpoint
            head, i = divmod(row, self._head_dim)
            row = head * self._head_dim + i % 2 * (self._head_dim // 2) + i // 2
        return super().place(row, column)


class _ComputedTensor(SourceTensor):
    """A vector that no file holds."""

    def __init__(self, name: str, values: npt.NDArray[np.float32], where: Path) -> None:
        super().__init__(name, "", "F32", values.shape, where)
        self._values = values

    def read_raw(self, start: int, stop: int) -> Bytes:
        return self._values.view(np.uint8).reshape(1, -1)


class CheckpointSource(ModelSource):
    """An open checkpoint; see `ModelSource`. ``general.file_type`` is that of most weights."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._checkpoint = Checkpoint(path)
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        checkpoint = self._checkpoint
        h = read_hyperparameters(checkpoint.config, str(self.path / "config.json"))
        self.architecture, self.layers = h.architecture, h.layers
        self.heads, self.kv_heads = h.heads, h.kv_heads
        self._modules = read_sentence_modules(self.path)
        tensors, renamed = canonical_names(checkpoint.tensors, h, str(self.path))
        h, lacking = without_output(h, tensors, embeds=self._modules is not None)
        self._hyperparameters = h
        self.config = {field.name: getattr(h, field.name) for field in fields(h)}
        plans = plan_tensors(h)
        check_tensors(plans, tensors, h, str(self.path))
        self.inputs = [self.path, *checkpoint.shard_paths]
        self.tensors = [_CheckpointTensor(plan, tensors[plan.source], h.head_dim) for plan in plans]
        self.notes = [*checkpoint.notes, *renamed, *h.notes, *_drop_tied_output(tensors, h)]
        self._sampling, dropped = read_sampling(self.path)
        self._tokenizer = read_tokenizer(self.path, checkpoint.config, h.vocab_rows, h.architecture)
        self.notes += [*lacking, *dropped, *self._tokenizer.notes]
        if self._modules is not None:
            self.notes += self._modules.notes
        factors = rope_factors(h)
        if factors is not None:
            name = tensor_names(h.architecture).name("rope_factors")
            self.tensors.append(_ComputedTensor(name, factors, self.path))

    def keys(self) -> dict[str, gguf.GGUFValue]:
        import gguf

        from pyqwen.text.tokenizer import Tokenizer

        checkpoint, h = self._checkpoint, self._hyperparameters
        writer = gguf.GGUFWriter(None, h.architecture)  # for its rules of names and licenses
        add_general(writer, checkpoint.path, checkpoint.config, self._sampling, self.parameters)
        weights: Counter[str] = Counter()
        for tensor in self.tensors:
            if len(tensor.shape) > 1:
                weights[tensor.type] += tensor.elements
        add_hyperparameters(writer, h, weights.most_common(1)[0][0])
        for key, value in self._tokenizer.keys().items():
            match value:
                case bool():
                    writer.add_bool(key, value)
                case int():
                    writer.add_uint32(key, value)
                case str():
                    writer.add_string(key, value)
                case _:
                    writer.add_array(key, value)
        keys: dict[str, gguf.GGUFValue] = writer.kv_data[0]
        if self._modules is not None:
            for name, value in self._modules.keys(h.architecture).items():
                set_key(keys, name, value)
        # Refuses what could not be run.
        Tokenizer.from_metadata(plain_values(keys), source=str(checkpoint.path))
        return keys

    def check_unchanged(self) -> None:
        self._checkpoint.check_unchanged()

    def close(self) -> None:
        self._checkpoint.close()


def _drop_tied_output(tensors: Mapping[str, StoredTensor], h: Hyperparameters) -> list[str]:
    """Some tied checkpoints store the embedding a second time, even in another type; GGUF has it once."""
    copy = second_copy(h)
    output = tensors.get(copy[0].source) if copy else None
    if copy is None or output is None:
        return []
    name, original = copy[0].source, copy[1].source
    embedding = tensors[original]
    slices = _CheckpointTensor(copy[0], output, h.head_dim).slices()
    if not all(_equal_rows(output, embedding, start, stop) for start, stop in slices):
        raise ModelFormatError(
            f"{output.file.path}: '{name}' differs from '{original}', but tie_word_embeddings in "
            "config.json says that they are one; set it to false if the model was trained so",
            field=name,
        )
    return [f"{name} is equal to {original} and the model is tied: it is written once"]


def _equal_rows(a: StoredTensor, b: StoredTensor, start: int, stop: int) -> bool:
    """Whether rows are the same numbers, or the one rounded to the type of the other."""
    first, second = a.read_rows(start, stop), b.read_rows(start, stop)
    if a.dtype == b.dtype:
        return np.array_equal(first, second)
    values = to_float32(first, a.dtype), to_float32(second, b.dtype)
    if np.array_equal(*values):
        return True
    try:
        return np.array_equal(encode(values[0], "F32", b.dtype), second) or np.array_equal(
            encode(values[1], "F32", a.dtype), first
        )
    except BadValues:
        return False
