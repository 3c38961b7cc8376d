"""Tokens, ends and templates as checkpoints have them: in files that repeat and contradict each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conversion import converted, said

from pyqwen import Model
from pyqwen.errors import ModelFormatError
from pyqwen.quantize import convert
from pyqwen.text.tokenizer import Tokenizer
from pyqwen.text.vocabulary import TokenKind


def added(i: int, text: str, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": i, "content": text, "special": special, **flags}


def without_tokenizer_json(files: Any) -> Path:
    """What a slow tokenizer saves: vocab.json and merges.txt; its added tokens are left to the test."""
    path = files.write()
    (path / "tokenizer.json").unlink()
    (path / "vocab.json").write_text(json.dumps(files.tokenizer["model"]["vocab"]))
    (path / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    return path


# ---------------------------------------------------------------------------------------------- added tokens


def test_a_usual_checkpoint_needs_no_words(make_checkpoint) -> None:
    assert converted(make_checkpoint().write())[1].notes == ()


def test_tokens_only_in_added_tokens_json(make_checkpoint) -> None:
    files = make_checkpoint()
    path = without_tokenizer_json(files)
    texts = {token["content"]: token["id"] for token in files.tokenizer["added_tokens"]}
    (path / "added_tokens.json").write_text(json.dumps(texts))
    keys, done = converted(path)
    assert keys["tokenizer.ggml.tokens"][258:262] == list(texts)
    assert keys["tokenizer.ggml.token_type"][258:262] == [3, 3, 3, 4]
    assert done.notes == ()
    ids = Tokenizer.from_metadata(keys).encode("<|im_start|>the<tool_call>", special=True)
    assert ids == [259, 257, 261]


def test_files_that_name_a_token_differently_are_reported(make_checkpoint) -> None:
    files = make_checkpoint()
    files.tokenizer_config["added_tokens_decoder"] = {"261": added(261, "<other>", False)}
    path = files.write()
    (path / "added_tokens.json").write_text(json.dumps({"<|im_end|>": 270}))
    keys, done = converted(path)
    assert keys["tokenizer.ggml.tokens"][261] == "<tool_call>"
    assert keys["tokenizer.ggml.token_type"][270] == TokenKind.UNUSED
    assert said(done, "tokenizer_config.json", "261", "<other>", "<tool_call>")
    assert said(done, "added_tokens.json", "<|im_end|>", "270", "260")


def test_special_false_is_believed(make_checkpoint) -> None:
    files = make_checkpoint()
    files.tokenizer["added_tokens"].append(added(262, "<|speech_0|>", False))
    path = files.write()
    keys, done = converted(path)
    assert keys["tokenizer.ggml.token_type"][262] == TokenKind.USER_DEFINED
    assert done.notes == ()
    assert Tokenizer.from_metadata(keys).decode([262], skip_special=True) == "<|speech_0|>"


def test_what_the_template_writes_cannot_be_written_by_a_user(make_checkpoint) -> None:
    files = make_checkpoint()
    files.tokenizer["added_tokens"].append(added(262, "<|speaker|>", False))
    files.tokenizer_config["chat_template"] += "<|speaker|>"
    keys, done = converted(files.write())
    assert keys["tokenizer.ggml.token_type"][262] == TokenKind.CONTROL
    assert said(done, "<|speaker|>", "not marked as special")
    assert 262 not in Tokenizer.from_metadata(keys).encode("<|speaker|>")


def test_tokens_of_infilling_are_control_tokens(make_checkpoint) -> None:
    """Qwen2.5 says ``special: false`` of them; users must not be able to write them all the same."""
    files = make_checkpoint()
    texts = ("<|fim_prefix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<fim_middle>")
    files.tokenizer["added_tokens"] += [added(262 + i, text, False) for i, text in enumerate(texts)]
    keys, done = converted(files.write())
    assert set(keys["tokenizer.ggml.token_type"][262:267]) == {TokenKind.CONTROL}
    assert done.notes == ()


def test_files_that_do_not_agree_what_is_special(make_checkpoint) -> None:
    files = make_checkpoint()
    files.tokenizer_config["added_tokens_decoder"] = {"261": added(261, "<tool_call>", True)}
    keys, done = converted(files.write())
    assert keys["tokenizer.ggml.token_type"][261] == TokenKind.CONTROL
    assert said(done, "tokenizer.json and tokenizer_config.json", "<tool_call>")


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
def test_tokens_that_are_named_as_special(make_checkpoint, file: str) -> None:
    files = make_checkpoint()
    files.tokenizer["added_tokens"].append(added(262, "<call>", False))
    path = files.write()
    document = files.tokenizer_config if file == "tokenizer_config.json" else {}
    names = {"additional_special_tokens": ["<tool_call>", {"content": "<call>"}]}
    (path / file).write_text(json.dumps({**document, **names}))
    assert converted(path)[0]["tokenizer.ggml.token_type"][261:263] == [3, 3]


# ------------------------------------------------------------------------------------- beginnings and ends


def test_a_beginning_that_the_tokenizer_does_not_add(make_checkpoint) -> None:
    files = make_checkpoint()
    files.tokenizer_config.update(add_bos_token=True, bos_token="<|endoftext|>")
    keys, done = converted(files.write())
    assert keys["tokenizer.ggml.add_bos_token"] is False
    assert keys["tokenizer.ggml.bos_token_id"] == 258
    assert said(done, "add_bos_token is true")
    assert Tokenizer.from_metadata(keys).encode("the") == [257]


@pytest.mark.parametrize(("tokenizer_class", "adds"), [("Qwen2Tokenizer", 0), ("GPT2Tokenizer", 1)])
def test_classes_that_add_a_beginning(make_checkpoint, tokenizer_class: str, adds: int) -> None:
    files = make_checkpoint()
    files.tokenizer_config.update(
        add_bos_token=True, bos_token="<|endoftext|>", tokenizer_class=tokenizer_class
    )
    files.tokenizer_config["added_tokens_decoder"] = {
        str(token["id"]): token for token in files.tokenizer["added_tokens"]
    }
    keys, _ = converted(without_tokenizer_json(files))
    assert keys["tokenizer.ggml.add_bos_token"] is bool(adds)


def test_a_beginning_that_only_the_post_processor_names(make_checkpoint) -> None:
    files = make_checkpoint()
    del files.config["bos_token_id"]
    first = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    single = [first, {"Sequence": {"id": "A", "type_id": 0}}]
    files.tokenizer["post_processor"] = {"type": "TemplateProcessing", "single": single}
    keys, _ = converted(files.write())
    assert keys["tokenizer.ggml.bos_token_id"] == 258
    assert Tokenizer.from_metadata(keys).encode("the") == [258, 257]


@pytest.mark.parametrize("file", ["generation", "config"])
def test_ends_that_only_a_list_names(make_checkpoint, tmp_path: Path, file: str) -> None:
    files = make_checkpoint()
    files.tokenizer["added_tokens"] += [added(262, "<turn>", True), added(263, "<stop>", True)]
    files.generation.pop("eos_token_id")
    (files.generation if file == "generation" else files.config)["eos_token_id"] = [262, 260, 263]
    keys, done = converted(files.write())
    assert keys["tokenizer.ggml.eos_token_id"] == 260
    assert keys["tokenizer.ggml.eot_token_id"] == 262
    assert keys["tokenizer.ggml.eom_token_id"] == 263
    assert done.notes == ()
    with Model(tmp_path / "model.gguf", threads=1) as model:
        assert model.tokenizer.eog_ids == {258, 260, 262, 263}


def test_an_end_that_no_tokenizer_file_names(make_checkpoint) -> None:
    files = make_checkpoint()
    files.tokenizer["added_tokens"].append(added(262, "<turn>", True))
    del files.tokenizer_config["eos_token"], files.generation["eos_token_id"]
    files.config["eos_token_id"] = [262]
    assert converted(files.write())[0]["tokenizer.ggml.eos_token_id"] == 262


def test_more_ends_than_gguf_has_room_for(make_checkpoint) -> None:
    files = make_checkpoint()
    files.tokenizer["added_tokens"] += [added(262 + i, f"<end {i}>", True) for i in range(3)]
    files.generation["eos_token_id"] = [262, 263, 264]
    keys, done = converted(files.write())
    assert keys["tokenizer.ggml.eot_token_id"] == 262
    assert said(done, "264", "<end 2>", "stop string")


def test_files_that_disagree_about_the_end(make_checkpoint) -> None:
    files = make_checkpoint(eos_token_id=258)
    keys, done = converted(files.write())
    assert keys["tokenizer.ggml.eos_token_id"] == 260
    assert said(done, "eos", "258", "260", "believed")


@pytest.mark.parametrize("pad", [-1, 10**9, 320, 300])
def test_padding_that_is_no_token_is_dropped(make_checkpoint, pad: int) -> None:
    files = make_checkpoint(pad_token_id=pad)
    del files.tokenizer_config["pad_token"]
    keys, done = converted(files.write())
    assert "tokenizer.ggml.padding_token_id" not in keys
    assert said(done, f"pad_token_id in config.json is {pad}", "dropped")


def test_an_end_that_is_no_token_is_refused(make_checkpoint, tmp_path: Path) -> None:
    files = make_checkpoint(eos_token_id=320)
    del files.tokenizer_config["eos_token"]
    with pytest.raises(ModelFormatError, match="eos_token_id"):
        convert(files.write(), tmp_path / "model.gguf")


def test_a_role_that_names_no_token_is_reported(make_checkpoint) -> None:
    files = make_checkpoint()
    files.tokenizer_config["pad_token"] = "[PAD]"
    assert said(converted(files.write())[1], "pad_token", "[PAD]", "none of its tokens")


# --------------------------------------------------------------------------------------------- templates


def test_a_template_file_wins(make_checkpoint) -> None:
    files = make_checkpoint()
    files.tokenizer_config["chat_template"] = "OLD"
    path = files.write()
    (path / "chat_template.jinja").write_text("NEW")
    (path / "chat_template.json").write_text(json.dumps({"chat_template": "OLDER"}))
    keys, done = converted(path)
    assert keys["tokenizer.chat_template"] == "NEW"
    assert said(done, "chat_template.jinja", "tokenizer_config.json has another one")
    assert said(done, "chat_template.jinja", "chat_template.json has another one")


@pytest.mark.parametrize("beside", ["chat_template.jinja", "tokenizer_config.json"])
def test_additional_templates_have_names(make_checkpoint, beside: str) -> None:
    files = make_checkpoint()
    files.tokenizer_config["chat_template"] = "MAIN"
    path = files.write()
    if beside == "chat_template.jinja":
        (path / beside).write_text("MAIN")
    folder = path / "additional_chat_templates"
    folder.mkdir()
    (folder / "tool_use.jinja").write_text("TOOLS")
    (folder / "rag.v2.jinja").write_text("SEARCH")
    keys, done = converted(path)
    assert keys["tokenizer.chat_template"] == "MAIN"
    assert keys["tokenizer.chat_template.tool_use"] == "TOOLS"
    assert keys["tokenizer.chat_template.rag_v2"] == "SEARCH"
    assert keys["tokenizer.chat_templates"] == ["rag_v2", "tool_use"]
    assert done.notes == ()


@pytest.mark.parametrize("place", ["tokenizer_config.json", "tool_use.jinja"])
def test_a_template_that_cannot_be_run(make_checkpoint, tmp_path: Path, place: str) -> None:
    files = make_checkpoint()
    path = files.write()
    if place == "tool_use.jinja":
        (path / "additional_chat_templates").mkdir()
        (path / "additional_chat_templates" / place).write_text("{% for %}")
    else:
        (path / place).write_text(json.dumps({**files.tokenizer_config, "chat_template": "{{"}))
    with pytest.raises(ModelFormatError, match=r"cannot be run: .*correct it"):
        convert(path, tmp_path / "model.gguf")
    assert not (tmp_path / "model.gguf").exists()


def test_a_template_with_tokens_that_the_model_has_not(make_checkpoint) -> None:
    files = make_checkpoint()
    files.tokenizer_config["chat_template"] += "{{ '<|python_tag|>' + bos_token }}"
    del files.config["bos_token_id"]
    done = converted(files.write())[1]
    assert said(done, "<|python_tag|>", "no tokens of this model")
    assert said(done, "bos_token", "empty")
