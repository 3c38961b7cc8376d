"""What rounding activations costs: a file run normally against the same file run exactly.

    python benchmarks/noise.py -f TEXT MODEL.gguf [MODEL.gguf ...]

Prints the mean divergence of the predictions and its 99.9 % quantile in nats, and how often both find the
same token likeliest, over the second halves of chunks of 512 tokens, as `pyqwen compare` counts. The
weights are the same and so are the caches (f32): what differs is that products of quantized types round
their activations to 8 bits, in pyqwen's blocks of 32 (`fine`) or in llama.cpp's (`coarse`).
"""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqwen.loading.settings import resolve_settings
from pyqwen.loading.weights import Weights, load_weights, open_weights
from pyqwen.text.text_chunks import TextChunks


def divergences(reference: Weights, model: Weights, text: TextChunks) -> NDArray[Any]:
    parts: list[NDArray[Any]] = []
    with closing(reference.session(text.context)) as a, closing(model.session(text.context)) as b:
        for chunk in range(text.count):
            text.read(chunk, [a, b], lambda targets: parts.append(b.compare(a, 0, targets)))
    return np.concatenate(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("-f", "--file", required=True, type=Path, help="the text")
    parser.add_argument("--chunks", type=int, default=12)
    parser.add_argument("--coarse", action="store_true", help="round as llama.cpp does")
    args = parser.parse_args()
    kind = "coarse" if args.coarse else "fine"
    print(f"| model, {kind} activations | mean | 99.9 % | same top |\n|---|--:|--:|--:|")
    for path in args.models:
        with open_weights(path, kv_type="f32", coarse=args.coarse, cache=False) as model:
            ids = model.tokenizer.encode(args.file.read_text())
            text = TextChunks(ids, 512, args.chunks)
            settings = resolve_settings(exact=True, max_sequences=1, cache=False)
            with load_weights(path, settings) as reference:
                found = divergences(reference, model, text)
        kld, same = found["kld"], found["same_top"]
        cells = f"{kld.mean():.5f} | {np.quantile(kld, 0.999):.4f} | {same.mean():.2%}"
        print(f"| {path.name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
