"""The real program on a real socket: its start, its end, slow and broken clients."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

LONG = {"messages": [{"role": "user", "content": "Go on."}], "max_tokens": 400, "ignore_eos": True}


class Program:
    """``pyqwen serve`` in a process of its own."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "pyqwen", "serve", "--port", "0", "-t", "1", *arguments]
        environment = {**os.environ, **(env or {})}
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stderr is not None
        self.port = 0
        self.said = ""
        for line in self.process.stderr:
            self.said += line
            if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                return

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        data = None if body is None else json.dumps(body)
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            return response.status, response.read()

    def wait(self, seconds: float = 15) -> int:
        code = self.process.wait(seconds)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code


@pytest.fixture(scope="module")
def long_path(make_tiny_model: Any) -> Path:
    path: Path = make_tiny_model(context=16_384, hidden=256, ffn=1024, layers=6)
    return path


@pytest.fixture
def program(long_path: Path) -> Iterator[Program]:
    program = Program("-m", str(long_path), "--alias", "gpt-4o")
    yield program
    if program.process.poll() is None:
        program.process.kill()
        program.wait()


def test_serving_and_ending(program: Program) -> None:
    assert program.port, program.said
    assert program.ask("GET", "/health") == (200, b'{"status":"ok"}')
    status, body = program.ask(
        "POST", "/v1/chat/completions", {**LONG, "model": "gpt-4o", "max_tokens": 5}
    )
    assert status == 200
    assert json.loads(body)["usage"]["completion_tokens"] == 5
    assert program.ask("GET", "/v1/models", Host="evil.example")[0] == 403
    program.process.send_signal(signal.SIGTERM)
    assert program.wait() == 0


def test_a_signal_lets_answers_finish(program: Program) -> None:
    answers: list[tuple[int, bytes]] = []
    ask = threading.Thread(
        target=lambda: answers.append(program.ask("POST", "/v1/chat/completions", LONG))
    )
    ask.start()
    time.sleep(0.5)
    program.process.send_signal(signal.SIGTERM)
    ask.join()
    ((status, body),) = answers
    assert status == 200
    assert json.loads(body)["usage"]["completion_tokens"] == 400
    assert program.wait() == 0


def test_a_second_signal_does_not_wait(program: Program) -> None:
    endless = {**LONG, "max_tokens": 16_000, "stream": True}
    connection = HTTPConnection("127.0.0.1", program.port, timeout=30)
    connection.request("POST", "/v1/chat/completions", json.dumps(endless))
    response = connection.getresponse()
    assert response.readline()
    program.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert program.process.poll() is None, "it did not wait for the answer"
    program.process.send_signal(signal.SIGTERM)
    start = time.monotonic()
    assert program.wait() == 143
    assert time.monotonic() - start < 5
    response.close()
    connection.close()


def test_an_interrupt_ends_it_as_shells_expect(program: Program) -> None:
    program.process.send_signal(signal.SIGINT)
    assert program.wait() == -signal.SIGINT


@pytest.mark.parametrize(
    "data",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40_000,
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n{",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 5,  # TLS
        b"",
    ],
    ids=["nonsense", "no host", "headers", "length", "negative", "chunks", "tls", "nothing"],
)
def test_broken_requests_hurt_nobody(shared: Program, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", shared.port), timeout=20) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        answer = sock.recv(65536)
    assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200"))
    assert shared.ask("GET", "/health")[0] == 200


@pytest.fixture(scope="module")
def shared(long_path: Path) -> Iterator[Program]:
    program = Program("-m", str(long_path))
    yield program
    program.process.kill()
    program.wait()


def test_a_client_that_hangs_up_frees_its_place(shared: Program) -> None:
    sockets = []
    for stream in (True, False) * 3:
        body = json.dumps({**LONG, "max_tokens": 16_000, "stream": stream}).encode()
        sock = socket.create_connection(("127.0.0.1", shared.port))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: a.localhost\r\nContent-Length: {len(body)}"
        sock.sendall(head.encode() + b"\r\n\r\n" + body)
        sockets.append(sock)
    time.sleep(0.5)
    assert any(slot["is_processing"] for slot in json.loads(shared.ask("GET", "/slots")[1]))
    for sock in sockets:
        sock.close()
    deadline = time.monotonic() + 2
    while any(slot["is_processing"] for slot in json.loads(shared.ask("GET", "/slots")[1])):
        assert time.monotonic() < deadline, "places are still taken"
        time.sleep(0.01)


def refused(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pyqwen", "serve", *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "PYQWEN_API_KEY"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment
    )


def test_an_open_address_needs_a_key(long_path: Path) -> None:
    done = refused("-m", str(long_path), "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2
    assert "--allow-open" in done.stderr


def test_a_port_that_is_taken(long_path: Path, shared: Program) -> None:
    done = refused("-m", str(long_path), "--port", str(shared.port))
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{shared.port}" in done.stderr


def test_a_model_that_cannot_be_opened(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(100))
    done = refused("-m", str(bad), "--port", "0")
    assert done.returncode == 1
    assert "bad.gguf" in done.stderr
    assert "listening" not in done.stderr


def test_a_key_from_the_environment(long_path: Path) -> None:
    program = Program("-m", str(long_path), env={"PYQWEN_API_KEY": "secret"})
    try:
        assert program.ask("GET", "/v1/models")[0] == 401
        assert program.ask("GET", "/v1/models", Authorization="Bearer secret")[0] == 200
    finally:
        program.process.kill()
        program.wait()
