"""What adapters cost: decoding and reading a prompt with one of rank 16 beside all matrices, and without.

    python benchmarks/adapters.py [--model MODEL] [--rank 16] [--threads N] [--rounds 10]

Both run by turns, so that what the machine does otherwise meets both; the table has the medians of the rounds
and the median of the ratios of neighbors. What the bytes alone would cost stands above it: decoding reads all
weights once per token, and those of the adapter. Then eight requests together: none with an adapter, all
with one, and all with different ones. The adapter is random: its cost does not depend on its values. Under
3 minutes for a 1.5B on two cores. --cpu counts the processor's time instead, for a machine that others use;
take one thread then, since threads that wait for each other take time, too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from pyqwen import _native, catalog
from pyqwen.loading.adapters.base_model import BaseModel
from pyqwen.loading.adapters.open_adapter import load_adapters
from pyqwen.loading.weights import open_weights

PROMPT, TOGETHER = 512, 8


def write_adapter(folder: Path, base: BaseModel, rank: int, seed: int) -> Path:
    """A PEFT directory with random float16 values for every matrix of every layer."""
    random = np.random.default_rng(seed)
    header, parts, place = {}, [], 0
    for layer in range(base.layers):
        for inner in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                      "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"):  # fmt: skip
            matrix = base.of_checkpoint(layer, inner)
            assert matrix is not None
            for which, shape in (("A", (rank, matrix.columns)), ("B", (matrix.rows, rank))):
                data = random.normal(0, 0.005, shape).astype(np.float16).tobytes()
                name = f"base_model.model.model.layers.{layer}.{inner}.lora_{which}.weight"
                end = place + len(data)
                header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [place, end]}
                parts.append(data)
                place = end
    text = json.dumps(header).encode()
    folder.mkdir()
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(parts)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": rank}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


class Bench:
    """A session whose sequences are read and written with any adapters."""

    def __init__(self, session: _native.SessionHandle, clock: Callable[[], float]) -> None:
        self.session, self.clock = session, clock
        random = np.random.default_rng(0)
        self.tokens = [int(t) for t in random.integers(0, 30_000, PROMPT)]

    def use(self, names: list[str | None]) -> None:
        for sequence, name in enumerate(names):
            self.session.use_adapters(sequence, ((name, 1.0),) if name else None)

    def read(self) -> float:
        """Seconds of a prompt."""
        self.session.rewind(0, 0)
        start = self.clock()
        for first in range(0, PROMPT, self.session.batch):
            part = self.tokens[first : first + self.session.batch]
            self.session.eval(part, [0] * len(part), [0] * (len(part) - 1) + [1])
        return self.clock() - start

    def write(self, sequences: int, steps: int) -> float:
        """Seconds of a step in which so many sequences get one token each."""
        for sequence in range(sequences):
            self.session.rewind(sequence, 0)
        order = list(range(sequences))
        start = self.clock()
        for step in range(steps):
            self.session.eval([self.tokens[step]] * sequences, order, [1] * sequences)
        return (self.clock() - start) / steps


def by_turns(rounds: int, ways: dict[str, Callable[[], float]]) -> dict[str, tuple[float, float]]:
    """The median of each way, and of its ratios to the first one of the same round."""
    for way in ways.values():
        way()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(rounds):
        names = list(ways) if i % 2 == 0 else list(reversed(ways))
        for name in names:
            found[name].append(ways[name]())
    first = next(iter(found.values()))
    return {
        name: (
            statistics.median(times),
            statistics.median(t / f for t, f in zip(times, first, strict=True)),
        )
        for name, times in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default=catalog.DEFAULT_MODEL)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--cpu", action="store_true", help="processor time instead of wall time")
    args = parser.parse_args()
    test_models = Path("~/.cache/pyqwen-test-models").expanduser()
    own = test_models / "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
    is_default = args.model == catalog.DEFAULT_MODEL and own.is_file()
    path = own if is_default else catalog.resolve(args.model)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_weights(path, threads=args.threads) as weights,
    ):
        base = BaseModel(weights.model.config)
        one = write_adapter(Path(folder) / "one", base, args.rank, 1)
        others = {f"a{i}": one for i in range(TOGETHER)}
        adapters = load_adapters(others, weights.model, lambda: None)
        settings = weights.settings
        session = _native.SessionHandle(
            weights.model, context=1024, sequences=TOGETHER, threads=settings.threads, batch=256
        )
        session.give_adapters(adapters)
        bench = Bench(session, process_time if args.cpu else perf_counter)

        def way(names: list[str | None], run: Callable[[], float]) -> Callable[[], float]:
            def timed() -> float:
                bench.use([*names, *[None] * (TOGETHER - len(names))])
                return run()

            return timed

        size = adapters["a0"].n_bytes
        bytes_read = weights.model.weight_bytes
        tied = weights.model.config["tied"]
        if not tied:  # the rows that are looked up are not read
            lookup = weights.file.tensor("token_embd.weight").n_bytes
            bytes_read -= lookup
        print(
            f"{path.name}, {weights.model.isa}, {settings.threads} threads, rank {args.rank}: "
            f"{size / 1e6:.1f} MB beside {bytes_read / 1e6:.0f} MB of weights, "
            f"{100 * size / bytes_read:.1f} % more bytes per token\n"
        )
        print("| | without | with one | cost | each another |\n|---|--:|--:|--:|--:|")
        decode = by_turns(
            args.rounds,
            {
                "without": way([None], lambda: bench.write(1, 12)),
                "with": way(["a0"], lambda: bench.write(1, 12)),
            },
        )
        row("decoding, ms per token", decode, 1e3)
        prompt = by_turns(
            max(args.rounds // 3, 3),
            {"without": way([None], bench.read), "with": way(["a0"], bench.read)},
        )
        row(f"prompt of {PROMPT}, ms per token", prompt, 1e3 / PROMPT)
        several = by_turns(
            max(args.rounds // 2, 3),
            {
                "without": way([None] * TOGETHER, lambda: bench.write(TOGETHER, 4)),
                "with": way(["a0"] * TOGETHER, lambda: bench.write(TOGETHER, 4)),
                "others": way(list(adapters), lambda: bench.write(TOGETHER, 4)),
            },
        )
        row(f"{TOGETHER} together, ms per step", several, 1e3)


def row(what: str, found: dict[str, tuple[float, float]], unit: float) -> None:
    """One line of the table."""
    without, with_one = found["without"], found["with"]
    cost = f"{100 * (with_one[1] - 1):+.1f} %"
    other = f"{100 * (found['others'][1] - 1):+.1f} %" if "others" in found else ""
    print(
        f"| {what} | {without[0] * unit:.2f} | {with_one[0] * unit:.2f} | {cost} | {other} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
