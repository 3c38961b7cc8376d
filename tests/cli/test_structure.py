"""Answers by a schema or grammar, in the terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "boolean"}, "b": {"enum": ["x", "y"]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


@pytest.fixture
def ask(call: Any, tiny_model_path: Path) -> Any:
    return lambda *flags, **more: call(
        "run", "-m", tiny_model_path, "-q", "--seed", 1, *flags, "x", **more
    )


def test_schemas(ask: Any, tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    results = [ask("--json-schema", given) for given in (json.dumps(SCHEMA), file)]
    assert [result.code for result in results] == [0, 0]
    assert results[0].out == results[1].out
    assert list(json.loads(results[0].out)) == ["a", "b"]
    whole = ask("--json", "--json-schema", file).json
    assert whole["parsed"] == json.loads(results[0].out)
    assert whole["unenforced"] == []
    assert "parsed" not in ask("--json", "-n", 2).json


def test_other_structures(ask: Any, tmp_path: Path) -> None:
    assert ask("--json-object", "-n", 4).out.startswith("{")
    assert re.fullmatch(r"[a-c]{3}\n", ask("--regex", "[a-c]{3}").out)
    assert ask("--choice", "yes", "--choice", "no").out in ("yes\n", "no\n")
    (tmp_path / "g.lark").write_text('start: "a" ("b" | "c")\n')
    (tmp_path / "g.gbnf").write_text('root ::= "d" [0-9]\n')
    assert ask("--grammar", tmp_path / "g.lark").out in ("ab\n", "ac\n")
    assert re.fullmatch(r"d\d\n", ask("--grammar", tmp_path / "g.gbnf").out)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--json-schema", '{"type": "strin"}'], "#/type"),
        (["--json-schema", "{broken"], "not JSON"),
        (["--choice", ""], "none of them empty"),
        (["--json-object", "--regex", "a"], "not allowed with"),
    ],
)
def test_wrong_usage(ask: Any, flags: list[str], message: str) -> None:
    result = ask(*flags)
    assert result.code == 2
    assert message in result.err


def test_what_cannot_be_compiled_fails(ask: Any, tmp_path: Path) -> None:
    for flags in (["--regex", "(a"], ["--json-schema", '{"$ref": "#"}']):
        result = ask(*flags)
        assert result.code == 1
        assert result.err
    assert ask("--json-schema", tmp_path / "missing.json").code == 1


def test_json_in_a_chat(call: Any, tiny_model_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    lines = [f"/json {file}", "Hello", '/json {"const": 7}', "Seven?", "/json off", "/json nothing"]
    result = call("chat", "-m", tiny_model_path, "--seed", 1, "-n", 60, stdin="\n".join(lines))
    assert result.code == 0
    first, _, rest = result.out.partition("}")
    assert set(json.loads(first + "}")) == {"a", "b"}
    assert "7" in rest
    assert "answers are JSON by this schema" in result.err
    assert "error: " in result.err
