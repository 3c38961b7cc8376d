"""Numbers into medians, ratios and a table: see compare.py."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import Any

from limits import Demand, Reading
from peers import Test

GB = 1e9


def spread(values: list[float]) -> dict[str, Any]:
    """Median, smallest and largest, and the values themselves."""
    return {"median": median(values), "min": min(values), "max": max(values), "values": values}


def summarize(
    test: Test,
    samples: dict[str, list[float]],
    readings: dict[str, list[Reading]],
    demand: Demand,
) -> dict[str, Any]:
    """One test's row. The ratio is that of each round to llama.cpp's variant with the better median."""
    variants = {name: values for name, values in samples.items() if name != "pyqwen"}
    best = max(variants, key=lambda name: median(variants[name]), default=None)
    row: dict[str, Any] = {
        "test": test.name,
        "n_prompt": test.n_prompt,
        "n_gen": test.n_gen,
        "n_depth": test.n_depth,
        "best_llama": best,
        "ts": {name: spread(values) for name, values in samples.items()},
        "readings": {name: [asdict(r) for r in values] for name, values in readings.items()},
    }
    if best:
        pairs = zip(samples["pyqwen"], samples[best], strict=True)
        row["ratio"] = spread([ours / theirs for ours, theirs in pairs])
    shares: dict[str, dict[str, list[float]]] = {}
    for name in ("pyqwen", best):
        for i, speed in enumerate(samples[name] if name else []):
            around = readings[str(name)][2 * i : 2 * i + 2]
            for share, value in demand.shares(test, speed, around).items():
                shares.setdefault(share, {}).setdefault(str(name), []).append(value)
    for share, by_name in shares.items():
        row[share] = {name: spread(values) for name, values in by_name.items()}
    return row


def markdown(result: dict[str, Any]) -> str:
    """The report of a run, for people."""
    machine = result["machine"]
    quota = f", quota {machine['cpu_quota']:.2g}" if machine["cpu_quota"] else ""
    lines = [
        f"# {machine['cpu']}, {result['threads']} threads, {result['date']}",
        "",
        f"    {result['command']}",
        "",
        f"pyqwen {result['pyqwen']} ({result['commit']}); {machine['logical_cores']} logical cores"
        f"{quota}, {machine['memory_bytes'] / 2**30:.0f} GiB. Tokens per second; median of "
        f"{result['rounds']} rounds (smallest to largest).",
    ]
    for entry in result["models"]:
        lines += ["", f"## {entry['model']}", ""]
        for kind, lines_of in _SECTIONS.items():
            if kind in entry:
                lines += [*lines_of(entry), ""]
        del lines[-1]
    return "\n".join(lines) + "\n"


def _tests(entry: dict[str, Any]) -> list[str]:
    llama = entry["llama"]
    lines = [
        f"pyqwen: {entry['isa']}. llama.cpp: {llama.get('build', 'did not run')}, "
        f"repacked weights {'on' if llama['repack'] else 'OFF'}; {llama.get('system', '')}",
        "",
    ]
    for note in llama["notes"]:
        first = note.splitlines()
        lines += [f"- {first[0]}" + (f" ({first[-1]})" if len(first) > 1 else "")]
    if llama["notes"]:
        lines += [""]
    lines += [
        "| test | pyqwen | llama.cpp | -fa | ratio | of the bandwidth, GB/s | of the int8 ceiling |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in entry["tests"]:
        best = row["best_llama"]
        cells = [
            row["test"],
            _coarse(row["ts"]["pyqwen"]),
            _coarse(row["ts"][best]) if best else "did not run",
            best[-1] if best else "",
            _fine(row["ratio"]) if best else "",
            _share(row, "bandwidth_share", "bandwidth", GB, "of {:.1f}"),
            _share(row, "int8_share", "int8", GB, "of {:.0f} GMAC/s"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _share(row: dict[str, Any], share: str, limit: str, unit: float, template: str) -> str:
    """pyqwen's share, then llama.cpp's, of the limit as it was around pyqwen's runs."""
    if share not in row:
        return ""
    shares = [f"{found['median']:.0%}" for found in row[share].values()]
    readings = [reading[limit] for reading in row["readings"]["pyqwen"]]
    return f"{' : '.join(shares)} " + template.format(median(readings) / unit)


def _together(entry: dict[str, Any]) -> list[str]:
    case = entry["together"]
    lines = ["| sequences together | tokens/s of all | ratio to one |", "|--:|--:|--:|"]
    for count, speeds in case["ts"].items():
        ratio = _fine(case["ratio"][count]) if count in case["ratio"] else "1"
        lines.append(f"| {count} | {_coarse(speeds)} | {ratio} |")
    return lines


def _streaming(entry: dict[str, Any]) -> list[str]:
    case = entry["streaming"]
    return [
        f"Streaming {case['tokens']} tokens: {_coarse(case['stream_ts'])} by `Model.stream`, "
        f"{_coarse(case['bench_ts'])} by the bench: ratio {case['ratio']['median']:.3f} "
        f"({case['ratio']['min']:.3f} to {case['ratio']['max']:.3f})."
    ]


def _first_token(entry: dict[str, Any]) -> list[str]:
    case = entry["first_token"]
    lines = [
        "| start | s to the first token | of which loading | peak resident, MB | beyond file and cache |",
        "|---|--:|--:|--:|--:|",
    ]
    for kind in ("packing", "cached"):
        if kind not in case:
            continue
        found = case[kind]
        peak = found.get("peak_bytes", {}).get("median")
        extra = peak - case["file_bytes"] - found["kv_bytes"]["median"] if peak else None
        lines.append(
            f"| {kind} | {_fine(found['seconds'])} | {_fine(found['loading_seconds'])} | "
            f"{f'{peak / 1e6:.0f}' if peak else ''} | {f'{extra / 1e6:.0f}' if peak else ''} |"
        )
    return lines


_SECTIONS = {
    "tests": _tests,
    "together": _together,
    "streaming": _streaming,
    "first_token": _first_token,
}


def _coarse(found: dict[str, Any]) -> str:
    return f"{found['median']:.1f} ({found['min']:.1f} to {found['max']:.1f})"


def _fine(found: dict[str, Any]) -> str:
    return f"{found['median']:.2f} ({found['min']:.2f} to {found['max']:.2f})"
