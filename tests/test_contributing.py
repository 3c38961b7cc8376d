"""The lists of what a new type, kernel or architecture takes: they name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE = re.compile(r"`([\w./-]+\.(?:c|h|py|txt|md))`")


def sections(document: str) -> dict[str, str]:
    """Return what stands under each heading "Adding ..." of a document."""
    parts = re.split(r"^## (.*)\n", (ROOT / document).read_text(encoding="utf-8"), flags=re.M)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return {heading: text for heading, text in found.items() if heading.startswith("Adding")}


LISTS = [
    pytest.param(document, heading, id=f"{document}: {heading}")
    for document in ("CONTRIBUTING.md", "csrc/README.md", "csrc/kernels/README.md")
    for heading in sections(document)
]


def missing_files(document: str, heading: str) -> list[str]:
    """Files are named from the root or the document's folder; after one of a folder, its neighbors alone."""
    folders = [ROOT, (ROOT / document).parent]
    missing = []
    for name in FILE.findall(sections(document)[heading]):
        places = [folder / name for folder in folders if (folder / name).is_file()]
        # vectors.h and its like are in the folder of every instruction set.
        if not places and not list((ROOT / "csrc/kernels").glob(f"*/{name}")):
            missing.append(name)
        folders += [place.parent for place in places]
    return missing


@pytest.mark.parametrize(("document", "heading"), LISTS)
def test_lists_name_files_that_exist(document: str, heading: str) -> None:
    assert missing_files(document, heading) == []


def test_the_lists_are_found() -> None:
    counts = {
        heading: len(FILE.findall(text)) for heading, text in sections("CONTRIBUTING.md").items()
    }
    assert counts["Adding a tensor type"] >= 6
    assert 5 <= counts["Adding a type of the KV cache"] <= 8
    assert counts["Adding an architecture"] >= 5
    assert counts["Adding a sampler"] >= 10
    assert counts["Adding an instruction set"] >= 4
    assert counts["Adding a verb"] >= 3
    assert sections("csrc/README.md")
    assert sections("csrc/kernels/README.md")
