"""examples/prefix_proxy.py: which server gets what, and the whole of it with two servers."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "prefix_proxy.py"


@pytest.fixture(scope="module")
def proxy() -> Any:
    if not any(importlib.util.find_spec(name) for name in ("httpx2", "httpx")):
        pytest.skip("neither httpx2 nor httpx is here")
    spec = importlib.util.spec_from_file_location("prefix_proxy", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["prefix_proxy"] = module
    spec.loader.exec_module(module)
    return module


def chat(*contents: str, system: str = "You are brief.") -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]
    return {"messages": messages, "max_tokens": 3}


def test_a_conversation_keeps_its_server(proxy: Any) -> None:
    servers = [proxy.Server(f"s{i}") for i in range(3)]

    def server_of(body: Any, servers: list[Any] = servers) -> str:
        return str(proxy.choose(servers, proxy.beginning(body), 0.0)[0].name)

    bodies = [chat(f"Question {i}") for i in range(300)]
    first = [server_of(body) for body in bodies]
    counts = Counter(first)
    assert min(counts.values()) > 60
    later = [server_of(chat(f"Question {i}", "An answer.", "And then?")) for i in range(300)]
    assert later == first
    fewer = [server_of(body, servers[:2]) for body in bodies]
    assert all(a == b for a, b in zip(first, fewer, strict=True) if a != "s2"), "only s2's move"
    assert Counter(b for a, b in zip(first, fewer, strict=True) if a == "s2").keys() == {"s0", "s1"}


def test_what_else_requests_begin_with(proxy: Any) -> None:
    beginning = proxy.beginning
    story = "Once upon a time. " * 200
    assert beginning({"prompt": story + "a"}) == beginning({"prompt": story + "b"})
    assert beginning({"prompt": "a"}) != beginning({"prompt": "b"})
    assert beginning({"input": "a"}) != beginning({"input": "b"})
    assert beginning({"system": "x", **chat("a")}) != beginning({"system": "y", **chat("a")})
    for odd in (None, 7, [], {}, {"messages": []}, {"messages": [1]}, {"prompt": [1, 2]}):
        assert isinstance(beginning(odd), str)


def test_a_server_that_is_busy_or_away_gives_way(proxy: Any) -> None:
    servers = [proxy.Server(f"s{i}") for i in range(2)]
    first, second = proxy.choose(servers, "key", 0.0)
    first.running = proxy.MUCH_BUSIER
    assert proxy.choose(servers, "key", 0.0) == [first, second]
    first.running += 1
    assert proxy.choose(servers, "key", 0.0) == [second, first]
    first.running, first.away_until = 0, 5.0
    assert proxy.choose(servers, "key", 4.0) == [second]
    assert proxy.choose(servers, "key", 5.0) == [first, second]
    second.away_until = first.away_until = 9.0
    assert proxy.choose(servers, "key", 6.0) == [first, second], (
        "none is left out when all are away"
    )


@pytest.mark.clients
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_two_servers_behind_it(proxy: Any, tiny_model_path: Path, tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLE, "-n", "2", "--port", "0", "--"]
    command += ["-m", tiny_model_path, "-t", "1", "--parallel", "2"]
    process = subprocess.Popen(
        [*map(str, command)], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
                port = int(found[1])
                break
        else:
            pytest.fail("it did not start")

        def ask(body: Any, **headers: str) -> tuple[int, Any]:
            with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
                connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
                response = connection.getresponse()
                return response.status, response.read()

        conversation = ["Number one"]
        for turn in range(3):
            status, data = ask(chat(*conversation))
            assert status == 200
            reply = json.loads(data)
            cached = reply["usage"]["prompt_tokens_details"]["cached_tokens"]
            assert (cached > 20) == (turn > 0), "the server that has read it"
            conversation += [reply["choices"][0]["message"]["content"], "Go on"]
        status, data = ask({**chat("Number one"), "stream": True})
        assert status == 200
        assert data.endswith(b"data: [DONE]\n\n")
        assert ask({"messages": 7})[0] == 400
        assert ask(chat("a"), Host="evil.example")[0] == 403, "a name that is not the server's"
        children = [
            int(pid)
            for task in Path(f"/proc/{process.pid}/task").iterdir()
            for pid in (task / "children").read_text().split()
        ]
        os.kill(children[0], signal.SIGKILL)
        time.sleep(0.1)
        statuses = [ask(chat(f"Question {i}"))[0] for i in range(8)]
        assert statuses == [200] * 8, "the other one takes over"
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert not Path(f"/proc/{children[1]}").exists(), "a server was left behind"
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
