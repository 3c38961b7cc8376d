"""The verbs that read files without running a model: inspect, plan, tokenize, template, list, rm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyqwen import Model, catalog
from pyqwen.loading.gguf_file import GGUFFile
from pyqwen.text.tokenizer import Tokenizer


def test_inspect_tells_what_is_in_the_file(call, tiny_model_path: Path) -> None:
    result = call("inspect", tiny_model_path)
    assert result.code == 0
    for text in ("qwen2", "Q8_0", "layers", "sampling defaults", "no problems", "license"):
        assert text in result.out
    assert "blk.0.attn_q.weight" not in result.out


def test_inspect_json(call, tiny_model_path: Path) -> None:
    facts = call("inspect", tiny_model_path, "--json").json
    assert facts["config"]["layers"] == 2
    assert facts["types"]["Q8_0"]["tensors"] == 15
    assert "tensors" not in facts
    tensors = call("inspect", tiny_model_path, "--json", "--tensors").json["tensors"]
    assert {"name": "blk.0.attn_q.weight", "type": "Q8_0", "shape": [128, 128]}.items() <= next(
        t for t in tensors if t["name"] == "blk.0.attn_q.weight"
    ).items()


def test_inspect_lists_tensors(call, tiny_model_path: Path) -> None:
    assert "blk.1.ffn_down.weight" in call("inspect", tiny_model_path, "--tensors").out


def test_inspect_escapes_what_a_terminal_would_obey(call, tmp_path: Path) -> None:
    import gguf

    path = tmp_path / "hostile.gguf"
    writer = gguf.GGUFWriter(str(path), "qwen2")
    writer.add_name("evil \x1b[2J name")
    writer.add_string("general.description", "bell \x07")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    result = call("inspect", path)
    assert "problems" in result.out
    assert "\x1b" not in result.out
    assert "\x07" not in result.out


def test_plan_adds_up(call, tiny_model_path: Path) -> None:
    plan = call("plan", tiny_model_path, "-c", 256, "--parallel", 3, "--json").json
    parts = ("weights", "kv", "compute", "interpreter", "tokenizer")
    assert plan["total"] == sum(plan[part] for part in parts)
    assert plan["kv"] == 3 * 256 * plan["kv_per_token"]
    assert plan["fits"] is True


def test_plan_in_words(call, tiny_model_path: Path) -> None:
    result = call("plan", tiny_model_path, "--kv-type", "q8_0")
    assert result.code == 0
    assert "512 tokens in q8_0" in result.out
    assert "this fits" in result.out
    result = call("plan", tiny_model_path, "--kv-type", "q8_0,q5_1")
    assert "512 tokens in q8_0,q5_1" in result.out
    result = call("plan", tiny_model_path, "--kv-type", "auto")
    assert "512 tokens in f16" in result.out


def test_tokenize(call, tiny_model_path: Path) -> None:
    text = "Hello, wörld! <|im_end|>"
    with GGUFFile(tiny_model_path) as file:
        tokenizer = Tokenizer.from_metadata(file.metadata)
    result = call("tokenize", "-m", tiny_model_path, text, "--json").json
    assert result["ids"] == tokenizer.encode(text)
    assert result["pieces"] == [tokenizer.id_to_piece(token) for token in result["ids"]]
    lines = call("tokenize", "-m", tiny_model_path, text).out.splitlines()
    assert [int(line.split()[0]) for line in lines] == result["ids"]
    special = call("tokenize", "-m", tiny_model_path, "--special", text, "--json").json
    assert special["ids"][-1] == tokenizer.control_id("<|im_end|>")


def test_tokenize_reads_stdin_unchanged(call, tiny_model_path: Path) -> None:
    result = call("tokenize", "-m", tiny_model_path, "-", "--json", stdin="a\r\n b\n\n").json
    with GGUFFile(tiny_model_path) as file:
        tokenizer = Tokenizer.from_metadata(file.metadata)
    assert tokenizer.decode(result["ids"]) == "a\r\n b\n\n"


def test_template_prints_the_prompt_exactly(call, tiny_model_path: Path, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hello\n"}]
    file = tmp_path / "messages.json"
    file.write_text(json.dumps(messages))
    with Model(tiny_model_path) as model:
        prompt = model.chat_template.render(messages).text
    assert call("template", "-m", tiny_model_path, file).out == prompt
    as_object = json.dumps({"messages": messages})
    assert call("template", "-m", tiny_model_path, "-", stdin=as_object).out == prompt
    bare = call("template", "-m", tiny_model_path, "--no-generation-prompt", file).out
    assert prompt.startswith(bare)
    assert bare.endswith("<|im_end|>\n")


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("[1, 2", 2, "is not JSON"),
        ('"hello"', 2, "neither a list of messages"),
        ('[{"role": "robot", "content": "x"}]', 1, "robot"),
        ("[1]", 2, "messages[0] must be a dict"),
        ('[{"role": "user", "content": 5}]', 2, "content must be a string"),
        (
            '{"messages": [{"role": "user", "content": "x"}], "tools": 5}',
            2,
            "'tools' is not a list",
        ),
        ("[" * 100_000, 2, "is nested too deeply"),
    ],
)
def test_template_refuses(call, tiny_model_path: Path, text: str, code: int, words: str) -> None:
    result = call("template", "-m", tiny_model_path, "-", stdin=text)
    assert result.code == code
    assert words in result.err
    assert "please report" not in result.err


@pytest.mark.parametrize("verb", ["plan", "inspect", "tokenize", "template"])
def test_verbs_that_look_at_a_model_do_not_fetch_it(
    call, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("pyqwen.catalog.acquire._fetch_alone", fetch)
    name = ["smollm2-135m"] if verb in ("plan", "inspect") else ["-m", "smollm2-135m", "-"]
    result = call(verb, *name, stdin="[]")
    assert result.code == 1
    assert "    pyqwen pull smollm2-135m\n" in result.err
    if verb in ("tokenize", "template"):
        result = call(verb, "-", stdin="[]")
        assert "    pyqwen pull qwen2.5-coder-1.5b\n" in result.err


def test_inspect_shows_what_decides_how_tokens_are_drawn(call, tiny_model_path: Path) -> None:
    defaults = call("inspect", tiny_model_path).out.partition("sampling defaults")[2]
    assert "temperature" in defaults
    for name in ("ignore_eos", "logprobs"):
        assert name not in defaults


def test_inspect_shows_numbers_as_they_were_meant(call, tiny_model_path: Path) -> None:
    (line,) = [x for x in call("inspect", tiny_model_path).out.splitlines() if " norm_eps " in x]
    assert line.split()[1] == "1e-06"


def test_list_shows_catalog_and_licenses(call) -> None:
    out = call("list").out
    assert "qwen2.5-coder-1.5b" in out
    assert "Qwen Research License: research and evaluation only" in out
    assert "ON THIS MACHINE" not in out
    known = call("list", "--json").json
    assert known["models"] == []
    assert {entry["name"] for entry in known["catalog"]} == {e.name for e in catalog.entries()}


def test_a_model_of_the_cache_is_listed_found_and_removed(call, tiny_model_path: Path) -> None:
    folder = catalog.cache_root() / "models"
    folder.mkdir(parents=True)
    path = folder / "my-tiny.gguf"
    path.write_bytes(tiny_model_path.read_bytes())
    (model,) = call("list", "--json").json["models"]
    assert (model["path"], model["size"]) == (str(path), path.stat().st_size)
    assert str(path) in call("list").out
    assert call("pull", "my-tiny").out == f"{path}\n"
    assert call("tokenize", "-m", "my-tiny", "x").code == 0
    result = call("rm", "my-tiny")
    assert (result.code, result.out) == (0, f"removed {path}\n")
    assert not path.exists()
    assert call("rm", "my-tiny").code == 1


def test_offline_a_missing_model_gives_the_command_to_run(call) -> None:
    result = call("run", "Hello")
    assert result.code == 1
    assert "pyqwen pull qwen2.5-coder-1.5b" in result.err
