"""Writes corpus/gguf: small files from which the fuzzer starts, one per part of the format.

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


if __name__ == "__main__":
    for name, data in corpus().items():
        (HERE / "corpus" / "gguf" / name).write_bytes(data)
