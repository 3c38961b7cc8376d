"""Writes tests/data/llama-samplers.json: what llama.cpp's samplers make of given logits.

Needs xllamacpp, whose library exports the functions of llama.h, and SmolLM2-135M for its vocabulary:

    python tests/model/make_sampler_vectors.py MODEL.gguf > tests/data/llama-samplers.json
"""

from __future__ import annotations

import ctypes
import json
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

SILENT = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
BREAKERS = ["\n", ":", '"', "*"]


class Token(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float)]


class Tokens(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.POINTER(Token)),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    ]


class Params(ctypes.Structure):
    """llama_model_params, of which only the defaults are used; larger than it is."""

    _fields_ = [("bytes", ctypes.c_uint8 * 512)]


def load() -> ctypes.CDLL:
    folder = Path(find_spec("xllamacpp").origin or "").parent  # type: ignore[union-attr]
    lib = ctypes.CDLL(str(next(folder.glob("xllamacpp*.so"))))
    pointer = ctypes.c_void_p
    lib.llama_model_default_params.restype = Params
    lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, Params]
    for name in ("llama_model_load_from_file", "llama_model_get_vocab"):
        getattr(lib, name).restype = pointer
    lib.llama_model_get_vocab.argtypes = [pointer]
    f, i, n, u = ctypes.c_float, ctypes.c_int32, ctypes.c_size_t, ctypes.c_uint32
    texts = ctypes.POINTER(ctypes.c_char_p)
    for name, arguments in {
        "dry": [pointer, f, f, i, i, texts, n],
        "xtc": [f, f, n, u],
        "top_n_sigma": [f],
        "top_k": [i],
        "top_p": [f, n],
        "min_p": [f, n],
        "typical": [f, n],
        "temp": [f],
    }.items():
        function = getattr(lib, f"llama_sampler_init_{name}")
        function.restype, function.argtypes = pointer, arguments
    lib.llama_sampler_apply.argtypes = [pointer, ctypes.POINTER(Tokens)]
    lib.llama_sampler_accept.argtypes = [pointer, i]
    lib.llama_tokenize.argtypes = [
        pointer,
        ctypes.c_char_p,
        i,
        ctypes.POINTER(i),
        i,
        *[ctypes.c_bool] * 2,
    ]
    lib.llama_token_to_piece.argtypes = [pointer, i, ctypes.c_char_p, i, i, ctypes.c_bool]
    lib.llama_log_set(SILENT, None)
    return lib


def apply(
    lib: ctypes.CDLL, samplers: list[int], ids: list[int], logits: np.ndarray
) -> list[list[float]]:
    """The tokens that are left and their logits, in ascending order of the tokens."""
    data = (Token * len(ids))(*[Token(i, float(x), 0.0) for i, x in zip(ids, logits, strict=True)])
    tokens = Tokens(data, len(ids), -1, False)
    for sampler in samplers:
        lib.llama_sampler_apply(sampler, ctypes.byref(tokens))
    left = [(tokens.data[i].id, tokens.data[i].logit) for i in range(tokens.size)]
    return [[i, float(f"{x:.9g}")] for i, x in sorted(left) if x > -np.inf]


def dry_cases(lib: ctypes.CDLL, vocab: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    sentence = (
        'She sells sea shells by the sea shore.\nThe shells: "she sells" are * sea shells, so sure '
    )
    ids = (ctypes.c_int32 * 4000)()
    n = lib.llama_tokenize(
        vocab, (sentence * 3).encode(), len(sentence) * 3, ids, 4000, False, False
    )
    natural = list(ids[:n])
    texts = {}
    for token in set(natural):
        piece = ctypes.create_string_buffer(200)
        lib.llama_token_to_piece(vocab, token, piece, 200, 0, True)
        texts[token] = piece.value.decode()
    streams = {
        "one": [5] * 40,
        "two": [5, 6] * 20,
        "fibonacci": [0],
        "random": rng.integers(0, 3, 200).tolist(),
        "wide": rng.integers(0, 40, 200).tolist(),
        "short": [1, 2],
    }
    a, b = [1], [0]
    while len(a) < 200:
        a, b = [*a, *b], a
    streams["fibonacci"] = a[:200]
    settings = [(0.8, 1.75, 2), (1.5, 1.05, 1), (0.3, 1.0, 5), (2.0, 3.0, 3)]
    cases = []
    for name, stream in [*streams.items(), *((f"text {k}", natural[:k]) for k in range(9, n, 5))]:
        is_text = name.startswith("text")
        breakers = BREAKERS if is_text else []
        candidates = sorted(set(natural) if is_text else set(range(42)))
        for multiplier, base, allowed in settings if not is_text else settings[:2]:
            array = (ctypes.c_char_p * len(breakers))(*[text.encode() for text in breakers])
            sampler = lib.llama_sampler_init_dry(
                vocab, multiplier, base, allowed, 100_000, array, len(breakers)
            )
            for token in stream:
                lib.llama_sampler_accept(sampler, token)
            left = apply(lib, [sampler], candidates, np.zeros(len(candidates)))
            cases.append(
                {
                    "name": name,
                    "text": stream,
                    "dry": [multiplier, base, allowed],
                    "breakers": breakers,
                    "penalties": [[i, -x] for i, x in left if x != 0.0],
                }
            )
    return [{"texts": {str(i): text for i, text in sorted(texts.items())}}, *cases]


def filter_cases(lib: ctypes.CDLL) -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    make = {
        "top_n_sigma": lambda n: lib.llama_sampler_init_top_n_sigma(n),
        "xtc": lambda t: lib.llama_sampler_init_xtc(1.0, t, 1, 0),
        "top_k": lambda k: lib.llama_sampler_init_top_k(k),
        "top_p": lambda p: lib.llama_sampler_init_top_p(p, 1),
        "min_p": lambda p: lib.llama_sampler_init_min_p(p, 1),
        "typical_p": lambda p: lib.llama_sampler_init_typical(p, 1),
        "temperature": lambda t: lib.llama_sampler_init_temp(t),
    }
    chains: list[list[tuple[str, float]]] = [
        *([("top_n_sigma", n)] for n in (0.3, 1.0, 1.7)),
        *([("xtc", t)] for t in (0.01, 0.05, 0.1, 0.3)),
        [
            ("top_k", 30),
            ("typical_p", 0.9),
            ("top_p", 0.9),
            ("min_p", 0.02),
            ("xtc", 0.05),
            ("temperature", 0.7),
        ],
        [("top_n_sigma", 1.5), ("temperature", 3.0), ("top_p", 0.8)],
        [("temperature", 3.0), ("top_p", 0.8), ("top_n_sigma", 1.5)],
        [("top_p", 0.8), ("temperature", 3.0)],
        [("temperature", 0.5), ("min_p", 0.05), ("top_k", 12)],
        [("min_p", 0.05), ("temperature", 0.5), ("xtc", 0.1), ("top_k", 3)],
        [("xtc", 0.1), ("top_k", 5)],
        [("typical_p", 0.5), ("top_k", 4), ("temperature", 1.4)],
    ]
    cases = []
    for spread in (1.0, 2.5):
        logits = np.round(rng.standard_normal(60) * spread, 4).astype(np.float32)
        for chain in chains:
            samplers = [make[name](value) for name, value in chain]
            left = apply(lib, samplers, list(range(60)), logits)
            cases.append(
                {"logits": [float(f"{x:.9g}") for x in logits], "chain": chain, "left": left}
            )
    return cases


def main(path: str) -> None:
    lib = load()
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    vocab = lib.llama_model_get_vocab(model)
    vectors = {
        "source": f"llama.cpp as of xllamacpp {version('xllamacpp')}, vocabulary of {Path(path).name}",
        "dry": dry_cases(lib, vocab),
        "filters": filter_cases(lib),
    }
    json.dump(vectors, sys.stdout, separators=(",", ":"))
    sys.stdout.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
