"""All keys of a converted file but the tokenizer's: general.*, sampling defaults, hyperparameters.

Names, licenses and authors are taken from the model card and the directory's name by the heuristics of
the ``gguf`` package, so that files are named as llama.cpp names them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyqwen.errors import ModelFormatError
from pyqwen.loading.json_file import MEGABYTE, read_optional_object
from pyqwen.quantize.checkpoint.hyperparameters import Hyperparameters
from pyqwen.quantize.recipes import FILE_TYPES
from pyqwen.quantize.sampling_defaults import SETTINGS, usable

if TYPE_CHECKING:
    import gguf

_LOGGER = logging.getLogger("pyqwen")
_CARD_LIMIT = 4 * MEGABYTE


def read_sampling(path: Path) -> tuple[dict[str, int | float], list[str]]:
    """The ``general.sampling.*`` keys that the checkpoint's generation_config.json gives, and notes.

    What cannot be sampled with is left out. ``ModelFormatError`` where a setting is no number.
    """
    where = path / "generation_config.json"
    settings = read_optional_object(where)
    keys: dict[str, int | float] = {}
    notes = []
    for name, key, _ in SETTINGS:
        given = settings.get(name)
        if given is None:
            continue
        if type(given) not in (int, float):
            raise ModelFormatError(f"{where}: {name} is {given!r:.60}, not a number", field=name)
        value, problem = usable(name, given)
        if value is None:
            notes.append(f"{name} of generation_config.json is left out: {problem}")
        else:
            keys[key] = value
    return keys, notes


def add_general(
    writer: gguf.GGUFWriter,
    path: Path,
    config: Mapping[str, Any],
    sampling: Mapping[str, int | float],
    parameters: int,
) -> None:
    """Add type, sampling defaults, name, license and authors to the file."""
    import gguf

    writer.add_type(gguf.GGUFType.MODEL)
    for key, value in sampling.items():
        if isinstance(value, int):
            writer.add_int32(key, value)
        else:
            writer.add_float32(key, value)
    described = _describe(path, config, parameters)
    described.name = described.name or _model_name(path)
    described.size_label = described.size_label or gguf.size_label(parameters, parameters, 0, 0)
    described.set_gguf_meta_model(writer)


def add_hyperparameters(writer: gguf.GGUFWriter, h: Hyperparameters, file_type: str) -> None:
    """Add the shape of the model; ``file_type`` is the type of most weights, e.g. ``BF16``."""
    import gguf

    writer.add_block_count(h.layers)
    writer.add_context_length(h.context)
    writer.add_embedding_length(h.hidden)
    writer.add_feed_forward_length(h.ffn)
    writer.add_head_count(h.heads)
    writer.add_head_count_kv(h.kv_heads)
    writer.add_rope_freq_base(h.rope_theta)
    writer.add_layer_norm_rms_eps(h.rms_eps)
    if h.states_head_dim or h.architecture == "llama":
        writer.add_key_length(h.head_dim)
        writer.add_value_length(h.head_dim)
    if h.architecture == "llama":
        writer.add_vocab_size(h.vocab_rows)
        writer.add_rope_dimension_count(h.head_dim)
    _add_rope_scaling(writer, h)
    writer.add_file_type(FILE_TYPES[file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_rope_scaling(writer: gguf.GGUFWriter, h: Hyperparameters) -> None:
    import gguf

    scaling = h.rope_scaling
    if scaling is None or scaling.kind == "llama3":  # that one is a tensor
        return
    writer.add_rope_scaling_type(gguf.RopeScalingType(scaling.kind))
    writer.add_rope_scaling_factor(scaling.factor)
    if scaling.original_context is not None:
        writer.add_rope_scaling_orig_ctx_len(scaling.original_context)
    for name, key in (
        ("extrapolation_factor", "yarn_ext_factor"),
        ("attention_factor", "yarn_attn_factor"),
        ("beta_fast", "yarn_beta_fast"),
        ("beta_slow", "yarn_beta_slow"),
    ):
        if name in scaling.options:
            writer.add_float32(f"{h.architecture}.rope.scaling.{key}", scaling.options[name])


def _describe(path: Path, config: Mapping[str, Any], parameters: int) -> gguf.Metadata:
    """What model card and directory name say; a card that cannot be read says nothing."""
    import gguf

    card = path / "README.md"
    if card.is_file() and card.stat().st_size > _CARD_LIMIT:
        _LOGGER.warning("%s is not read: it is larger than %d bytes", card, _CARD_LIMIT)
        return gguf.Metadata()
    try:
        front_matter = _plain_values(gguf.Metadata.load_model_card(path))
        return gguf.Metadata.apply_metadata_heuristic(
            gguf.Metadata(), front_matter, dict(config), Path(_model_name(path)), parameters
        )
    except Exception as error:  # YAML and heuristics choke on much; the model does not need them
        _LOGGER.warning("%s is left out of the metadata: %s", card, error)
        return gguf.Metadata()


def _model_name(path: Path) -> str:
    """The name of the directory; in the hub's cache, models--ORG--NAME/snapshots/HASH, that is NAME."""
    whole = path.resolve()
    if whole.parent.name == "snapshots" and whole.parent.parent.name.startswith("models--"):
        return whole.parent.parent.name.rpartition("--")[2]
    return whole.name


def _plain_values(card: Mapping[str, Any]) -> dict[str, Any]:
    """Texts and lists of texts, as the heuristics expect them; others are left out."""
    return {
        key: value
        for key, value in card.items()
        if isinstance(value, str)
        or (isinstance(value, list) and all(isinstance(item, str) for item in value))
    }
