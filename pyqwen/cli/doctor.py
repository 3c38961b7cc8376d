"""``pyqwen doctor``: what pyqwen finds on this machine, and what is wrong."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from pyqwen.cli.console import counted, print_json
from pyqwen.cli.options import Verbs, add_json_option, add_verb
from pyqwen.units import format_bytes

if TYPE_CHECKING:
    from pyqwen.measuring.doctor import Report


def add_parser(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "doctor",
        run,
        summary="examine this machine: processor, memory, libraries, settings, problems",
        examples=("pyqwen doctor", "pyqwen doctor --json > report.json"),
    )
    add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    from pyqwen.measuring.doctor import examine

    report = examine()
    if args.json:
        print_json(asdict(report))
        return 0
    for name, value in _lines(report):
        print(f"{name:<14}{value}")
    print()
    for problem in report.problems:
        print(f"problem: {problem}")
    if not report.problems:
        print("nothing is wrong")
    return 0


def _lines(report: Report) -> list[tuple[str, str]]:
    machine, cache = report.machine, report.cache
    quota = f", quota {machine['cpu_quota']:.2f}" if machine["cpu_quota"] else ""
    available = ", ".join(name for name, here in report.isas.items() if here)
    libraries = [f"{name} {version or 'missing'}" for name, version in report.versions.items()]
    products = report.int8_products
    settings = [f"{name}={value}" for name, value in report.environment.items()]
    return [
        ("processor", machine["cpu"] or "unknown"),
        ("system", report.platform),
        ("instructions", f"{report.isa} (available: {available})"),
        ("kernels", report.kernels),
        (
            "products",
            f"{products / 1e9:.0f} billion of int8 per second"
            if products
            else f"{report.isa} has no instruction for them",
        ),
        (
            "cores",
            f"{machine['performance_cores']} fast ones of {machine['logical_cores']}{quota}; "
            f"{counted(report.threads, 'thread')} will be used",
        ),
        (
            "memory",
            f"{format_bytes(machine['available_bytes'])} available of "
            f"{format_bytes(machine['memory_bytes'])}, read at {report.bandwidth / 1e9:.1f} GB/s",
        ),
        (
            "cache",
            f"{cache['path']}, {format_bytes(cache['free_bytes'])} free; "
            f"{counted(cache['models'], 'model')} in all caches, {format_bytes(cache['model_bytes'])}",
        ),
        ("versions", ", ".join(libraries)),
        ("environment", ", ".join(settings) or "nothing set"),
    ]
