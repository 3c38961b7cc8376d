"""Embeddings per second: pyqwen serve beside llama.cpp's server, on one file, for texts of about 128 tokens.

    python benchmarks/embedding.py MODEL.gguf -t 2 [--llama-server PROGRAM]

PROGRAM is llama.cpp's llama-server; see serving.py, also for --llama-python. Both servers
are up at once, and take turns: one request of `--texts` texts to /v1/embeddings each, no text twice. The
first request to each is not counted. The vectors of the two are compared, so that both do the same work. A
file of the geometry of Qwen3-Embedding-0.6B takes about two minutes on two cores, which must have nothing
else to do.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import random
import socket
import statistics
import sys
import time
from array import array
from pathlib import Path
from urllib.request import Request, urlopen

sys.path.insert(0, str(Path(__file__).parent))
from serving import WORDS, Server

import pyqwen

CONTEXT = 512  # of a text


def texts(count: int, words: int, seed: int) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS.split(), k=words)) for _ in range(count)]


def embed(server: Server, inputs: list[str]) -> tuple[float, int, list[array[float]]]:
    """Seconds, tokens and vectors of one request."""
    body = json.dumps({"input": inputs, "encoding_format": "base64"}).encode()
    request = Request(
        f"{server.url}/v1/embeddings", body, {"Content-Type": "application/json"}, method="POST"
    )
    begun = time.perf_counter()
    with urlopen(request, timeout=600) as response:
        answer = json.load(response)
    seconds = time.perf_counter() - begun
    rows = sorted(answer["data"], key=lambda row: row["index"])
    vectors = [array("f", base64.b64decode(row["embedding"])) for row in rows]
    return seconds, answer["usage"]["prompt_tokens"], vectors


def cosine(a: array[float], b: array[float]) -> float:
    def length(x: array[float]) -> float:
        return math.sqrt(sum(v * v for v in x))

    return sum(x * y for x, y in zip(a, b, strict=True)) / (length(a) * length(b))


def commands(args: argparse.Namespace, pooling: str) -> dict[str, list[str]]:
    own = [sys.executable, "-m", "pyqwen", "serve", "-m", str(args.model), "-t", str(args.threads)]
    own += ["--port", "0", "-c", str(CONTEXT), "--no-ui", "--draft", "off"]
    servers = {"pyqwen": own}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    numbers = [str(number) for number in (args.parallel, CONTEXT, args.threads, port)]
    if args.llama_server is not None:
        other = [str(args.llama_server), "-m", str(args.model), "--no-ui", "-np", numbers[0]]
        other += ["-c", str(args.parallel * CONTEXT), "-t", numbers[2], "--port", numbers[3]]
        servers["llama.cpp"] = [*other, "--embedding", "--pooling", pooling]
    elif args.llama_python is not None:
        worker = Path(__file__).parent / "llama_server_worker.py"
        servers["llama.cpp"] = [str(args.llama_python), str(worker), str(args.model)]
        servers["llama.cpp"] += [*numbers, pooling]
    return servers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--llama-server", type=Path)
    parser.add_argument("--llama-python", type=Path)
    parser.add_argument("--texts", type=int, default=24, help="texts of one request")
    parser.add_argument("--words", type=int, default=127, help="words of a text, of one token each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parallel", type=int, default=4, help="texts llama.cpp runs together")
    args = parser.parse_args()
    facts = pyqwen.inspect(args.model)
    architecture = facts.metadata["general.architecture"]
    pooling = "last" if facts.metadata.get(f"{architecture}.pooling_type") == 3 else "mean"
    servers = {name: Server(name, command) for name, command in commands(args, pooling).items()}
    rates: dict[str, list[float]] = {name: [] for name in servers}
    tokens, worst = 0, 1.0
    try:
        for server in servers.values():
            embed(server, texts(4, args.words, -1))
        for number in range(args.rounds):
            inputs = texts(args.texts, args.words, number)
            order = list(servers.items())
            found = {}
            for name, server in order if number % 2 == 0 else reversed(order):
                seconds, tokens, found[name] = embed(server, inputs)
                rates[name].append(args.texts / seconds)
                print(f"{name}: {args.texts / seconds:.2f} texts/s", file=sys.stderr, flush=True)
            if len(found) == 2:
                worst = min(worst, *map(cosine, found["pyqwen"], found["llama.cpp"]))
    finally:
        for server in servers.values():
            server.close()
    each = tokens / args.texts
    print(
        f"{args.model.name}, {pooling} pooling, {args.texts} texts of {each:.0f} tokens a request\n"
    )
    print("| | texts/s, median | lowest | highest | tokens/s |")
    print("|---|--:|--:|--:|--:|")
    for name, found_rates in rates.items():
        mid = statistics.median(found_rates)
        low, high = min(found_rates), max(found_rates)
        print(f"| {name} | {mid:.2f} | {low:.2f} | {high:.2f} | {mid * each:.0f} |")
    if len(rates) == 2:
        ratios = [a / b for a, b in zip(*rates.values(), strict=True)]
        print(
            f"\nRatio: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}).",
            end=" ",
        )
        print(f"Least cosine of their vectors: {worst:.5f}.")


if __name__ == "__main__":
    main()
