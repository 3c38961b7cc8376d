"""What this pyqwen computes, as hashes: to show that a change of the code changes no answer by a bit.

    python benchmarks/fingerprint.py MODEL.gguf ... > before.txt             # on the old commit
    python benchmarks/fingerprint.py MODEL.gguf ... --check before.txt       # on the new one

Prints one line ``sha256  what`` for each result, sorted by what was computed: logits, greedy and sampled
answers, chats, log-probabilities and token ids, of the given files and of small models that are made here
(every tensor type, tied and untied, both architectures, biases, shapes of heads, every KV type, exact mode,
every instruction set of this machine, several numbers of threads), and the files that converting and
quantizing make. ``--only WORD`` computes the lines of one part: small, quantized or given. ``--check``
compares with an earlier output (of the same parts and files): it prints the lines that differ, ``-`` for
what was and ``+`` for what is, and exits with 1 if there are any.

Only public names of pyqwen are used, so that this file runs on any commit that has them. Answers depend on
the file alone; files made with a calibration text (AUTO, error feedback, channel scales, importance matrices)
also on numpy's matrix products, so compare those on one machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import struct
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqwen import Completion, Model, SamplingParams

Lines = Iterator[tuple[str, str]]  # what, sha256

ISAS = ("amx", "avx512vnni", "avxvnni", "avx2", "i8mm", "dotprod", "neon", "scalar")
TYPES = (
    *("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"),
    *("Q2_K", "Q3_K_S", "Q4_K_S", "Q5_K_S", "Q6_K", "IQ4_NL", "IQ4_XS"),
)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = (
    "The lighthouse keeper wrote down the weather, the ships that passed and, on quiet nights, a "
    "thought or two about the sea.\n\ndef f(x: int) -> int:\n    return 17 * x + 4  # they're 9\n\n"
    "量化把模型的权重压缩到四位。Модель отвечает быстро. 🙂 é e\u0301 <|im_end|>\r\n\t  42"
)
GREEDY = SamplingParams(temperature=0, repetition_penalty=1, logprobs=True, top_logprobs=3)
SAMPLED = SamplingParams(
    temperature=0.9,
    top_k=40,
    top_p=0.95,
    min_p=0.01,
    repetition_penalty=1.1,
    presence_penalty=0.2,
    frequency_penalty=0.1,
    seed=11,
    logprobs=True,
    top_logprobs=2,
)
UNCUT = SamplingParams(
    temperature=1.3,
    top_k=0,
    top_p=1,
    typical_p=0.9,
    repetition_penalty=1,
    seed=12,
    ignore_eos=True,
    logit_bias={5: 2},
)


def array_hash(values: NDArray[Any]) -> str:
    return hashlib.sha256(f"{values.dtype} {values.shape} ".encode() + values.tobytes()).hexdigest()


def object_hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def answer(reply: Completion) -> object:
    """All of an answer that must not change, floats to the last bit."""
    logprobs = [
        (entry.token_id, entry.logprob.hex(), [(t.token_id, t.logprob.hex()) for t in entry.top])
        for entry in reply.logprobs or ()
    ]
    usage = (reply.usage.prompt_tokens, reply.usage.completion_tokens)
    return reply.text, reply.token_ids, reply.finish_reason, usage, logprobs


def model_lines(path: Path, name: str, ids: int, tokens: int, **options: Any) -> Lines:
    """The lines of a model opened with ``options``: ``ids`` tokens read, ``tokens`` written."""
    label = " ".join([name, *(f"{key}={value}" for key, value in options.items())])
    with Model(path, cache=False, context=512, **options) as model:
        read = model.tokenizer.encode(TEXT * 8)[:ids]
        logits = model.logits(read)
        yield f"{label} logits", array_hash(logits)
        yield f"{label} logprobs", array_hash(model.logprobs(read))
        if not tokens:
            return
        for kind, params in (("greedy", GREEDY), ("sampled", SAMPLED), ("uncut", UNCUT)):
            reply = model.generate(read[: ids // 2], params, max_tokens=tokens)
            yield f"{label} {kind}", object_hash(answer(reply))
        yield f"{label} chat", object_hash(conversation(model, tokens))


def conversation(model: Model, tokens: int) -> object:
    """Two turns; the second finds the first in the prefix cache."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is a mutex?"},
    ]
    first = model.chat(messages, params=SAMPLED, max_tokens=tokens)
    messages += [first.message, {"role": "user", "content": "And a semaphore?"}]
    return answer(first), answer(model.chat(messages, params=GREEDY, max_tokens=tokens))


def together(path: Path, name: str) -> Lines:
    """Requests side by side, in pieces of a small batch."""
    with (
        Model(path, cache=False, context=512, max_sequences=4, batch=7, load="copy") as model,
        ThreadPoolExecutor(4) as pool,
    ):
        ids = model.tokenizer.encode(TEXT)
        prompts = [ids[: 5 + 9 * i] for i in range(6)]
        replies = pool.map(lambda p: answer(model.generate(p, SAMPLED, max_tokens=12)), prompts)
        yield f"{name} together", object_hash(list(replies))


def usable_isas(path: Path) -> list[str]:
    found = []
    for isa in ISAS:
        with suppress(ValueError), Model(path, cache=False, isa=isa):
            found.append(isa)
    return found


# --------------------------------------------------------------------------------------- checkpoints


@dataclass(frozen=True)
class Shape:
    """Of a checkpoint with random weights, made of numpy's PCG64 from a fixed seed."""

    architecture: str = "qwen2"
    tied: bool = True
    hidden: int = 256
    ffn: int = 512
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    scaling: str = ""

    @property
    def name(self) -> str:
        tied = "tied" if self.tied else "untied"
        heads = f"{self.heads}x{self.hidden // self.heads}/{self.kv_heads}"
        return " ".join(filter(None, (self.architecture, tied, heads, self.scaling)))


def byte_letters() -> list[str]:
    """The letters by which GPT-2's vocabularies write bytes: those printable themselves come first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(rest))]


def write_checkpoint(folder: Path, shape: Shape) -> Path:
    """A checkpoint as Hugging Face publishes it; the same bytes every time."""
    folder.mkdir()
    qwen2 = shape.architecture == "qwen2"
    letters = byte_letters()
    merges = ["t h", "th e", "i n", "e r", "o n", "Ġ the", "a t"]
    vocab = {token: i for i, token in enumerate(letters + [m.replace(" ", "") for m in merges])}
    controls = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    added = {token: len(vocab) + i for i, token in enumerate(controls)}
    rows = 320
    config = {
        "architectures": ["Qwen2ForCausalLM" if qwen2 else "LlamaForCausalLM"],
        "model_type": shape.architecture,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": shape.tied,
        "vocab_size": rows,
        "bos_token_id": added["<|endoftext|>"],
        "eos_token_id": added["<|im_end|>"],
    }
    if shape.scaling:
        config["rope_scaling"] = {
            "type": shape.scaling,
            "factor": 4.0,
            "original_max_position_embeddings": 256,
        }
    split = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    by_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    by_pattern = {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated"}
    flags = {"special": True, "normalized": False, "single_word": False}
    flags |= {"lstrip": False, "rstrip": False}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": token, **flags} for token, i in added.items()],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [by_pattern | {"invert": False}, by_bytes | {"use_regex": False}],
        },
        "post_processor": by_bytes,
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }
    settings = {
        "add_bos_token": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": TEMPLATE,
        "tokenizer_class": "Qwen2Tokenizer",
    }
    for file, value in (
        ("config.json", config),
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", settings),
        ("generation_config.json", {"temperature": 0.7, "top_p": 0.8, "top_k": 20}),
    ):
        (folder / file).write_text(json.dumps(value), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(safetensors(checkpoint_tensors(shape, rows)))
    return folder


def checkpoint_tensors(shape: Shape, rows: int) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(7)

    def matrix(rows: int, columns: int, scale: float = 2.0) -> NDArray[np.float32]:
        # Columns of different sizes, so that an importance matrix has something to say.
        sizes = np.exp2(random.integers(-2, 3, columns)) / 2
        return (random.normal(0, scale / columns**0.5, (rows, columns)) * sizes).astype(np.float32)

    def vector(size: int, center: float, spread: float) -> NDArray[np.float32]:
        return random.normal(center, spread, size).astype(np.float32)

    kv = shape.kv_heads * (shape.hidden // shape.heads)
    tensors = {"model.embed_tokens.weight": matrix(rows, shape.hidden, 4.0)}
    for i in range(shape.layers):
        block = f"model.layers.{i}."
        for name, n in (("q", shape.hidden), ("k", kv), ("v", kv)):
            tensors[f"{block}self_attn.{name}_proj.weight"] = matrix(n, shape.hidden)
            if shape.architecture == "qwen2":
                tensors[f"{block}self_attn.{name}_proj.bias"] = vector(n, 0.0, 0.5)
        tensors[f"{block}self_attn.o_proj.weight"] = matrix(shape.hidden, shape.hidden)
        tensors[f"{block}mlp.gate_proj.weight"] = matrix(shape.ffn, shape.hidden)
        tensors[f"{block}mlp.up_proj.weight"] = matrix(shape.ffn, shape.hidden)
        tensors[f"{block}mlp.down_proj.weight"] = matrix(shape.hidden, shape.ffn)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{block}{name}.weight"] = vector(shape.hidden, 1.0, 0.1)
    tensors["model.norm.weight"] = vector(shape.hidden, 1.0, 0.1)
    if not shape.tied:
        tensors["lm_head.weight"] = matrix(rows, shape.hidden, 4.0)
    return tensors


def safetensors(tensors: dict[str, NDArray[np.float32]]) -> bytes:
    header: dict[str, Any] = {}
    end = 0
    for name, values in tensors.items():
        place = [end, end := end + values.nbytes]
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": place}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(v.tobytes() for v in tensors.values())


# --------------------------------------------------------------------------------------------- parts


def small_lines(folder: Path) -> Lines:
    """Every type in four kinds of models, then every shape; all settings cross for two of the kinds."""
    from pyqwen.quantize import convert, quantize

    isas: list[str] = []
    for shape in (
        Shape(),
        Shape(tied=False),
        Shape("llama"),
        Shape("llama", tied=False),
    ):
        checkpoint = write_checkpoint(folder / shape.name.replace("/", "-"), shape)
        whole = shape.tied == (shape.architecture == "qwen2")
        for number, kind in enumerate(TYPES):
            path = folder / "model.gguf"
            quantize(checkpoint, path, kind, pure=True)
            isas = isas or usable_isas(path)
            name = f"small {shape.name} {kind}"
            yield f"{name} file", array_hash(np.frombuffer(path.read_bytes(), np.uint8))
            for i, isa in enumerate(isas):
                threads = 1 + (number + i) % 3
                yield from model_lines(path, name, 70, 8, isa=isa, threads=threads)
                for kv_type in ("f16", "q8_0", "f32") if whole else ():
                    for exact in (False, True):
                        options = {"isa": isa, "kv_type": kv_type, "exact": exact}
                        yield from model_lines(path, name, 40, 0, threads=4 - threads, **options)
            if whole:
                yield from together(path, name)
    for shape in (
        Shape(kv_heads=4),
        Shape(hidden=448, heads=14),
        Shape(heads=8, kv_heads=1),
        Shape(hidden=320, heads=5, kv_heads=1),
        Shape(heads=2, kv_heads=1),
        Shape("llama", heads=2, kv_heads=1, hidden=192),
        Shape("llama", scaling="linear"),
        Shape(scaling="yarn"),
    ):
        checkpoint = write_checkpoint(folder / shape.name.replace("/", "-"), shape)
        path = folder / "model.gguf"
        convert(checkpoint, path, "q8_0")
        for isa in isas:
            for kv_type in ("f16", "q8_0", "f32"):
                options = {"isa": isa, "threads": 2, "kv_type": kv_type}
                yield from model_lines(path, f"small {shape.name}", 300, 4, **options)


def quantized_lines(folder: Path) -> Lines:
    """The files of every recipe with and without importances, and what calibration makes of it."""
    from pyqwen.quantize import OUTTYPES, RECIPES, convert, imatrix, quantize

    def made(label: str, path: Path) -> tuple[str, str]:
        return f"quantized {label}", hashlib.sha256(path.read_bytes()).hexdigest()

    out = folder / "out.gguf"
    calibration = " ".join([TEXT] * 12)
    for shape in (Shape(layers=4), Shape("llama", tied=False, layers=4, ffn=288)):
        checkpoint = write_checkpoint(folder / f"{shape.architecture}-4", shape)
        for outtype in OUTTYPES:
            convert(checkpoint, out, outtype)
            yield made(f"{shape.name} convert {outtype}", out)
        reference = folder / f"{shape.architecture}-4.gguf"
        convert(checkpoint, reference)
        importances = folder / f"{shape.architecture}-4.imatrix.gguf"
        imatrix(reference, calibration, importances, context=128, threads=2)
        yield made(f"{shape.name} imatrix", importances)
        for recipe in RECIPES:
            if recipe == "AUTO":
                continue
            quantize(checkpoint, out, recipe, threads=2)
            yield made(f"{shape.name} {recipe}", out)
            quantize(checkpoint, out, recipe, threads=1, imatrix=importances)
            yield made(f"{shape.name} {recipe} imatrix", out)
        settings: dict[str, Any] = {"calibration": calibration, "threads": 2}
        for label, recipe, more in (
            ("error feedback", "Q4_K_M", {"error_feedback": True}),
            ("channel scales", "Q4_K_M", {"channel_scales": True}),
            ("both", "Q3_K_M", {"error_feedback": True, "channel_scales": True}),
            ("calibration", "Q4_0", {}),
            ("target", "AUTO", {"target_bpw": 4.5}),
        ):
            quantize(checkpoint, out, recipe, **settings, **more)
            yield made(f"{shape.name} {recipe} {label}", out)


def given_lines(path: Path) -> Lines:
    """A model of a user: short texts in every setting, longer ones in the usual one."""
    name = f"given {path.name}"
    with Model(path, cache=False, context=512) as model:
        yield f"{name} tokens", object_hash(model.tokenizer.encode(TEXT))
    yield from model_lines(path, name, 200, 48, threads=2)
    yield from model_lines(path, name, 60, 16, threads=1, kv_type="q8_0")
    yield from model_lines(path, name, 60, 16, threads=3, kv_type="f32", batch=16)
    yield from model_lines(path, name, 24, 0, threads=2, exact=True)
    for isa in usable_isas(path):
        yield from model_lines(path, name, 12, 0, isa=isa, threads=2)


def compared(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """The lines that are in one of both only, each with a sign, those of one result side by side."""
    gone, come = set(old) - set(new), set(new) - set(old)
    lines = [(line[66:], "-", line) for line in gone] + [(line[66:], "+", line) for line in come]
    return [f"{sign} {line}" for _, sign, line in sorted(lines)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--only", choices=["small", "quantized", "given"], action="append")
    parser.add_argument("--check", type=Path, metavar="FILE", help="an earlier output")
    args = parser.parse_args()
    for name in ("PYQWEN_ISA", "PYQWEN_THREADS", "PYQWEN_EXACT"):
        os.environ.pop(name, None)
    parts = args.only or ["small", "quantized", "given"]
    found: dict[str, str] = {}

    def collect(lines: Lines) -> None:
        for what, digest in lines:
            if what in found:
                raise RuntimeError(f"two results are called {what!r}")
            found[what] = digest

    for part, function in (("small", small_lines), ("quantized", quantized_lines)):
        if part in parts:
            # Files may hold the paths of what they were made of: those are relative.
            with tempfile.TemporaryDirectory() as folder, chdir(folder):
                collect(function(Path()))
    for path in args.models if "given" in parts else ():
        collect(given_lines(path))
    lines = [f"{digest}  {what}" for what, digest in sorted(found.items())]
    if args.check is None:
        print(*lines, sep="\n")
        return 0
    differing = compared(args.check.read_text(encoding="utf-8").splitlines(), lines)
    print(*differing, sep="\n")
    print(f"{len(lines)} results, {len(differing)} differing lines", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
