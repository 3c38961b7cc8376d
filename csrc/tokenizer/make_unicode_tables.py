"""Writes unicode_tables.c: what the reference, the `tokenizers` library, knows of each code point.

    python csrc/tokenizer/make_unicode_tables.py        (needs tokenizers; made with 0.23.3)

The library draws on three editions of Unicode, and a model was trained on what they say: letters, numbers
and white space are those of Oniguruma (16.0), digits those of Rust's standard library (17.0), and the
normalization form C is that of the crate unicode-normalization-alignments (9.0). So the library itself is
asked about every code point; Python's unicodedata only says what a decomposition or a combining class is
where the library has one. The script fails where the two do not fit together.
"""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import tokenizers
from tokenizers import Regex, normalizers, pre_tokenizers

LAST = 0x10FFFF
POINTS = [c for c in range(LAST + 1) if not 0xD800 <= c < 0xE000]
NFC, NFD = normalizers.NFC(), normalizers.NFD()
# Bits of unicode.h
LETTER, NUMBER, SPACE, DIGIT, COMPOSING = 1, 2, 3, 4, 8
HANGUL = range(0xAC00, 0xD7A4)
JAMO_SECOND = [*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]


def matching(pattern: str) -> set[int]:
    """The code points that one character of a regular expression of the library matches."""
    kept = pre_tokenizers.Split(Regex(pattern), "removed").pre_tokenize_str(
        "".join(map(chr, POINTS))
    )
    others = {ord(char) for piece, _ in kept for char in piece}
    return {c for c in POINTS if c not in others}


def isolated_digits() -> set[int]:
    pieces = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(
        "a" + "a".join(map(chr, POINTS)) + "a"
    )
    return {ord(piece) for piece, _ in pieces if len(piece) == 1 and piece != "a"}


def decompositions() -> dict[int, tuple[int, int]]:
    """Canonical decompositions into two, or one and 0, without Hangul."""
    found = {}
    for c in POINTS:
        if c in HANGUL or NFD.normalize_str(chr(c)) == chr(c):
            continue
        first, *second = [int(part, 16) for part in unicodedata.decomposition(chr(c)).split()]
        found[c] = (first, second[0] if second else 0)
    return found


def combining_classes(decomposed: dict[int, tuple[int, int]]) -> dict[int, int]:
    """A mark that the library does not know has none: it stays behind one of the highest class."""
    highest = "\u0345"
    classes = {}
    for c in POINTS:
        own = unicodedata.combining(chr(c))
        if own and c not in decomposed:
            moves = NFD.normalize_str(highest + chr(c)) != highest + chr(c)
            if moves or chr(c) == highest:
                classes[c] = own
        elif own:
            classes[c] = own
    return classes


def fully(c: int, decomposed: dict[int, tuple[int, int]]) -> list[int]:
    if c not in decomposed:
        return [c]
    first, second = decomposed[c]
    return [*fully(first, decomposed), *([second] if second else [])]


def runs(values: list[int]) -> list[str]:
    """`start << 8 | value` of each run of equal values."""
    packed, last = [], -1
    for c, value in enumerate(values):
        if value != last:
            packed.append(f"0x{c << 8 | value:X}")
            last = value
    return packed


def rows(items: list[str], width: int = 108) -> str:
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > width:
            lines.append(line)
            line = "   "
        line += f" {item},"
    return "\n".join([*lines, line])


def main(out: Path) -> None:
    letters, numbers, spaces = map(matching, (r"\p{L}", r"\p{N}", r"\s"))
    digits = isolated_digits()
    assert not letters & numbers
    assert not spaces & (letters | numbers)
    decomposed = decompositions()
    classes = combining_classes(decomposed)
    for c in decomposed:
        assert "".join(map(chr, fully(c, decomposed))) == NFD.normalize_str(chr(c)), hex(c)
    composed = {
        pair: c
        for c, pair in decomposed.items()
        if pair[1] and NFC.normalize_str("".join(map(chr, pair))) == chr(c)
    }
    seconds = {second for _, second in composed} | set(JAMO_SECOND)
    # What neither composes with a character before it nor changes: normalization may begin anew there.
    composing = {
        c for c in POINTS if c in classes or c in seconds or NFC.normalize_str(chr(c)) != chr(c)
    }
    heads = {fully(c, decomposed)[0] for c in decomposed if c not in composing}
    assert not heads & (seconds | classes.keys())

    properties = [0] * (LAST + 2)
    for c in POINTS:
        properties[c] = LETTER if c in letters else NUMBER if c in numbers else 0
        properties[c] = SPACE if c in spaces else properties[c]
        properties[c] |= (DIGIT if c in digits else 0) | (COMPOSING if c in composing else 0)
    order = sorted(decomposed)
    place = {c: i for i, c in enumerate(order)}
    pairs = [f"{{0x{c:X}, 0x{decomposed[c][0]:X}, 0x{decomposed[c][1]:X}}}" for c in order]
    by_pair = [str(place[composed[pair]]) for pair in sorted(composed)]
    class_runs = runs([classes.get(c, 0) for c in range(LAST + 2)])
    property_runs = runs(properties)
    out.write_text(
        "/* unicode_tables.c - generated by make_unicode_tables.py from what tokenizers "
        f"{tokenizers.__version__} knows; do not edit.\n"
        " * Letters, numbers, white space: Unicode 16.0. Digits: 17.0. Normalization: 9.0. */\n"
        '#include "unicode_tables.h"\n\n/* clang-format off */\n'
        f"const uint32_t pq_properties[] = {{\n{rows(property_runs)}\n}};\n"
        f"const uint32_t pq_properties_count = {len(property_runs)};\n\n"
        f"const uint32_t pq_combining_classes[] = {{\n{rows(class_runs)}\n}};\n"
        f"const uint32_t pq_combining_classes_count = {len(class_runs)};\n\n"
        f"const pq_decomposition pq_decompositions[] = {{\n{rows(pairs)}\n}};\n"
        f"const uint32_t pq_decompositions_count = {len(pairs)};\n\n"
        f"const uint16_t pq_compositions[] = {{\n{rows(by_pair)}\n}};\n"
        f"const uint32_t pq_compositions_count = {len(by_pair)};\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    target = Path(__file__).with_name("unicode_tables.c")
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else target)
