"""Checkpoints as people have them: files that repeat and contradict each other, odd names, odd places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from pyqwen import Model
from pyqwen.__main__ import main
from pyqwen.errors import ModelFormatError, ModelNotFoundError, UnsupportedModelError
from pyqwen.quantize import Conversion, convert, quantize
from pyqwen.text.tokenizer import Tokenizer
from pyqwen.text.vocabulary import TokenKind

Keys = dict[str, Any]


def converted(path: Path) -> tuple[Keys, Conversion]:
    """The keys of what ``path`` becomes, and what was said about it."""
    out = path.parent / "model.gguf"
    done = convert(path, out)
    fields = gguf.GGUFReader(out).fields
    return {name: field.contents() for name, field in fields.items()}, done


def said(done: Conversion, *words: str) -> bool:
    """Whether one of the notes has all these words."""
    return any(all(word in note for word in words) for note in done.notes)


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


# --------------------------------------------------------------------------------- names, shards and types


def rename(files: Any, prefix: str, head: str = "lm_head.weight") -> None:
    files.tensors = {
        head if name == "lm_head.weight" else prefix + name.removeprefix("model."): values
        for name, values in files.tensors.items()
    }


@pytest.mark.parametrize(
    ("prefix", "head"),
    [
        ("", "lm_head.weight"),
        ("module.model.", "module.lm_head.weight"),
        ("_orig_mod.model.", "_orig_mod.lm_head.weight"),
        ("language_model.model.", "language_model.lm_head.weight"),
        ("transformer.", "lm_head.weight"),
    ],
)
def test_names_with_another_prefix(make_checkpoint, tmp_path: Path, prefix: str, head: str) -> None:
    files = make_checkpoint(tied=False)
    usual = convert(files.write(), tmp_path / "usual.gguf").path.read_bytes()
    rename(files, prefix, head)
    done = convert(files.write(), tmp_path / "odd.gguf")
    assert done.path.read_bytes() == usual
    assert said(done, "'model.'")
    assert done.tensors[0].source == f"{prefix}embed_tokens.weight"


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("up_proj.weight", "up_proj.qweight", "AWQ or GPTQ"),
        ("up_proj.weight", "up_proj.weight_packed", "compressed-tensors"),
        ("up_proj.weight", "up_proj.weight.absmax", "bitsandbytes"),
        ("up_proj.weight", "up_proj.lora_A.weight", "adapter"),
    ],
)
def test_weights_that_are_no_plain_model(
    make_checkpoint, tmp_path: Path, old: str, new: str, word: str
) -> None:
    files = make_checkpoint()
    files.tensors = {name.replace(old, new): values for name, values in files.tensors.items()}
    with pytest.raises(UnsupportedModelError, match=word) as caught:
        convert(files.write(), tmp_path / "model.gguf")
    assert "download" not in str(caught.value)


def test_missing_weights_are_no_bad_download(make_checkpoint, tmp_path: Path) -> None:
    files = make_checkpoint(num_hidden_layers=3)
    with pytest.raises(ModelFormatError, match=r"model\.layers\.2.* 26 tensors") as caught:
        convert(files.write(), tmp_path / "model.gguf")
    assert "download" not in str(caught.value)


@pytest.mark.parametrize("stem", ["model", "pytorch_model"])
def test_shards_without_an_index(make_checkpoint, tmp_path: Path, stem: str) -> None:
    files = make_checkpoint()
    usual = convert(files.write(), tmp_path / "usual.gguf").path.read_bytes()
    path = files.write(shards=3)
    for name in ("model.safetensors", "model.safetensors.index.json"):
        (path / name).unlink()
    for shard in list(path.glob("model-*")):
        shard.rename(shard.with_name(shard.name.replace("model", stem)))
    done = convert(path, tmp_path / "odd.gguf")
    assert done.path.read_bytes() == usual
    assert said(done, "index")
    (path / f"{stem}-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"00002-of-00003.*incomplete"):
        convert(path, tmp_path / "odd.gguf")


def test_weights_under_another_name(make_checkpoint, tmp_path: Path) -> None:
    path = make_checkpoint().write()
    (path / "model.safetensors").rename(path / "weights.safetensors")
    assert said(converted(path)[1], "weights.safetensors")
    (path / "other.safetensors").write_bytes((path / "weights.safetensors").read_bytes())
    with pytest.raises(ModelFormatError, match=r"other\.safetensors, weights\.safetensors"):
        convert(path, tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("embedding", "output"), [("BF16", "F32"), ("F32", "BF16"), ("F32", "F16")]
)
def test_a_tied_output_in_another_type(
    make_checkpoint, tmp_path: Path, embedding: str, output: str
) -> None:
    files = make_checkpoint(tied=True, dtype=embedding)
    values = files.tensors["model.embed_tokens.weight"]
    if embedding == "F32":  # with more digits than the other type has
        values = files.tensors["model.embed_tokens.weight"] = values + np.float32(2.0**-20)
    files.dtypes["lm_head.weight"] = output
    files.tensors["lm_head.weight"] = rounded(values) if output == "BF16" else values.copy()
    assert said(convert(files.write(), tmp_path / "model.gguf"), "lm_head.weight", "written once")
    files.tensors["lm_head.weight"][3, 5] += 1
    with pytest.raises(ModelFormatError, match="differs"):
        convert(files.write(), tmp_path / "model.gguf")


def rounded(values: np.ndarray) -> np.ndarray:
    """float32 values rounded to bfloat16, to nearest with ties to even."""
    bits = values.view(np.uint32)
    up = np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))
    return ((bits + up) & np.uint32(0xFFFF0000)).view(np.float32)


def test_yarn_without_its_original_length(make_checkpoint) -> None:
    keys, done = converted(make_checkpoint(rope_scaling={"type": "yarn", "factor": 4}).write())
    assert keys["qwen2.rope.scaling.original_context_length"] == 512
    assert said(done, "YaRN", "512")


# ------------------------------------------------------------------------------- directories and names


def test_directories_that_are_no_checkpoint(tmp_path: Path) -> None:
    def message(files: dict[str, str]) -> str:
        folder = tmp_path / f"folder{len(list(tmp_path.iterdir()))}"
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        folder.mkdir(exist_ok=True)
        messages = set()
        for make, kind in ((convert, "auto"), (quantize, "Q4_0")):
            with pytest.raises(ValueError, match=folder.name) as caught:
                make(folder, tmp_path / "model.gguf", kind)
            messages.add(str(caught.value))
        (text,) = messages
        assert "download" not in text
        return text

    adapter = json.dumps({"base_model_name_or_path": "Qwen/Qwen2.5-0.5B"})
    found = message({"adapter_config.json": adapter, "adapter_model.safetensors": ""})
    assert "adapter (LoRA) for Qwen/Qwen2.5-0.5B" in found
    assert "m-q4_0.gguf OUT.gguf" in message({"m-q4_0.gguf": "GGUF"})
    assert "Meta's own format" in message({"params.json": "{}", "consolidated.00.pth": ""})
    assert "diffusers" in message({"model_index.json": "{}"})
    assert "checkpoint-500" in message({"checkpoint-500/config.json": "{}"})
    assert "snapshots/0a1b" in message({"snapshots/0a1b/config.json": "{}", "refs/main": "0a1b"})
    assert "holds weights (model.safetensors)" in message({"model.safetensors": ""})
    assert "it holds notes.txt" in message({"notes.txt": ""})
    assert "it is empty" in message({})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qwen2.5-0.5b", "pyqwen pull qwen2.5-0.5b"),
        ("Qwen/Qwen2.5-0.5B-Instruct-GGUF:q8_0", "pyqwen pull"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "hf download Qwen/Qwen2.5-0.5B-Instruct"),
        ("./missing", "no such directory"),
    ],
)
def test_names_are_not_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words):
        convert(name, "model.gguf")


def test_a_model_of_the_cache_is_quantized_by_its_name(
    make_checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYQWEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)  # where no directory is called so
    for name in ("qwen2.5-0.5b", "Qwen2.5-0.5B-Instruct"):
        with pytest.raises(ModelNotFoundError, match=r"quantized already.*qwen2\.5-0\.5b:f16"):
            quantize(name, "q.gguf", "Q8_0")
        assert main(["quantize", name, "q.gguf", "Q8_0"]) == 1
    with pytest.raises(ModelNotFoundError, match="pyqwen pull"):
        quantize("qwen2.5-0.5b:f16", "q.gguf", "Q8_0")
    assert main(["quantize", "qwen2.5-0.5b:f16", "q.gguf", "Q8_0"]) == 1
    whole = tmp_path / "whole.gguf"
    convert(make_checkpoint().write(), whole, "f16")
    monkeypatch.setattr("pyqwen.quantize.source.open_source.resolve", lambda name: whole)
    done = quantize("qwen2.5-0.5b:f16", tmp_path / "q.gguf", "Q8_0")
    assert done.source == whole


def test_the_name_of_a_snapshot_in_the_hub_cache(make_checkpoint, tmp_path: Path) -> None:
    snapshots = tmp_path / "models--Me--Tiny-Qwen2.5-Instruct" / "snapshots"
    snapshots.mkdir(parents=True)
    path = make_checkpoint().write().rename(snapshots / "0123456789abcdef")
    keys, _ = converted(path)
    assert keys["general.name"] == "Tiny Qwen2.5 Instruct"
    assert keys["general.finetune"] == "Instruct"


# --------------------------------------------------------------------------------- what comes of it must run


@pytest.mark.parametrize(
    ("shape", "word"),
    [({"hidden": 96, "heads": 2}, "heads of 48"), ({"ffn": 100}, "128 and 100")],
)
def test_what_the_core_would_refuse_is_not_written(
    make_checkpoint, tmp_path: Path, shape: dict[str, int], word: str
) -> None:
    path = make_checkpoint(**shape).write()
    text = "the quick brown fox " * 200
    for make in (
        lambda: convert(path, tmp_path / "model.gguf"),
        lambda: quantize(path, tmp_path / "model.gguf", "Q8_0"),
        lambda: quantize(path, None, "Q4_K_M", dry_run=True),
        lambda: quantize(path, tmp_path / "model.gguf", "Q8_0", calibration=text),
    ):
        with pytest.raises(UnsupportedModelError, match=word) as caught:
            make()
        assert str(path) in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("repetition_penalty", 0.0), ("temperature", -1), ("top_p", 1.5), ("min_p", 2)],
)
def test_a_sampling_default_that_cannot_be_is_left_out(
    make_checkpoint, tmp_path: Path, name: str, value: float
) -> None:
    files = make_checkpoint()
    files.generation[name] = value
    _, done = converted(files.write())
    assert said(done, name, "left out")
    with Model(tmp_path / "model.gguf", threads=1) as model:
        assert model.defaults.top_k == 20
        assert model.generate("the", max_tokens=1).token_ids


def test_top_k_below_0_is_off(make_checkpoint) -> None:
    files = make_checkpoint()
    files.generation["top_k"] = -1
    keys, done = converted(files.write())
    assert keys["general.sampling.top_k"] == 0
    assert done.notes == ()


def test_sampling_defaults_of_a_gguf_file(make_checkpoint, tmp_path: Path) -> None:
    converted(make_checkpoint().write())
    writer = gguf.GGUFWriter(tmp_path / "odd.gguf", "qwen2")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    for name, field in reader.fields.items():
        if not name.startswith(("GGUF.", "general.architecture")):
            kind = field.types[0]
            sub = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, sub)
    writer.kv_data[0]["general.sampling.top_k"].value = -5
    writer.kv_data[0]["general.sampling.penalty_repeat"].value = 0.0
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    done = quantize(tmp_path / "odd.gguf", tmp_path / "q.gguf", "Q8_0")
    assert any("general.sampling.penalty_repeat" in note for note in done.notes)
    fields = gguf.GGUFReader(tmp_path / "q.gguf").fields
    assert fields["general.sampling.top_k"].contents() == 0
    assert "general.sampling.penalty_repeat" not in fields
