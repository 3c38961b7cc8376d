"""A process that runs llama.cpp by xllamacpp, with one way to draft: see speculation.py.

The job is the argument, in JSON; the last line of standard output is its rows.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import xllamacpp

SMALL_N = 6  # tokens to agree: llama.cpp's 12 find little in answers this short


def open_server(job: dict[str, Any]) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = job["model"]
    params.n_ctx = 4096
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = job["threads"] or 2
    params.n_gpu_layers = 0
    params.warmup = True
    params.cache_prompt = False
    way = job["way"]
    if way != "none":
        kind = xllamacpp.common_speculative_type
        name = "DRAFT_SIMPLE" if way == "draft" else way.upper()
        params.speculative.types = [getattr(kind, f"COMMON_SPECULATIVE_TYPE_{name}")]
    if way == "draft":
        params.speculative.draft.mparams.path = job["draft"]
        params.speculative.draft.cpuparams.n_threads = job["threads"] or 2
    for ngram in ("ngram_simple", "ngram_map_k", "ngram_map_k4v"):
        if way == ngram:
            getattr(params.speculative, ngram).size_n = SMALL_N
            getattr(params.speculative, ngram).size_m = 16
    if way == "ngram_mod":
        params.speculative.ngram_mod.n_match = SMALL_N
        params.speculative.ngram_mod.n_min = 2
        params.speculative.ngram_mod.n_max = 16
    return xllamacpp.Server(params)


def main() -> None:
    job = json.loads(sys.argv[1])
    server = open_server(job)
    rows = []
    for case, temperature, prompt in [["warm-up", 0, "Count from 1 to 20."], *job["prompts"]]:
        done = server.handle_chat_completions(
            {
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": job["tokens"],
                "temperature": temperature,
                "seed": 1,
                "cache_prompt": False,
            }
        )
        timings = done["timings"]
        rows.append(
            {
                "case": case,
                "temperature": temperature,
                "way": job["way"],
                "tokens": timings["predicted_n"],
                "rate": timings["predicted_per_second"],
                "drafted": timings.get("draft_n", 0),
                "accepted": timings.get("draft_n_accepted", 0),
            }
        )
    print()
    print(json.dumps(rows[1:]))


if __name__ == "__main__":
    main()
