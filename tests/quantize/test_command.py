"""``pyqwen convert`` and ``quantize``: exit codes, what goes to stdout and what to stderr."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pyqwen.__main__ import main
from pyqwen.quantize import quantize


def test_convert(make_checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.gguf"
    path = make_checkpoint().write()
    assert main(["convert", str(path), str(out), "--outtype", "q8_0"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n"
    assert "Q8_0" in printed.err
    assert main(["inspect", str(out)]) == 0


def test_an_error_is_one_line(
    make_checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_checkpoint(hidden_act="gelu").write()
    assert main(["convert", str(path), str(tmp_path / "model.gguf")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("pyqwen: error: ")
    assert printed.err.count("\n") == 1


def test_wrong_type(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["convert", "in", "out.gguf", "--outtype", "q4_k"])
    assert caught.value.code == 2
    assert "q8_0" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_control_c(make_checkpoint, tmp_path: Path) -> None:
    # One tensor takes a minute to read, so that the program is certainly in the middle of its work.
    path = make_checkpoint().write()
    script = (
        "import sys, pyqwen.loading.safetensors_file as f\n"
        "read = f.StoredTensor.read_rows\n"
        "def slow(tensor, start, stop):\n"
        "    if 'model.norm' in tensor.name:\n"
        "        print('reading', flush=True)\n"
        "        for _ in range(600):\n"
        "            __import__('time').sleep(0.1)\n"
        "    return read(tensor, start, stop)\n"
        "f.StoredTensor.read_rows = slow\n"
        "from pyqwen.__main__ import main\n"
        "sys.exit(main(['convert', *sys.argv[1:]]))\n"
    )
    command = [sys.executable, "-c", script, str(path), str(tmp_path / "model.gguf")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"reading\n"
        assert (tmp_path / "model.gguf.partial").exists()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


# ---------------------------------------------------------------------------------------------- quantize


def test_quantize(make_checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report, plot = (tmp_path / name for name in ("m.gguf", "r.json", "p.svg"))
    path = make_checkpoint(hidden=256, ffn=288).write()
    command = ["quantize", str(path), str(out), "q4_k_m", "2", "--tensor-type", "attn_q=q8_0"]
    assert main([*command, "--report", str(report), "--plot", str(plot)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n"
    assert "* 1 tensor is Q8_0: rows of 288" in printed.err
    assert f"{out.stat().st_size:,} bytes" in printed.err
    facts = json.loads(report.read_text())
    assert facts["file_bytes"] == out.stat().st_size
    rows = {line.split()[0]: line for line in printed.err.splitlines() if line}
    vectors = [tensor for tensor in facts["tensors"] if len(tensor["shape"]) == 1]
    assert f"unchanged: {len(vectors)} tensors in F32, " in printed.err
    assert not any(tensor["name"] in printed.err for tensor in vectors)
    for tensor in facts["tensors"]:
        if tensor in vectors:
            continue
        row = rows[tensor["name"]]
        assert tensor["type"] in row
        assert (tensor["rms_error"] is None) or f"{100 * tensor['rms_error']:.3f} %" in row
    assert plot.read_text().startswith("<svg")
    assert main(["inspect", str(out)]) == 0


def test_quantize_dry_run(
    make_checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = make_checkpoint().write(), tmp_path / "m.gguf"
    assert main(["quantize", str(path), str(out), "--dry-run", "--pure", "Q4_0"]) == 0
    printed = capsys.readouterr()
    assert "blk.1.ffn_down.weight" in printed.out
    assert printed.err == ""
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Q4_K_XL"], "unknown type 'Q4_K_XL'"),
        (["Q4_0", "--tensor-type", "ffn_up"], "RE=TYPE"),
        (["Q4_0", "--tensor-type", "ffn_up=q9"], "unknown tensor type 'q9'"),
        (["Q4_0", "--tensor-type", "ffn[=q8_0"], "regular expression"),
        (["Q4_0", "0"], "argument THREADS"),
        (["Q4_0", "--include-weights", "a", "--exclude-weights", "b"], "not allowed with"),
        (["Q4_0", "--report", "OUT"], "is the output"),
        (["Q4_0", "--plot", "p.png"], "ends in .svg"),
        (["Q4_0", "--report", "f", "--plot", "f"], "is the file of --report"),
        (["Q4_0", "--report", "f.svg", "--plot", "./x/../f.svg"], "is the file of --report"),
    ],
)
def test_quantize_wrong_usage(
    make_checkpoint,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    path, out = make_checkpoint().write(), tmp_path / "m.gguf"
    command = ["quantize", str(path), str(out), *(str(out) if w == "OUT" else w for w in words)]
    try:
        code = main(command)
    except SystemExit as caught:
        code = int(str(caught.code))
    assert code == 2
    assert message in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


def test_the_report_may_not_replace_the_model(make_checkpoint, tmp_path: Path) -> None:
    path = make_checkpoint().write()
    command = ["quantize", str(path), str(tmp_path / "m.gguf"), "Q4_0", "--report"]
    assert main([*command, str(path / "config.json")]) == 1
    assert main([*command, str(tmp_path / "missing" / "r.json")]) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


def test_texts_are_not_replaced(make_checkpoint, tmp_path: Path) -> None:
    path, text = make_checkpoint().write(), tmp_path / "text.txt"
    text.write_text("the text")
    (tmp_path / "same.txt").hardlink_to(text)
    for out in ("text.txt", "same.txt"):
        command = ["quantize", str(path), str(tmp_path / out), "Q4_0", "--calibration", str(text)]
        assert main(command) == 1
        command = ["imatrix", str(tmp_path / "m.gguf"), "-f", str(text), "-o", str(tmp_path / out)]
        assert main(command) == 1
        assert text.read_text() == "the text"


@pytest.mark.parametrize("words", [["--gptq", "--awq"], ["--error-feedback", "--channel-scales"]])
def test_methods_have_two_names(
    make_checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    path, out, text = make_checkpoint().write(), tmp_path / "m.gguf", tmp_path / "text.txt"
    text.write_text("the theory " * 300)
    command = ["quantize", str(path), str(out), "Q4_0", "--calibration", str(text)]
    assert main([*command, *words]) == 0
    assert "GPTQ and AWQ" in capsys.readouterr().err
    assert main([*command, *words, words[0].replace("--", "--no-")]) == 0
    assert "tokens: AWQ" in capsys.readouterr().err


def test_the_report_is_documented(make_checkpoint, tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "use" / "quantizing.md"
    section = page.read_text(encoding="utf-8").split("## The report")[1].split("\n## ")[0]
    report = quantize(make_checkpoint().write(), None, "Q4_K_M", dry_run=True).to_dict()
    described = set(re.findall(r"`(\w+)`", section.split("`--report F.json`")[1]))
    tensor_keys = report["tensors"][0].keys() | {"error", "row", "column"}
    type_keys = next(iter(report["types"].values())).keys()
    assert report.keys() | tensor_keys | type_keys <= described
