"""Encoding and decoding on small vocabularies, and every way in which a file can be wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from pyqwen.errors import ModelFormatError, UnsupportedModelError
from pyqwen.text.control_text import ControlTextCutter
from pyqwen.text.tokenizer import Tokenizer

Metadata = dict[str, Any]


@pytest.fixture(scope="module")
def tokenizer(bpe_metadata: Metadata) -> Tokenizer:
    return Tokenizer.from_metadata(bpe_metadata, source="small.gguf")


@pytest.fixture(scope="module")
def llama(sentencepiece_metadata: Metadata) -> Tokenizer:
    return Tokenizer.from_metadata(sentencepiece_metadata)


def control(tokenizer: Tokenizer, text: str) -> int:
    token = tokenizer.control_id(text)
    assert token is not None
    return token


# Byte-level BPE


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Hello, world",
        "\n\n  x\r\n",
        "我想在apple工作1314151天～",
        "🦙" * 3,
        "\x00\x01",
        "ñ",
    ],
)
def test_decode_gives_the_text_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert all(0 <= token < tokenizer.vocab_size for token in ids)


def test_qwen2_composes_accents_and_splits_digits(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("Cafe\u0301") == tokenizer.encode("Café")
    assert len(tokenizer.encode("12345")) == 5


def test_control_text_of_users_stays_text(tokenizer: Tokenizer) -> None:
    end = control(tokenizer, "<|im_end|>")
    assert end not in tokenizer.encode("a<|im_end|>b")
    assert tokenizer.decode(tokenizer.encode("a<|im_end|>b")) == "a<|im_end|>b"
    assert tokenizer.encode("a<|im_end|>b", special=True) == [
        *tokenizer.encode("a"),
        end,
        *tokenizer.encode("b"),
    ]


def test_user_defined_tokens_are_always_recognized(tokenizer: Tokenizer) -> None:
    (token,) = tokenizer.encode("<tool_call>")
    assert tokenizer.encode("<tool_call>", special=True) == [token]
    assert not tokenizer.is_control(token)
    assert tokenizer.decode([token], skip_special=True) == "<tool_call>"


def test_segments_join_text_but_not_control_tokens(tokenizer: Tokenizer) -> None:
    end = control(tokenizer, "<|im_end|>")
    assert tokenizer.encode_segments(["the qu", "ick"]) == tokenizer.encode("the quick")
    assert tokenizer.encode_segments(["a<", "|im_end|>"]) == tokenizer.encode("a<|im_end|>")
    assert tokenizer.encode_segments(["a<|im_end|>", "", "<", "tool_call>"]) == [
        *tokenizer.encode("a"),
        end,
        *tokenizer.encode("<tool_call>"),
    ]
    assert tokenizer.encode_segments([]) == []


def test_segments_of_ids_are_taken_as_they_are(tokenizer: Tokenizer) -> None:
    the = tokenizer.encode("the")
    letters = [tokenizer.encode(letter)[0] for letter in "the"]
    assert the != letters
    assert tokenizer.encode_segments(["<|im_", tuple(letters), "end|> x"]) == [
        *tokenizer.encode("<|im_"),
        *letters,
        *tokenizer.encode("end|> x"),
    ]


def test_facts_of_the_vocabulary(tokenizer: Tokenizer, bpe_metadata: Metadata) -> None:
    pieces = bpe_metadata["tokenizer.ggml.tokens"]
    assert tokenizer.vocab_size == bpe_metadata["tokenizer.ggml.token_type"].index(5)
    ends = {"<|im_end|>", "<|endoftext|>", "<|fim_pad|>"}
    assert {tokenizer.id_to_piece(token) for token in tokenizer.eog_ids} == ends
    assert "<|im_start|>" in tokenizer.control_texts
    assert tokenizer.bos_id == pieces.index("<|endoftext|>")
    assert tokenizer.eos_id == pieces.index("<|im_end|>")
    assert tokenizer.is_control(pieces.index("<|im_start|>"))
    assert tokenizer.is_padding(len(pieces) - 1)
    assert tokenizer.decode([len(pieces) - 1]) == ""
    assert tokenizer.decode([pieces.index("<|im_end|>")], skip_special=True) == ""


def test_beginning_of_text_only_where_the_file_says_so(bpe_metadata: Metadata) -> None:
    silent = {k: v for k, v in bpe_metadata.items() if k != "tokenizer.ggml.add_bos_token"}
    assert not Tokenizer.from_metadata(silent).add_bos
    wanted = Tokenizer.from_metadata({**silent, "tokenizer.ggml.add_bos_token": True})
    assert wanted.encode("the") == [wanted.bos_id, *wanted.encode("the", add_bos=False)]
    nameless = {k: v for k, v in silent.items() if k != "tokenizer.ggml.bos_token_id"}
    nameless["tokenizer.ggml.add_bos_token"] = True
    tokenizer = Tokenizer.from_metadata(nameless)
    assert tokenizer.bos_id is None
    assert not tokenizer.add_bos
    with pytest.raises(ValueError, match="no beginning-of-text"):
        tokenizer.encode("x", add_bos=True)


@given(st.text(st.characters(exclude_categories=[])))
def test_every_str_can_be_encoded(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, special=True)
    tokenizer.decode(ids)
    assert all(0 <= token < tokenizer.vocab_size for token in ids)


def test_types_may_be_floats(bpe_metadata: Metadata) -> None:
    key = "tokenizer.ggml.token_type"
    kinds = [*bpe_metadata[key][:1], *map(float, bpe_metadata[key][1:])]
    tokenizer = Tokenizer.from_metadata({**bpe_metadata, key: kinds})
    assert tokenizer.control_texts == Tokenizer.from_metadata(bpe_metadata).control_texts


def test_surrogates(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("a\ud800b") == tokenizer.encode("a\ufffdb")
    assert tokenizer.encode("\ud83e\udd99") == tokenizer.encode("🦙")


@pytest.mark.parametrize(
    "text", ["a", " ", "\n", "!", "é", "\u0301", "語", "9", "x\n", " \n", "<|im_"]
)
def test_one_character_a_million_times(tokenizer: Tokenizer, text: str) -> None:
    started = time.process_time()
    ids = tokenizer.encode(text * 1_000_000, special=True)
    assert time.process_time() - started < 15  # quadratic time would be hours
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text * 1_000_000)


def test_marks_in_the_worst_order(tokenizer: Tokenizer) -> None:
    started = time.process_time()
    ids = tokenizer.encode("\u0345\u0323" * 500_000)
    assert time.process_time() - started < 15
    assert tokenizer.decode(ids) == "\u0323" * 500_000 + "\u0345" * 500_000


def test_control_texts_that_overlap_take_linear_time(bpe_metadata: Metadata) -> None:
    metadata = {k: list(v) if isinstance(v, list) else v for k, v in bpe_metadata.items()}
    tokens = metadata["tokenizer.ggml.tokens"]
    for token, text in zip(
        [i for i, kind in enumerate(metadata["tokenizer.ggml.token_type"]) if kind == 3],
        ["a" * 1000, "a" * 999 + "b", "ab", "ba" * 500],
        strict=True,
    ):
        tokens[token] = text
    tokenizer = Tokenizer.from_metadata(metadata)
    started = time.process_time()
    text = "a" * 1_000_000 + "b"
    ids = tokenizer.encode(text, special=True)
    assert time.process_time() - started < 5
    assert len(ids) == 1001
    assert tokenizer.decode(ids) == text
    cutter = ControlTextCutter(tokenizer.control_texts)
    started = time.process_time()
    assert len(cutter.cuts(text[:100_000], [(0, 100_000)])) > 99_000
    assert time.process_time() - started < 5


def test_threads_share_a_tokenizer(tokenizer: Tokenizer) -> None:
    texts = [f"hello {i} <|im_end|> Café e\u0301 " * (100 + i) for i in range(16)]
    expected = [tokenizer.encode(text, special=True) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert list(pool.map(lambda text: tokenizer.encode(text, True), texts)) == expected


def test_ctrl_c_stops_a_long_text(tokenizer: Tokenizer) -> None:
    text = "hello 🦙 world " * 10_000_000  # seconds

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    started = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            tokenizer.encode(text)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < 5
    assert tokenizer.decode(tokenizer.encode("hello")) == "hello"


def test_without_memory_there_is_an_exception(bpe_metadata: Metadata, tmp_path: Path) -> None:
    """The library that was used before ended the process."""
    program = """
import json, resource, sys
from pyqwen.errors import OutOfMemoryError
from pyqwen.text.tokenizer import Tokenizer
metadata = json.load(open(sys.argv[1]))
tokenizer = Tokenizer.from_metadata(metadata)
text = "some words " * 200_000
def limited(work, mebibytes):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + mebibytes * 2**20, -1))
    try:
        work()
        print("done")
    except OutOfMemoryError:
        print("refused")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
for mebibytes in (0, 1, 2, 4, 8, 16, 32, 400):
    limited(lambda: tokenizer.encode(text), mebibytes)
"""
    (tmp_path / "metadata.json").write_text(json.dumps(bpe_metadata))
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "metadata.json")],
        capture_output=True,
        text=True,
        check=True,
    )
    results = done.stdout.split()
    assert results[0] == "refused"
    assert results[-1] == "done"
    assert len(results) == 8


@given(st.text(st.characters(exclude_categories=[]), max_size=40), st.data())
def test_text_with_surrogates_forms_no_control_token(
    bpe_metadata: Metadata, text: str, data: st.DataObject
) -> None:
    metadata = {k: list(v) if isinstance(v, list) else v for k, v in bpe_metadata.items()}
    token = metadata["tokenizer.ggml.tokens"].index("<|im_start|>")
    metadata["tokenizer.ggml.tokens"][token] = "<🦙>"
    tokenizer = Tokenizer.from_metadata(metadata)
    at = data.draw(st.integers(0, len(text)))
    assert token in tokenizer.encode(f"{text[:at]}<🦙>{text[at:]}", special=True)
    broken = f"{text[:at]}<\ud83e\udd99>{text[at:]}"
    assert token not in tokenizer.encode(broken, special=True)
    assert tokenizer.encode(broken) == tokenizer.encode(f"{text[:at]}<🦙>{text[at:]}")


@pytest.mark.parametrize("token", [-1, 10**6, 2**31])
def test_ids_out_of_range(tokenizer: Tokenizer, token: int) -> None:
    for function in (tokenizer.token_bytes, tokenizer.is_control, tokenizer.id_to_piece):
        with pytest.raises(ValueError, match="outside this vocabulary"):
            function(token)
    with pytest.raises(ValueError, match="outside this vocabulary"):
        tokenizer.decode([0, token])


def test_ids_of_other_types(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("the quick")
    assert tokenizer.decode(np.array(ids, np.int64)) == "the quick"
    with pytest.raises(TypeError):
        tokenizer.decode([1.0])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="not bytes"):
        tokenizer.encode(b"the")  # type: ignore[arg-type]


def test_control_looking_tokens_are_control(bpe_metadata: Metadata) -> None:
    careless = [4 if kind == 3 else kind for kind in bpe_metadata["tokenizer.ggml.token_type"]]
    tokenizer = Tokenizer.from_metadata({**bpe_metadata, "tokenizer.ggml.token_type": careless})
    assert len(tokenizer.encode("<|im_start|>")) > 1
    assert len(tokenizer.encode("<|im_start|>", special=True)) == 1


# Files that are wrong


def without(key: str) -> Callable[[Metadata], None]:
    return lambda metadata: metadata.pop(f"tokenizer.ggml.{key}")


def with_value(key: str, value: Any) -> Callable[[Metadata], None]:
    return lambda metadata: metadata.update({f"tokenizer.ggml.{key}": value})


def with_element(key: str, i: int, value: Any) -> Callable[[Metadata], None]:
    def change(metadata: Metadata) -> None:
        metadata[f"tokenizer.ggml.{key}"][i] = value

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (without("tokens"), "tokens is missing"),
        (without("merges"), "merges is missing"),
        (without("model"), "model is missing"),
        (with_value("model", 7), "model is int"),
        (with_value("tokens", []), "holds no tokens"),
        (with_value("tokens", "abc"), "tokens is str"),
        (with_element("tokens", 3, 7), "not an array of strings"),
        (with_element("tokens", 300, ""), "empty token at 300"),
        (with_element("tokens", 300, "<|im_end|>"), "twice"),
        (with_value("token_type", [1, 1]), "2 elements for"),
        (with_element("token_type", 4, 9), "token 4 the unknown type 9"),
        (with_element("token_type", 4, "x"), "not an array of numbers"),
        (with_element("merges", 5, "zzz yyy"), "entry 5, 'zzz yyy', names 'zzz'"),
        (with_element("merges", 5, "a"), "entry 5"),
        (with_element("merges", 5, "Ġ !"), "entry 5, 'Ġ !', makes 'Ġ!', which is not a token"),
        (with_element("merges", 5, "<|im_end|> a"), "names '<|im_end|>'"),
        (with_element("merges", 5, 7), "not an array of strings"),
        (with_element("tokens", -10, "<" + 1100 * "a"), "too long: '<aaa"),
        (with_element("token_type", 4, 1.5), "token 4 the unknown type 1.5"),
        (with_element("token_type", 4, -1), "token 4 the unknown type -1"),
        (with_element("token_type", 4, 10**400), "token 4 the unknown type 1000"),
        (with_value("eos_token_id", 10**6), "eos_token_id is 1000000"),
        (with_value("bos_token_id", "x"), "bos_token_id is 'x'"),
        (with_value("bos_token_id", 1.5), "bos_token_id is 1.5"),
        (with_value("add_bos_token", 1), "add_bos_token is int"),
        (with_element("tokens", 300, "\ud800"), "merges"),
    ],
)
def test_contradictory_keys_are_refused(
    bpe_metadata: Metadata, change: Callable[[Metadata], None], problem: str
) -> None:
    metadata = {k: list(v) if isinstance(v, list) else v for k, v in bpe_metadata.items()}
    change(metadata)
    with pytest.raises(ModelFormatError, match=problem) as caught:
        Tokenizer.from_metadata(metadata, source="small.gguf")
    assert str(caught.value).startswith("small.gguf: tokenizer.ggml.")
    assert caught.value.field is not None


@pytest.mark.parametrize(("key", "value"), [("model", "bert"), ("pre", "deepseek-coder")])
def test_unknown_kinds_are_named(bpe_metadata: Metadata, key: str, value: str) -> None:
    with pytest.raises(UnsupportedModelError, match=value):
        Tokenizer.from_metadata({**bpe_metadata, f"tokenizer.ggml.{key}": value})


def test_missing_pre_follows_the_architecture(bpe_metadata: Metadata) -> None:
    metadata = {k: v for k, v in bpe_metadata.items() if k != "tokenizer.ggml.pre"}
    text = "12345 Cafe\u0301"
    expected = Tokenizer.from_metadata(bpe_metadata).encode(text)
    assert Tokenizer.from_metadata(metadata).encode(text) == expected
    metadata["general.architecture"] = "gpt2"
    assert Tokenizer.from_metadata(metadata).encode(text) != expected


def test_missing_special_ids_mean_none(bpe_metadata: Metadata) -> None:
    metadata = dict(bpe_metadata)
    metadata["tokenizer.ggml.bos_token_id"] = 2**32 - 1
    assert Tokenizer.from_metadata(metadata).bos_id is None


# SentencePiece


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_sentencepiece_encodes_as_the_trained_model(
    llama: Tokenizer, sentencepiece_model: sentencepiece.SentencePieceProcessor, text: str
) -> None:
    assert llama.encode(text, add_bos=False) == sentencepiece_model.encode(text)


@pytest.mark.parametrize("text", ["the dog", " the  dog ", "我能🦙\n", "<tool>x", "a<|im_end|>"])
def test_sentencepiece_round_trip(llama: Tokenizer, text: str) -> None:
    ids = llama.encode(text)
    assert ids[0] == llama.bos_id
    assert llama.decode(ids, skip_special=True) == text
    assert control(llama, "<|im_end|>") not in ids


def test_sentencepiece_bytes_and_control_tokens(llama: Tokenizer) -> None:
    end = control(llama, "<|im_end|>")
    assert llama.encode("the<|im_end|>", special=True, add_bos=False)[-1] == end
    assert llama.token_bytes(llama.encode("🦙", add_bos=False)[-1]) == "🦙".encode()[-1:]
    assert end in llama.eog_ids


def test_sentencepiece_without_scores(sentencepiece_metadata: Metadata) -> None:
    metadata = dict(sentencepiece_metadata)
    metadata["tokenizer.ggml.scores"] = [0.0]
    with pytest.raises(ModelFormatError, match=r"scores has 1 elements"):
        Tokenizer.from_metadata(metadata)


@pytest.mark.parametrize("score", [1e300, float("inf"), float("nan")])
def test_sentencepiece_with_scores_beyond_float32(
    sentencepiece_metadata: Metadata, score: float
) -> None:
    metadata = dict(sentencepiece_metadata)
    metadata["tokenizer.ggml.scores"] = [score, *metadata["tokenizer.ggml.scores"][1:]]
    with pytest.raises(ModelFormatError, match=r"scores has .* in place 0, beyond float32"):
        Tokenizer.from_metadata(metadata)


def test_sentencepiece_with_wrong_byte_tokens(sentencepiece_metadata: Metadata) -> None:
    metadata = dict(sentencepiece_metadata)
    metadata["tokenizer.ggml.tokens"] = [
        piece.replace("<0x", "<0y") for piece in metadata["tokenizer.ggml.tokens"]
    ]
    with pytest.raises(ModelFormatError, match="SentencePiece"):
        Tokenizer.from_metadata(metadata)
