"""examples/search_markdown.py: passages of a folder, found by their vectors, each embedded once."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pyqwen import Model

TEXT = """\
Before any heading.

# Shells

She sells sea shells.

```sh
# no heading
```

## Foxes

The quick brown fox.
"""


@pytest.fixture(scope="module")
def example() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "search_markdown.py"
    spec = importlib.util.spec_from_file_location("search_markdown", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.md").write_text(TEXT)
    (tmp_path / "b.md").write_text("The lazy dog.")
    (tmp_path / "c.txt").write_text("no Markdown")
    return tmp_path


@pytest.fixture
def embedder(make_tiny_model: Callable[..., Path]) -> Path:
    return make_tiny_model(context=2048, metadata={"qwen2.pooling_type": 3})


def test_passages(example: ModuleType, folder: Path) -> None:
    found = [(p.line, p.text) for p in example.passages(folder / "below" / "a.md")]
    assert found == [
        (1, "Before any heading."),
        (4, "Shells\n\nShe sells sea shells.\n\n```sh\n# no heading\n```"),
        (12, "Foxes\n\nThe quick brown fox."),
    ]
    long = folder / "long.md"
    long.write_text("\n\n".join(["word " * 60] * 20))
    texts = [p.text for p in example.passages(long)]
    assert len(texts) > 3
    assert " ".join(texts).split() == ["word"] * 1200


def test_the_nearest_comes_first_and_nothing_is_read_twice(
    example: ModuleType,
    folder: Path,
    embedder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[Any] = []
    embed = Model.embed

    def watched(self: Model, texts: Any, **options: Any) -> Any:
        asked.append(texts)
        return embed(self, texts, **options)

    monkeypatch.setattr(Model, "embed", watched)
    argv = [str(folder), "Foxes\n\nThe quick brown fox.", "-m", str(embedder), "-n", "2"]
    assert example.main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"1.000  {folder / 'below' / 'a.md'}:12"
    assert lines[1].strip() == "Foxes  The quick brown fox."
    assert len(lines) == 4
    assert len(asked[0]) == 4
    asked.clear()
    (folder / "b.md").write_text("The lazy cat.")
    assert example.main(argv) == 0
    assert asked == [["The lazy cat."], argv[1]]
    asked.clear()
    (folder / example.INDEX).write_bytes(b"damaged")
    assert example.main(argv) == 0
    assert len(asked[0]) == 4


def test_what_cannot_be_searched(
    example: ModuleType, tmp_path: Path, embedder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert example.main([str(tmp_path), "a", "-m", str(embedder)]) == 1
    assert "no Markdown" in capsys.readouterr().err
    assert example.main([str(tmp_path), "a", "-m", str(tmp_path / "missing.gguf")]) == 1
    with pytest.raises(SystemExit):
        example.main([str(tmp_path / "missing"), "a"])
