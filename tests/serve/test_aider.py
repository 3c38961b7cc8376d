"""aider, an editor's assistant in the terminal, against the real program.

It pins versions that nothing else can live with, so it has an environment of its own: it is found on the
PATH, or under the path that PYQWEN_AIDER names.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from program import running_program

pytestmark = pytest.mark.clients


def test_aider_asks_and_shows_the_answer(
    smollm_path: Path, tmp_path: Path, unavailable: Any
) -> None:
    aider = os.environ.get("PYQWEN_AIDER") or shutil.which("aider")
    if not aider:
        unavailable("aider is not on the PATH (pip install aider-chat, in its own environment)")
    (tmp_path / "add.py").write_text("def add(a, b):\n    return a - b\n", "utf-8")
    with running_program(smollm_path, "--alias", "small", "-c", "8192") as url:
        result = subprocess.run(
            [
                aider,
                *("--model", "openai/small", "--openai-api-base", f"{url}/v1"),
                *("--openai-api-key", "none", "--chat-mode", "ask", "--message"),
                "What does add.py do? Answer in one sentence.",
                *("--no-git", "--yes-always", "--no-check-update", "--analytics-disable"),
                *("--no-show-model-warnings", "--no-pretty", "--no-stream", "add.py"),
            ],
            cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path), "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert result.returncode == 0, result.stderr
    tokens = re.search(r"Tokens: ([\d.k,]+) sent, ([\d.k,]+) received", result.stdout)
    assert tokens, result.stdout
    assert float(tokens[2].rstrip("k").replace(",", "")) > 0
