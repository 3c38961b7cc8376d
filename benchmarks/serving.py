"""pyqwen serve beside llama.cpp's server: tokens per second of all streams, and the time to the first token.

    python benchmarks/serving.py MODEL.gguf -t 2 [--llama-server PROGRAM] [--save NAME]

PROGRAM is llama.cpp's llama-server, built for the processor that is measured on. ``--llama-python``
names a Python that has xllamacpp instead, the same in a wheel, which knows AVX2 alone. Without either pyqwen
is measured alone. Each case is so many
streams (1, 4, 16) that begin at once, each with a prompt of about 1,000 tokens: `distinct` ones, or one
that all `share`. No prompt was seen before. Servers take turns, only one runs at a time, both have room for
all streams, and neither drafts. One round takes about four minutes for a model of 0.5B on two cores, which
must have nothing else to do: llama.cpp's threads wait for each other by spinning.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import re
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

WORDS = (
    "time year people way day man thing woman life child world school state family student group "
    "country problem hand part place case week company system program question work government "
    "number night point home water room"
)
RESULTS = Path(__file__).parent / "results"


@dataclass
class Stream:
    """What one client saw: seconds to the first text and to the end, and tokens."""

    first: float
    end: float
    prompt_tokens: int
    tokens: int


@dataclass
class Case:
    server: str
    streams: int
    prompts: str
    tokens_per_second: float
    first_median: float
    first_95: float
    prompt_tokens: int
    round: int


class Server:
    """A server in a process of its own."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        start = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := re.search(r"listening on (http://\S+)", line):
                self.url = found[1].rstrip("/")
                break
        else:
            raise SystemExit(f"{name} did not start: {' '.join(command)}")
        while True:
            try:
                with urlopen(f"{self.url}/health", timeout=5) as response:
                    if response.status == 200:
                        break
            except OSError:
                time.sleep(0.005)
        self.start_seconds = time.perf_counter() - start
        # What it says later must not fill the pipe.
        self._drain = subprocess.Popen(
            [sys.executable, "-c", "import sys\nfor _ in sys.stdin: pass"],
            stdin=self._process.stdout,
        )

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._drain.terminate()
        self._drain.wait()


async def stream(url: str, prompt: str, answer: int) -> Stream:
    """One client: plain HTTP, so that the client costs as little as it can."""
    parts = urlsplit(url)
    body = json.dumps(
        {
            "prompt": prompt,
            "max_tokens": answer,
            "temperature": 0,
            "repeat_penalty": 1.0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    first, usage = 0.0, {}
    while line := await reader.readline():
        if not line.startswith(b"data: "):
            continue
        if line.startswith(b"data: [DONE]"):
            break
        event = json.loads(line[6:])
        if "error" in event:
            raise RuntimeError(str(event))
        if not first and event["choices"] and event["choices"][0].get("text"):
            first = time.perf_counter() - start
        usage = event.get("usage") or usage
    end = time.perf_counter() - start
    writer.close()
    if usage.get("completion_tokens") != answer:
        raise RuntimeError(f"{usage.get('completion_tokens')} tokens instead of {answer}")
    return Stream(first, end, usage["prompt_tokens"], usage["completion_tokens"])


def texts(streams: int, kind: str, words: int, seed: int) -> list[str]:
    source = random.Random(seed)
    made = [
        " ".join(source.choices(WORDS.split(), k=words))
        for _ in range(1 if kind == "shared" else streams)
    ]
    return made * streams if kind == "shared" else made


def measure(server: Server, streams: int, kind: str, args: argparse.Namespace, number: int) -> Case:
    prompts = texts(streams, kind, args.prompt, seed=hash((streams, kind, number)) % 2**32)

    async def together() -> list[Stream]:
        return list(
            await asyncio.gather(*(stream(server.url, text, args.answer) for text in prompts))
        )

    done = asyncio.run(together())
    firsts = sorted(one.first for one in done)
    wall = max(one.end for one in done)
    return Case(
        server=server.name,
        streams=streams,
        prompts=kind,
        tokens_per_second=sum(one.tokens for one in done) / wall,
        first_median=statistics.median(firsts),
        first_95=firsts[min(len(firsts) - 1, round(0.95 * (len(firsts) - 1)))],
        prompt_tokens=done[0].prompt_tokens,
        round=number,
    )


def commands(args: argparse.Namespace) -> dict[str, list[str]]:
    most = max(args.streams)
    context = args.prompt * 2 + args.answer + 64
    own = [sys.executable, "-m", "pyqwen", "serve", "-m", str(args.model), "-t", str(args.threads)]
    own += [
        "--port",
        "0",
        "--parallel",
        str(most),
        "-c",
        str(context),
        "--draft",
        args.draft,
        "--no-ui",
    ]
    servers = {"pyqwen": own}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    numbers = [str(number) for number in (most, context, args.threads, port)]
    if args.llama_server is not None:
        other = [str(args.llama_server), "-m", str(args.model), "--no-ui", "-np", numbers[0]]
        other += ["-c", str(most * context), "-t", numbers[2], "--port", numbers[3]]
        servers["llama.cpp"] = other
    elif args.llama_python is not None:
        worker = Path(__file__).parent / "llama_server_worker.py"
        servers["llama.cpp"] = [str(args.llama_python), str(worker), str(args.model), *numbers]
    return servers


def table(cases: list[Case], starts: dict[str, float]) -> str:
    names = list(dict.fromkeys(case.server for case in cases))
    lines = [
        f"| streams | prompts | {' | '.join(f'{n} tokens/s' for n in names)} | "
        f"{' | '.join(f'{n} first token, median (95 %)' for n in names)} |",
        "|--:|---|" + "--:|" * (2 * len(names)),
    ]
    for streams, kind in dict.fromkeys((case.streams, case.prompts) for case in cases):
        here = {
            name: [c for c in cases if (c.server, c.streams, c.prompts) == (name, streams, kind)]
            for name in names
        }
        mid = statistics.median
        rates = [f"{mid(c.tokens_per_second for c in here[name]):.1f}" for name in names]
        firsts = [
            f"{mid(c.first_median for c in here[name]):.2f} s ({mid(c.first_95 for c in here[name]):.2f})"
            for name in names
        ]
        lines.append(f"| {streams} | {kind} | {' | '.join(rates)} | {' | '.join(firsts)} |")
    lines += [
        "",
        "Start to /health: " + ", ".join(f"{n} {s:.2f} s" for n, s in starts.items()) + ".",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--llama-server", type=Path)
    parser.add_argument("--llama-python", type=Path)
    parser.add_argument(
        "--streams", type=lambda text: [int(n) for n in text.split(",")], default=[1, 4, 16]
    )
    parser.add_argument("--prompt", type=int, default=1000, help="words, of about one token each")
    parser.add_argument("--answer", type=int, default=32, help="tokens of each answer")
    parser.add_argument(
        "--kinds", type=lambda text: text.split(","), default=["distinct", "shared"]
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--draft", default="off")
    parser.add_argument("--save", metavar="NAME")
    args = parser.parse_args()
    cases: list[Case] = []
    starts: dict[str, float] = {}
    for number in range(args.rounds):
        order = list(commands(args).items())
        for name, command in order if number % 2 == 0 else reversed(order):
            server = Server(name, command)
            starts[name] = server.start_seconds
            try:
                for streams in args.streams:
                    for kind in args.kinds:
                        case = measure(server, streams, kind, args, number)
                        cases.append(case)
                        print(json.dumps(asdict(case)), file=sys.stderr, flush=True)
            finally:
                server.close()
    text = table(cases, starts)
    print(text)
    if args.save:
        # Programs and models by their names: where they lie is nobody else's business.
        command = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
        about = {"machine": platform.processor() or platform.machine(), "command": command}
        data = {**about, "starts": starts, "cases": [asdict(case) for case in cases]}
        (RESULTS / f"{args.save}.json").write_text(
            json.dumps(data, indent=1) + "\n", encoding="utf-8"
        )
        (RESULTS / f"{args.save}.md").write_text(f"# {args.save}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
