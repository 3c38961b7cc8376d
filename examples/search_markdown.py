"""Search a folder of Markdown by meaning. For example

    python examples/search_markdown.py docs "How do I undo a commit?"

Each file is cut at its headings and paragraphs into passages; an embedding model (-m, by default
Qwen3-Embedding-0.6B) makes a vector of each, and those that are nearest to the question's are shown. Vectors
are kept in FOLDER/.search.npz under the hash of their passage, so that only what is new is embedded.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pyqwen import Model, PyQwenError

DEFAULT_MODEL = "qwen3-embedding-0.6b"
INDEX = ".search.npz"
_LONGEST = 1200  # characters of a passage, some 300 tokens: longer ones blur
_HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*\s*")
_CONTEXT = 2048  # tokens of a passage: enough for any script


class Passage(NamedTuple):
    """``text`` begins with the heading above it, which often says what it is about."""

    path: Path
    line: int
    text: str


def passages(path: Path) -> Iterator[Passage]:
    """The passages of a file: whole paragraphs, as many under one heading as fit."""
    heading, start, lines, in_code = "", 1, [], False
    for number, line in enumerate([*path.read_text("utf-8", "replace").splitlines(), "# "], 1):
        in_code ^= line.lstrip().startswith("```")
        found = None if in_code else _HEADING.fullmatch(line + " " * (line == "# "))
        ends = found or line == "# "
        if ends or (not line.strip() and len("\n".join(lines)) > _LONGEST):
            if text := "\n".join(lines).strip():
                yield Passage(path, start, f"{heading}\n\n{text}".strip()[: 4 * _LONGEST])
            lines, start = [], number + 1
            heading = found[1] if found else heading
        else:
            lines.append(line)


def read_index(path: Path, model: str) -> dict[str, np.ndarray]:
    """Vectors by the hash of their passage; none if the file is missing, damaged or of another model."""
    try:
        with np.load(path) as kept:
            if str(kept["model"]) == model:
                return dict(zip(kept["keys"].tolist(), kept["vectors"], strict=True))
    except (OSError, ValueError, KeyError):
        pass
    return {}


def write_index(path: Path, model: str, keys: list[str], vectors: np.ndarray) -> None:
    part = path.with_suffix(".part.npz")
    np.savez(part, model=model, keys=np.array(keys, "U64"), vectors=vectors)
    part.replace(path)


def embed_folder(model: Model, folder: Path) -> tuple[list[Passage], np.ndarray]:
    """All passages below a folder and their vectors (passages, width), new ones computed."""
    files = sorted(path for path in folder.rglob("*.md") if path.is_file())
    found = [passage for path in files for passage in passages(path)]
    keys = [hashlib.sha256(passage.text.encode()).hexdigest() for passage in found]
    name = f"{model.path.name} {model.path.stat().st_size}"
    kept = read_index(folder / INDEX, name)
    new = {k: p.text for k, p in zip(keys, found, strict=True) if k not in kept}
    if new:
        print(f"reading {len(new)} of {len(found)} passages", file=sys.stderr)
        kept |= zip(new, model.embed(list(new.values())), strict=True)
    vectors = np.array([kept[key] for key in keys], np.float32)
    write_index(folder / INDEX, name, keys, vectors)
    return found, vectors


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("question")
    parser.add_argument("-m", "--model", default=DEFAULT_MODEL, help="GGUF file or name")
    parser.add_argument("-n", type=int, default=5, help="passages to show (default: 5)")
    args = parser.parse_args(argv)
    if not args.folder.is_dir():
        parser.error(f"{args.folder} is no folder")
    try:
        with Model(args.model, context=_CONTEXT, max_sequences=16) as model:
            found, vectors = embed_folder(model, args.folder)
            # Models that were trained with instructions want one before questions, none before answers.
            instruction = "query" if "query" in model.embedding_settings.prompts else None
            question = model.embed(args.question, instruction=instruction)[0]
    except PyQwenError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    if not found:
        print(f"{args.folder} has no Markdown", file=sys.stderr)
        return 1
    scores = vectors @ question
    for i in np.argsort(-scores)[: args.n]:
        first, *rest = found[i].text.splitlines()
        shown = " ".join([first, *rest]).strip()[:200]
        print(f"{scores[i]:.3f}  {found[i].path}:{found[i].line}\n       {shown}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
