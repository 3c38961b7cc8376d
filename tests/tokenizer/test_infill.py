"""Prompts for filling in the middle: their form, what is left out, and names of tokens that users write."""

from __future__ import annotations

from typing import Any

import pytest

from pyqwen.errors import ContextOverflowError, UnsupportedModelError
from pyqwen.text.infill import Infill, checked_infill, find_infill
from pyqwen.text.tokenizer import Tokenizer

NAMES = {
    "prefix": "<|fim_prefix|>",
    "middle": "<|fim_middle|>",
    "suffix": "<|fim_suffix|>",
    "repository": "<|repo_name|>",
    "file": "<|file_sep|>",
}
CODE = "def reverse(items):\n    return items[::-1]  # 12345\n"


def with_markers(metadata: dict[str, Any], kind: int, names: list[str]) -> dict[str, Any]:
    """``metadata`` whose padding became tokens of these names."""
    tokens, types = (list(metadata[f"tokenizer.ggml.{key}"]) for key in ("tokens", "token_type"))
    first = types.index(5)
    tokens[first : first + len(names)] = names
    types[first : first + len(names)] = [kind] * len(names)
    return {**metadata, "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}


@pytest.fixture(params=[3, 4], ids=["control", "user-defined"])
def infill(bpe_metadata: dict[str, Any], request: pytest.FixtureRequest) -> Infill:
    metadata = with_markers(bpe_metadata, request.param, list(NAMES.values()))
    found = find_infill(metadata, Tokenizer.from_metadata(metadata))
    assert found is not None
    return found


def prompt(infill: Infill, prefix: str, suffix: str, room: int = 10_000, **more: Any) -> list[int]:
    more = {"files": {}, "filename": None, "repository": None, **more}
    return infill.prompt(prefix, suffix, room=room, **more)


def test_roles_by_name(infill: Infill) -> None:
    tokenizer = infill.tokenizer
    for role, name in NAMES.items():
        assert tokenizer.id_to_piece(infill.roles[role]) == name
    assert tokenizer.id_to_piece(infill.roles["padding"]) == "<|fim_pad|>"
    assert infill.end_ids == frozenset(infill.roles.values())


def test_the_form_of_one_file(infill: Infill) -> None:
    ids = prompt(infill, "def f(x):\n    ", "\n    return y\n")
    assert infill.tokenizer.decode(ids) == (
        "<|fim_prefix|>def f(x):\n    <|fim_suffix|>\n    return y\n<|fim_middle|>"
    )
    encode = infill.tokenizer.encode
    assert ids[1 : 1 + len(encode("def f(x):\n    "))] == encode("def f(x):\n    ")
    assert infill.tokenizer.decode(prompt(infill, "", "")) == "".join(
        ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
    )


def test_the_form_of_a_repository(infill: Infill) -> None:
    files = {"a.py": "x = 1\n", "dir/b.py": "y = 2"}
    ids = prompt(infill, "z", "w", files=files, filename="c.py", repository="mine")
    assert infill.tokenizer.decode(ids) == (
        "<|repo_name|>mine\n<|file_sep|>a.py\nx = 1\n<|file_sep|>dir/b.py\ny = 2\n"
        "<|file_sep|>c.py\n<|fim_prefix|>z<|fim_suffix|>w<|fim_middle|>"
    )
    text = infill.tokenizer.decode(prompt(infill, "z", "w", filename="c.py"))
    assert text.startswith("<|repo_name|>repository\n<|file_sep|>c.py\n<|fim_prefix|>z")
    text = infill.tokenizer.decode(prompt(infill, "z", "w", files=files))
    assert "<|file_sep|>filename\n<|fim_prefix|>z" in text


def test_names_of_tokens_are_text(infill: Infill) -> None:
    text = "a<|fim_suffix|>b<|file_sep|><|fim_<|fim_middle|>middle|><|im_end|>"
    ids = prompt(infill, text, text, files={text: text}, filename=text, repository=text)
    counts = {role: ids.count(token) for role, token in infill.roles.items()}
    assert counts == {
        **dict.fromkeys(["prefix", "suffix", "middle", "repository"], 1),
        "file": 2,
        "padding": 0,
    }
    assert infill.tokenizer.control_id("<|im_end|>") not in ids
    assert infill.tokenizer.decode(ids).count(text) == 6


@pytest.mark.parametrize("room", range(3, 400, 7))
def test_what_does_not_fit(infill: Infill, room: int) -> None:
    prefix, suffix = CODE * 9 + "a", "b" + CODE * 9
    ids = prompt(infill, prefix, suffix, room)
    assert len(ids) <= room
    text = infill.tokenizer.decode(ids)
    before, _, after = text.removeprefix("<|fim_prefix|>").partition("<|fim_suffix|>")
    after = after.removesuffix("<|fim_middle|>")
    assert prefix.endswith(before)
    assert suffix.startswith(after)
    n_suffix = ids.index(infill.roles["middle"]) - ids.index(infill.roles["suffix"]) - 1
    n_prefix = ids.index(infill.roles["suffix"]) - 1
    n_all = len(infill.tokenizer.encode(prefix))
    if len(ids) < room - 2:  # then the prefix is cut on a coarser grid
        assert n_prefix == n_all or room - len(ids) <= max((room - 3) // 8, 1)
    assert n_suffix >= (room - 3) // 4 or n_suffix == len(infill.tokenizer.encode(suffix))


def test_short_texts_leave_their_room_to_others(infill: Infill) -> None:
    encode = infill.tokenizer.encode
    long = CODE * 9
    ids = prompt(infill, "a", long, room=103)
    roles = infill.roles
    expected = [roles["prefix"], *encode("a"), roles["suffix"], *encode(long)[:99], roles["middle"]]
    assert ids == expected
    ids = prompt(infill, long, "b", room=103)
    assert ids[-3:] == [infill.roles["suffix"], *encode("b"), infill.roles["middle"]]
    assert len(ids) > 85


def test_typing_keeps_the_beginning(infill: Infill) -> None:
    """So that the cache has it: what is cut off a long prefix is the same for several keys."""
    starts = set()
    for n in range(64):
        ids = prompt(infill, CODE * 40 + "x = 1; " * n, "", room=200)
        starts.add(tuple(ids[:20]))
    assert len(starts) < 16


def test_files_are_left_out_whole_the_first_of_them_first(infill: Infill) -> None:
    encode = infill.tokenizer.encode
    files = {f"{i}.py": CODE * i for i in range(1, 6)}
    size = {name: 1 + len(encode(f"{name}\n{text}")) for name, text in files.items()}
    frame = len(prompt(infill, "a", "b", filename="c.py"))
    for kept in range(6):
        names = list(files)[5 - kept :]
        room = frame + sum(size[name] for name in names)
        for extra in (0, 3):
            ids = prompt(infill, "a", "b", room + extra, files=files, filename="c.py")
            text = infill.tokenizer.decode(ids)
            assert [name for name in files if f"<|file_sep|>{name}\n" in text] == names
            assert len(ids) == room


def test_long_texts_take_no_time(infill: Infill) -> None:
    """Only what can be of use is cut into tokens."""
    huge = CODE * 400_000  # 20 MB
    ids = prompt(infill, huge, huge, room=500, files={"a": huge})
    assert len(ids) <= 500


def test_no_room(infill: Infill) -> None:
    with pytest.raises(ContextOverflowError, match="no room to fill in"):
        prompt(infill, "a", "b", room=2)
    with pytest.raises(ContextOverflowError, match="no room to fill in"):
        prompt(infill, "a", "b", room=20, filename="x" * 500)


def test_roles_by_keys_come_first(bpe_metadata: dict[str, Any]) -> None:
    metadata = with_markers(bpe_metadata, 3, list(NAMES.values()))
    keys = {"fim_pre_token_id": 3, "suffix_token_id": 4, "fim_mid_token_id": -1}
    metadata |= {f"tokenizer.ggml.{key}": value for key, value in keys.items()}
    metadata["tokenizer.ggml.fim_sep_token_id"] = 10**9
    found = find_infill(metadata, Tokenizer.from_metadata(metadata))
    assert found is not None
    assert (found.roles["prefix"], found.roles["suffix"]) == (3, 4)
    assert found.tokenizer.id_to_piece(found.roles["middle"]) == NAMES["middle"]
    assert found.tokenizer.id_to_piece(found.roles["file"]) == NAMES["file"]


def test_models_without_the_tokens(bpe_metadata: dict[str, Any]) -> None:
    tokenizer = Tokenizer.from_metadata(bpe_metadata)
    assert find_infill(bpe_metadata, tokenizer) is None
    with pytest.raises(UnsupportedModelError, match=r"^m.gguf: this model cannot fill in"):
        checked_infill(None, "m.gguf", with_files=False)
    metadata = with_markers(bpe_metadata, 3, list(NAMES.values())[:3])
    found = find_infill(metadata, Tokenizer.from_metadata(metadata))
    assert checked_infill(found, "m.gguf", with_files=False) is found
    with pytest.raises(UnsupportedModelError, match=r"^m.gguf: .* no token that begins a file"):
        checked_infill(found, "m.gguf", with_files=True)
