"""llama.cpp's server, from xllamacpp, for serving.py: arguments are MODEL STREAMS CONTEXT THREADS PORT, and
"mean" or "last" for embedding.py, the pooling.

Run by a Python that has xllamacpp. Says where it listens and serves until standard input ends.
"""

from __future__ import annotations

import sys

import xllamacpp


def main() -> None:
    model, streams, context, threads = sys.argv[1], *map(int, sys.argv[2:5])
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_parallel = streams
    params.n_ctx = streams * context
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.hostnames = ["127.0.0.1"]
    params.port = int(sys.argv[5])
    params.warmup = False
    if len(sys.argv) > 6:
        params.embedding = True
        kind = f"LLAMA_POOLING_TYPE_{sys.argv[6].upper()}"
        params.pooling_type = getattr(xllamacpp.llama_pooling_type, kind)
    server = xllamacpp.Server(params)
    print(f"listening on {server.listening_address}", flush=True)
    sys.stdin.read()
    del server


if __name__ == "__main__":
    main()
