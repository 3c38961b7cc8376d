"""A process that runs llama.cpp through llama-cpp-python's low-level bindings: see compare.py.

It needs nothing but llama-cpp-python, so that it can run in an environment of its own. Each line
on standard input is a request in JSON, each line on standard output its answer. Tests are those of
llama-bench: the same batch sizes, random tokens, one warm-up, the state at a depth kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from importlib.metadata import version
from typing import Any

import llama_cpp

BATCH, MICRO_BATCH = 2048, 512  # llama-bench's defaults

Test = tuple[int, int, int]  # n_prompt, n_gen, n_depth


class Failed(Exception):
    """llama.cpp refused to do something."""


class Context:
    """One context, whose sequence 0 always begins with the same random tokens."""

    def __init__(self, model: Any, length: int, threads: int, flash: bool) -> None:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = length, BATCH, MICRO_BATCH
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = int(flash)
        self.pointer = llama_cpp.llama_init_from_model(model, params)
        if not self.pointer:
            raise Failed(f"llama.cpp made no context of {length:,} tokens")
        self._memory = llama_cpp.llama_get_memory(self.pointer)
        self._vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self._random = random.Random(1)
        self._length = 0
        self._prepared: Test | None = None

    def time(self, test: Test) -> int:
        """Nanoseconds of one repetition; the first of a test is warmed up."""
        prompt, generation, depth = test
        if self._prepared != test:
            self._go_to(depth)
            self._run(prompt, min(generation, 1))
            self._go_to(depth)
            self._prepared = test
        start = time.perf_counter_ns()
        self._run(prompt, generation)
        elapsed = time.perf_counter_ns() - start
        self._go_to(depth)
        return elapsed

    def _go_to(self, depth: int) -> None:
        if self._length > depth:
            llama_cpp.llama_memory_seq_rm(self._memory, 0, depth, -1)
            self._length = depth
        self._run(depth - self._length, 0)

    def _run(self, prompt: int, generation: int) -> None:
        sizes = [min(BATCH, prompt - begin) for begin in range(0, prompt, BATCH)]
        for size in [*sizes, *[1] * generation]:
            tokens = (llama_cpp.llama_token * size)(
                *(self._random.randrange(self._vocab) for _ in range(size))
            )
            batch = llama_cpp.llama_batch_get_one(tokens, size)
            if llama_cpp.llama_decode(self.pointer, batch) != 0:
                raise Failed("llama_decode failed")
            llama_cpp.llama_synchronize(self.pointer)
            self._length += size


def load(path: str, repack: bool) -> Any:
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    params.use_extra_bufts = repack
    model = llama_cpp.llama_model_load_from_file(path.encode(), params)
    if not model:
        raise Failed(f"llama.cpp could not load {path}")
    return model


def serve(args: argparse.Namespace, answers: Any) -> None:
    llama_cpp.llama_backend_init()
    model = load(args.model, args.repack)
    contexts: dict[bool, Context] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if request["op"] == "describe":
            answer: dict[str, Any] = {
                "build": f"llama-cpp-python {version('llama-cpp-python')}",
                "system": llama_cpp.llama_print_system_info().decode().strip(),
            }
        else:
            flash = request["flash"]
            if flash not in contexts:
                contexts[flash] = Context(model, args.context, args.threads, flash)
            test = (request["n_prompt"], request["n_gen"], request["n_depth"])
            answer = {"ns": contexts[flash].time(test)}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, required=True, help="tokens, all tests' at most")
    parser.add_argument("--repack", type=int, choices=(0, 1), default=1)
    args = parser.parse_args()
    # The library may print: answers go where it does not write.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        serve(args, answers)


if __name__ == "__main__":
    main()
