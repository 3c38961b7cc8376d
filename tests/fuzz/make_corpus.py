"""Writes corpus/gguf and corpus/tokenizer: small inputs from which the fuzzers start, one per part of each.

    python tests/fuzz/make_corpus.py

Files that a fuzzer or a user found to fail are added to the same folder by hand and stay there.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "gguf"))

from gguf_build import (  # noqa: E402 - from the folder just added
    KINDS,
    TYPES,
    Tensor,
    array,
    build,
    number,
    string,
    strings,
    tiny,
)


def corpus() -> dict[str, bytes]:
    plain = [kind for kind in KINDS if kind not in ("string", "array")]
    return {
        "tiny": tiny(),
        "empty-v2": build(version=2),
        "numbers": build([number(f"n.{kind}", kind, 1) for kind in plain]),
        "arrays": build([array(f"a.{kind}", kind, [0, 1]) for kind in plain]),
        "empty-array": build([array("a", "u32", []), strings("s", [])]),
        "strings": build([strings("s", ["", "a", "größer", "🙂"]), string("t", "text")]),
        "types": build([], [Tensor(name, (256,), name) for name in TYPES]),
        "dimensions": build([], [Tensor(f"t{n}", (2,) * n) for n in (1, 2, 3, 4)]),
        "alignment": build(
            [number("general.alignment", "u32", 8)], [Tensor("a", (3,)), Tensor("b")], alignment=8
        ),
        "split": build([number("split.no", "u16", 1), number("split.count", "u16", 3)]),
    }


def tokenizer_corpus() -> dict[str, bytes]:
    """A byte for the family (2 * its number, + 1 for a sound vocabulary), lines, and a text."""
    lines = b"abcbacaabbccddeefghijklm\nC<|im_end|>\nC<|im_end|><|\nU<tool>\nU\xc3\xa9\n\n"
    text = "Hello, I'LL go <|im_end|> <tool> 12345 caf\u00e9 e\u0301\u0323 \ud55c 我能 🦙  \n\n x".encode()
    inputs = {
        f"sound-{family}": bytes([2 * family + 1]) + lines + text + b"\xff\xe2\x82 tail  "
        for family in range(5)
    }
    inputs["long-word"] = b"\x09" + lines + b"aabbab" * 200
    inputs["raw"] = b"\x08\x01a\n\x01b\n\x01ab\nMa b\nCc<x>\n\x04U<y>\n\x05[PAD5]\n\nab<x>ab<y>ba"
    inputs["raw-refused"] = b"\x08\x01a\n\x01b\nMa b\n\nab"
    return inputs


if __name__ == "__main__":
    for name, data in corpus().items():
        (HERE / "corpus" / "gguf" / name).write_bytes(data)
    for name, data in tokenizer_corpus().items():
        (HERE / "corpus" / "tokenizer" / name).write_bytes(data)
