"""``pyqwen serve`` as a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running_program(model: Path, *arguments: str, **environment: str) -> Iterator[str]:
    """The address of a server of one model, which ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pyqwen", "serve", "-m", str(model), "--port", "0", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stderr is not None
    said = ""
    try:
        for line in process.stderr:
            said += line
            if found := re.search(r"listening on (http://\S+)", line):
                yield found[1]
                break
        else:
            raise RuntimeError(said)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
