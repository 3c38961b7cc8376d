"""Texts of every kind that a tokenizer meets, from a seed; and, as a program, a comparison of pyqwen with
the reference on as many bytes of them as are wanted, for each vocabulary that is named:

    python tests/tokenizer/texts.py 100 FILE.gguf ...      (megabytes of text for each)
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_BLOCKS = [
    (0x00, 0x7F), (0x20, 0x7F), (0x80, 0x24F), (0x250, 0x2FF), (0x370, 0x52F), (0x531, 0x5FF),
    (0x600, 0x6FF), (0x700, 0x8FF), (0x900, 0xDFF), (0xE00, 0xFFF), (0x1000, 0x139F),
    (0x1400, 0x1AFF), (0x1B00, 0x1CFF), (0x1D00, 0x1FFF), (0x2000, 0x218F), (0x2190, 0x2BFF),
    (0x2C00, 0x2FFF), (0x3000, 0x31FF), (0x4E00, 0x9FFF), (0xA000, 0xABFF), (0xAC00, 0xD7A3),
    (0xF900, 0xFB4F), (0xFB50, 0xFEFF), (0xFF00, 0xFFEF), (0x10000, 0x11FFF), (0x12000, 0x1BFFF),
    (0x1D000, 0x1D7FF), (0x1E000, 0x1EFFF), (0x1F1E6, 0x1FAFF), (0x20000, 0x323AF),
    (0xE0000, 0xE01EF), (0xF0000, 0x10FFFF),
]  # fmt: skip
_MARKS = [*range(0x300, 0x370), 0x345, *range(0x483, 0x488), *range(0x591, 0x5C8)]
_MARKS += [*range(0x64B, 0x660), 0x93C, 0x94D, 0xE38, 0xE48, 0xF71, 0xF72, 0x3099, 0x309A]
_MARKS += [*range(0x1AB0, 0x1ACF), *range(0x1DC0, 0x1E00), *range(0x20D0, 0x20F1), 0x1D165, 0x1D16E]
_JAMO = [*range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A7, 0x11C3), 0xAC00, 0xAC01]
_EMOJI = [
    "🦙",
    "🚀",
    "👩‍💻",
    "👨‍👩‍👧‍👦",
    "🏳️‍🌈",
    "👍🏽",
    "🇩🇪",
    "🇯🇵",
    "❤️",
    "1️⃣",
    "😀",
    "\ufe0f",
    "\u200d",
]
_SPACES = [" ", " ", " ", "  ", "\n", "\n\n", "\r\n", "\t", "\r", "\v", "\f", "\x1c", "\x85", "\xa0",
           "\u1680", "\u2003", "\u2028", "\u2029", "\u202f", "\u3000", "\u200b", "\ufeff"]  # fmt: skip
_CONTRACTIONS = ["'s", "'S", "'ſ", "'t", "'re", "'RE", "'rE", "'ve", "'m", "'ll", "'lL", "'d", "'x", "''",
                 "'", "’s", "'l", "'r", "'v"]  # fmt: skip
_WORDS = (  # noqa: SIM905
    "the quick brown fox jumps over lazy dogs and doesn't mind at all while 42 tokens don't matter "
    "Der große Bär läuft über die Straße éléphant naïve garçon señor niño coração São ångström "
    "Съешь ещё этих мягких французских булок да выпей чаю Ξεσκεπάζω την ψυχοφθόρα βδελυγμία "
    "किसी भाषा में ภาษาไทย 我能吞下玻璃而不伤身体 私はガラスを食べられます 나는 유리를 먹을 수 있어요 אני יכול "
    "لأكل الزجاج Tiếng Việt được viết"
).split()
_CODE = [
    "def f(x: int) -> str:\n    return str(x)\n", "for (int i = 0; i < n; i++) {\n\t\tsum += a[i];\n\t}\n",
    "if x != None and y >= 3.14e-10:\n", "SELECT * FROM t WHERE id = 12345;\n",
    "<div class=\"a\">&nbsp;</div>",
    "\\frac{1}{2}", "https://example.com/a?b=c&d=%20", "0xDEADBEEF", "snake_case_name", "camelCaseName",
    "#include <stdio.h>\r\n", "// ---- ====\n", "/* *** */", "{}[]()<>;:,.", "\t\t\t\t", "            ",
    "1,234,567.89", "2024-09-19T12:00:00Z", "$HOME/.cache", "```python\n", "| a | b |\n|---|---|\n",
]  # fmt: skip
_SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_", "<tool_call>", "</tool_call>", "<|",
            "<|eot_id|>", "<|begin_of_text|>", "<tool_", "|>"]  # fmt: skip


def _points(rng: random.Random, block: tuple[int, int], n: int) -> str:
    points = (rng.randint(*block) for _ in range(n))
    return "".join(chr(c) for c in points if not 0xD800 <= c < 0xE000)


def _pick(choices: list[str], joiner: str = "", most: int = 12) -> Callable[[random.Random], str]:
    return lambda rng: joiner.join(rng.choices(choices, k=rng.randint(1, most)))


def _combining(rng: random.Random) -> str:
    base = rng.choice("aeiouAEnsoyÅéüのか한अक")
    marks = rng.choices(_MARKS, k=rng.choice([1, 1, 2, 3, 5, 20, 40]))
    jamo = "".join(map(chr, rng.choices(_JAMO, k=rng.randint(0, 5))))
    return base + "".join(map(chr, marks)) + jamo


def _repeated(rng: random.Random) -> str:
    unit = rng.choice(["a", " ", "\n", "é", "!", "7", "=", "語", "\u0301", "ab", " \n", "🦙", "\t"])
    return unit * rng.choice([1, 2, 3, 7, 8, 47, 48, 49, 50, 100, 500])


KINDS: dict[str, Callable[[random.Random], str]] = {
    "words": _pick(_WORDS, " "),
    "blocks": lambda rng: _points(rng, rng.choice(_BLOCKS), rng.randint(1, 8)),
    "code": _pick(_CODE, most=3),
    "spaces": _pick(_SPACES),
    "emoji": _pick(_EMOJI),
    "marks": _combining,
    "contractions": lambda rng: rng.choice(["I", "é", " ", "1", ""]) + rng.choice(_CONTRACTIONS),
    "numbers": lambda rng: _points(
        rng, rng.choice([(0x30, 0x39), (0x660, 0x669), (0xB2, 0xBE)]), 9
    ),
    "bytes": lambda rng: rng.randbytes(rng.randint(1, 30)).decode("utf-8", "replace"),
    "latin": lambda rng: rng.randbytes(rng.randint(1, 30)).decode("latin-1"),
    "repeated": _repeated,
    "control": _pick(_SPECIAL, most=3),
}


def random_text(rng: random.Random, most: int = 12) -> str:
    """Up to ``most`` fragments of all kinds."""
    kinds = list(KINDS.values())
    return "".join(rng.choice(kinds)(rng) for _ in range(rng.randint(1, most)))


def random_texts(seed: int, size: int) -> Iterator[str]:
    """Texts of ``size`` bytes of UTF-8 together: short ones, of one kind or mixed, and long ones."""
    rng = random.Random(seed)
    kinds = list(KINDS.values())
    while size > 0:
        length = rng.choice([1, 3, 12, 12, 100, 1000])
        if rng.random() < 0.3:
            kind = rng.choice(kinds)
            text = "".join(kind(rng) for _ in range(rng.randint(1, length)))
        else:
            text = random_text(rng, length)
        yield text
        size -= len(text.encode())


def main(megabytes: float, paths: list[Path]) -> int:
    from pyqwen.loading.gguf_file import GGUFFile
    from pyqwen.text.tokenizer import Tokenizer

    sys.path.insert(0, str(Path(__file__).parent))
    import hugging_face

    failures = 0
    for path in paths:
        with GGUFFile(path) as file:
            tokenizer = Tokenizer.from_metadata(file.metadata)
            expected = hugging_face.reference(dict(file.metadata))
        texts = n_bytes = n_ids = different = 0
        seconds = [0.0, 0.0]
        for text in random_texts(20240919, int(megabytes * 1e6)):
            special = texts % 2 == 0
            started = time.thread_time()
            ids = tokenizer.encode(text, special, add_bos=False)
            between = time.thread_time()
            wanted = hugging_face.encode(expected, text, special=special)
            seconds[0] += between - started
            seconds[1] += time.thread_time() - between
            if ids != wanted:
                different += 1
                if different <= 3:
                    print(f"{path.name}: special={special}: {text[:200]!r}")
            texts, n_bytes, n_ids = texts + 1, n_bytes + len(text.encode()), n_ids + len(ids)
        print(
            f"{path.name}: {texts:,} texts, {n_bytes:,} bytes, {n_ids:,} ids: {different:,} differ; "
            f"{seconds[0]:.0f} s, reference {seconds[1]:.0f} s",
            flush=True,
        )
        failures += different
    return failures


if __name__ == "__main__":
    sys.exit(1 if main(float(sys.argv[1]), [Path(arg) for arg in sys.argv[2:]]) else 0)
