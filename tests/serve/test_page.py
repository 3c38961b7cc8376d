"""The web page as a file server sees it: parts, policy, sizes, licenses."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from driver import Client

import pyqwen.serve
from pyqwen import Model
from pyqwen.serve import create_app

FOLDER = Path(pyqwen.serve.__file__).parent / "page"
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def get(app: Any, path: str, **headers: str) -> Any:
    return asyncio.run(Client(app).get(path, headers=headers))


def test_browsers_get_the_page_and_clients_of_ollama_do_not(app: Any) -> None:
    page = get(app, "/", **BROWSER)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!doctype html>")
    assert get(app, "/").text == "Ollama is running"


def test_the_policy_lets_nothing_in_from_elsewhere(app: Any) -> None:
    for path in ("/", "/ui/app.js", "/ui/vendor/highlight/core.js"):
        headers = get(app, path, **BROWSER).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_every_part_that_is_named_is_there(app: Any) -> None:
    sources = "".join(path.read_text("utf-8") for path in FOLDER.glob("*.js"))
    named = set(re.findall(r'from "\./([^"]+)"', sources))
    named |= set(
        re.findall(r'(?:src|href)="ui/([^"]+)"', (FOLDER / "index.html").read_text("utf-8"))
    )
    (languages,) = re.findall(r"LANGUAGES = \[([^\]]+)\]", sources)
    named |= {f"vendor/highlight/{name}.js" for name in re.findall(r'"(\w+)"', languages)}
    assert len(named) > 20
    for name in named:
        part = get(app, f"/ui/{name}")
        assert part.status == 200, name
        assert part.body


def test_the_page_runs_without_inline_code_or_other_hosts() -> None:
    page = (FOLDER / "index.html").read_text("utf-8")
    assert not re.search(r"<script(?![^>]*\ssrc=)", page)
    assert not re.search(r"\son\w+=|style=|https?://", page)
    for path in FOLDER.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|eval\(|https?://", path.read_text("utf-8")), (
            path.name
        )


def test_it_is_small_and_its_licenses_are_kept() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 400_000
    licenses = (FOLDER / "vendor" / "LICENSES.txt").read_text("utf-8")
    for name in ("markdown-it", "DOMPurify", "highlight.js", "Permission is hereby granted"):
        assert name in licenses


@pytest.mark.parametrize(
    "name", ["../app.py", "%2e%2e/app.py", "nothing", "", "vendor", "/etc/passwd"]
)
def test_nothing_else_is_given_out(app: Any, name: str) -> None:
    assert get(app, f"/ui/{name}").status == 404


def test_without_a_page(model: Model) -> None:
    app = create_app({"tiny": model}, ui=False)
    assert get(app, "/", **BROWSER).text == "Ollama is running"
    assert get(app, "/ui/app.js").status == 404


def test_the_page_needs_no_key(model: Model) -> None:
    app = create_app({"tiny": model}, api_key="k")
    assert get(app, "/", **BROWSER).status == 200
    assert get(app, "/ui/app.js").status == 200
    assert get(app, "/v1/models").status == 401
