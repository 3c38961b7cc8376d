"""Models for tests: tiny ones with random weights, made here in a second, and two trained ones.

The tiny ones are real Qwen2.5 files in miniature: grouped heads, biases, byte-level BPE, ChatML control
tokens, padding rows. The trained ones are SmolLM2-135M, which is fetched into the user's cache, and
Qwen2.5-Coder-1.5B, which is used where it is already there: in that cache or in a folder of files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import settings

# A merge is judged on the same examples every time; new ones are looked for at every desk.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

FULL = os.environ.get("PYQWEN_TEST_FULL", "") != ""
TEST_MODELS = Path(os.environ.get("PYQWEN_TEST_MODELS", "~/.cache/pyqwen-test-models")).expanduser()

CHAT_TEMPLATE = """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are tiny.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role != 'system' or not loop.first %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

# As Qwen3's does: it closes the reasoning where none is wanted, and leaves that of earlier answers out.
THINKING_TEMPLATE = """\
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == 'assistant' and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

_TEXT = (
    "The quick brown fox jumps over the lazy dog. She sells sea shells by the sea shore, and the "
    "shells that she sells are sea shells for sure. You are a helpful assistant. What is the time? "
) * 3


@pytest.fixture(autouse=True)
def _no_packed_weights_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of trained models leave no gigabytes behind; those of the cache allow it again."""
    monkeypatch.setattr("pyqwen.loading.packed_cache.SMALLEST", 2**62)


TinyModel = Callable[..., Path]


@pytest.fixture(scope="session")
def make_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Make a tiny model: ``make_tiny_model(tensor_type="Q8_0", tied=True, ...) -> Path``."""
    folder = tmp_path_factory.mktemp("models")
    made: dict[tuple[object, ...], Path] = {}

    def make(
        *,
        architecture: str = "qwen2",
        tensor_type: str = "Q8_0",
        tied: bool = True,
        context: int = 512,
        layers: int = 2,
        hidden: int = 128,
        ffn: int = 256,
        heads: int = 4,
        kv_heads: int = 2,
        head_dim: int | None = None,
        seed: int = 0,
        damaged: bool = False,
        rope_scaling: str = "none",
        rope_factors: bool = False,
        split_max_tensors: int = 0,
        key_bias: float = 0.0,
        metadata: Mapping[str, float | int | str | list[int]] | None = None,
    ) -> Path:
        key = (
            architecture,
            tensor_type,
            tied,
            context,
            layers,
            hidden,
            ffn,
            heads,
            kv_heads,
            head_dim or hidden // heads,
            seed,
            damaged,
            rope_scaling,
            rope_factors,
            split_max_tensors,
            key_bias,
            repr(metadata),
        )
        if key not in made:
            path = folder / f"tiny-{len(made)}.gguf"
            _write_tiny_model(path, *key[:-1], metadata or {})  # type: ignore[arg-type]
            # A split model is known by its first part, which the writer names.
            made[key] = min(folder.glob(f"{path.stem}-00001-of-*.gguf"), default=path)
        return made[key]

    return make


@pytest.fixture(scope="session")
def tiny_model_path(make_tiny_model: TinyModel) -> Path:
    """A tiny Qwen2.5: 2 layers, 4 heads for 2 keys, tied, Q8_0, context 512."""
    return make_tiny_model()


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], NoReturn]:
    """``unavailable(reason)`` ends a test that lacks what it needs: skipped, but failed by `make full`."""

    def end(reason: str) -> NoReturn:
        if FULL:
            pytest.fail(reason)
        pytest.skip(reason)

    return end


def trained_model(file: str) -> Path | None:
    """A trained model's file in the folder that ``PYQWEN_TEST_MODELS`` names, if it is there."""
    path = TEST_MODELS / file
    return path if path.is_file() else None


@pytest.fixture(scope="session")
def smollm_path(unavailable: Callable[[str], NoReturn]) -> Path:
    """The trained SmolLM2-135M, fetched (98 MB) into the user's cache if it is not there."""
    from pyqwen import catalog
    from pyqwen.errors import ModelNotFoundError

    if path := trained_model("SmolLM2-135M-Instruct.Q4_1.gguf"):
        return path
    try:
        return catalog.resolve("smollm2-135m")
    except ModelNotFoundError as error:
        if os.environ.get("CI"):
            raise  # there the network is part of the bargain
        unavailable(f"SmolLM2 cannot be fetched: {error}")


@pytest.fixture(scope="session")
def qwen_path(unavailable: Callable[[str], NoReturn]) -> Path:
    """The trained Qwen2.5-Coder-1.5B, if it is already here."""
    from pyqwen import catalog

    file = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
    path = trained_model(file) or catalog.locate("qwen2.5-coder-1.5b")
    if path is None:
        unavailable(
            f"{file} (1.1 GB) is neither in {TEST_MODELS} nor in the cache: "
            "set PYQWEN_TEST_MODELS, or pyqwen pull qwen2.5-coder-1.5b"
        )
    return path


# ------------------------------------------------------------------------------------- writing a tiny model


def _vocabulary(*added: str) -> tuple[list[str], list[str], list[int]]:
    """Tokens, merges and token types of a byte-level BPE trained on one paragraph, and ``added`` ones."""
    from gguf import TokenType
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator([_TEXT], trainer)
    import json

    model = json.loads(trained.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    types = [int(TokenType.NORMAL)] * len(tokens)
    for control in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        tokens.append(control)
        types.append(int(TokenType.CONTROL))
    for text in ("<tool_call>", *added):
        tokens.append(text)
        types.append(int(TokenType.USER_DEFINED))
    while len(tokens) % 32 or len(tokens) < 352:
        tokens.append(f"[PAD{len(tokens)}]")
        types.append(int(TokenType.UNUSED))
    return tokens, merges, types


def _write_tiny_model(
    path: Path,
    architecture: str,
    tensor_type: str,
    tied: bool,
    context: int,
    layers: int,
    hidden: int,
    ffn: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    seed: int,
    damaged: bool,
    rope_scaling: str,
    rope_factors: bool,
    split_max_tensors: int,
    key_bias: float,
    metadata: Mapping[str, float | int | str | list[int]],
) -> None:
    import gguf

    thinks = architecture == "qwen3"
    tokens, merges, types = _vocabulary(*(("<think>", "</think>") if thinks else ()))
    writer = gguf.GGUFWriter(str(path), architecture, split_max_tensors=split_max_tensors)
    writer.add_name("tiny")
    add = {
        float: writer.add_float32,
        int: writer.add_int32,
        str: writer.add_string,
        bool: writer.add_bool,
    }
    for name, value in metadata.items():
        add.get(type(value), writer.add_array)(name, value)  # type: ignore[operator]
    writer.add_context_length(context)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    if head_dim != hidden // heads:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    if rope_scaling != "none":
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope_scaling))
        writer.add_rope_scaling_factor(4.0)
        writer.add_rope_scaling_orig_ctx_len(context // 4)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm" if architecture == "llama" else "qwen2")
    writer.add_token_list(tokens)
    writer.add_token_merges(merges)
    writer.add_token_types(types)
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_pad_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(THINKING_TEMPLATE if thinks else CHAT_TEMPLATE)

    random = np.random.default_rng(seed)
    quantization = gguf.GGMLQuantizationType[tensor_type]

    def matrix(name: str, rows: int, cols: int, scale: float = 1.0) -> None:
        values = random.normal(0, scale / np.sqrt(cols), (rows, cols)).astype(np.float32)
        data = gguf.quants.quantize(values, quantization)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=quantization)

    def vector(name: str, size: int, center: float, spread: float) -> None:
        values = random.normal(center, spread, size).astype(np.float32)
        if name.endswith("k.bias"):  # the slowest two of each head's rotary pairs
            values.reshape(-1, 2, head_dim // 2)[:, :, -2:] += np.float32(key_bias)
        writer.add_tensor(name, np.full_like(values, np.nan) if damaged else values)

    q_rows, kv_rows = heads * head_dim, kv_heads * head_dim
    matrix("token_embd", len(tokens), hidden, scale=4.0)
    for i in range(layers):
        block = f"blk.{i}"
        vector(f"{block}.attn_norm.weight", hidden, 1.0, 0.1)
        for letter, rows in (("q", q_rows), ("k", kv_rows), ("v", kv_rows)):
            matrix(f"{block}.attn_{letter}", rows, hidden, scale=2.0)
            if architecture == "qwen2":
                vector(f"{block}.attn_{letter}.bias", rows, 0.0, 0.5)
            if architecture == "qwen3" and letter != "v":
                vector(f"{block}.attn_{letter}_norm.weight", head_dim, 1.5, 0.3)
        matrix(f"{block}.attn_output", hidden, q_rows, scale=2.0)
        vector(f"{block}.ffn_norm.weight", hidden, 1.0, 0.1)
        matrix(f"{block}.ffn_gate", ffn, hidden, scale=2.0)
        matrix(f"{block}.ffn_up", ffn, hidden, scale=2.0)
        matrix(f"{block}.ffn_down", hidden, ffn, scale=2.0)
    vector("output_norm.weight", hidden, 1.0, 0.1)
    if rope_factors:
        vector("rope_freqs.weight", head_dim // 2, 3.0, 0.5)
    if not tied:
        matrix("output", len(tokens), hidden, scale=4.0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
