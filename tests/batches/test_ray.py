"""Batches on a Ray cluster of this machine: actors and hosts that are killed, and hosts that come."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_rows import answers, row, text

import pyqwen
from pyqwen import Model

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("default"),
    pytest.mark.timeout(900),
]

Write = Callable[..., Path]
SOON = {  # a host that is silent for so long is gone
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
}


@pytest.fixture
def cluster(unavailable: Callable[[str], None]) -> Iterator[Any]:
    """A cluster of a head that computes nothing and two hosts with a processor each."""
    if importlib.util.find_spec("ray") is None:
        unavailable("ray (pip install 'pyqwen[ray]')")
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": SOON})
    try:
        cluster.add_node(num_cpus=1)
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def actors() -> list[int]:
    """The processes of actors that descend from this one."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text(errors="replace")
            names[int(folder.name)] = (folder / "cmdline").read_text(errors="replace")
        except OSError:
            continue
        parents[int(folder.name)] = int(status.rpartition(")")[2].split()[1])

    def is_mine(pid: int) -> bool:
        while pid in parents:
            if pid == os.getpid():
                return True
            pid = parents[pid]
        return False

    return [pid for pid, name in names.items() if name.startswith("ray::Engine") and is_mine(pid)]


def test_actors_and_hosts_that_go_and_come(
    cluster: Any,
    tiny_model_path: Path,
    write: Write,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An actor is killed, then a host, then one comes: nothing is lost, nothing is there twice."""
    n = 300
    source = write([row(str(i), f"Number {i}", max_tokens=40, ignore_eos=True) for i in range(n)])
    hosts = list(cluster.worker_nodes)
    events: list[str] = []

    def joined() -> list[str]:
        return [str(r.args[0]) for r in caplog.records if "joined" in r.msg and r.args]  # type: ignore[index]

    def disturb(done: int, total: int) -> None:
        if not events and done > n * 0.05 and len(joined()) == 2:
            os.kill(actors()[0], signal.SIGKILL)
            events.append("actor killed")
        elif len(events) == 1 and len(joined()) == 3:
            cluster.remove_node(hosts[0], allow_graceful=False)
            events.append("host killed")
        elif len(events) == 2 and "lost" in caplog.records[-1].msg:
            cluster.add_node(num_cpus=1)
            events.append("host added")
        if len(joined()) < 4:  # so that rows are left for those that come
            time.sleep(2.0 if done > n * 0.2 * (1 + len(events)) else 0.05)

    with caplog.at_level(logging.INFO, "pyqwen.batch"):
        result = pyqwen.batch(
            source,
            tmp_path / "out",
            tiny_model_path,
            parallel=4,
            ray_address=cluster.address,
            progress=disturb,
        )
    assert events == ["actor killed", "host killed", "host added"]
    assert result.failed == 0
    assert result.lost_workers == 2
    assert len(joined()) == len(set(joined())) == 4
    found = answers(tmp_path / "out")
    assert found.keys() == {str(i) for i in range(n)}
    with Model(tiny_model_path, threads=1) as model:
        for i in (0, 111, n - 1):
            alone = model.chat(f"Number {i}", temperature=0, max_tokens=40, ignore_eos=True)
            assert text(found[str(i)]) == alone.text
    print(f"{n} rows, {', '.join(events)}; engines: {len(joined())} joined, 2 lost; each row once")


def test_a_model_that_no_host_has(cluster: Any, write: Write, tmp_path: Path) -> None:
    source = write([row("a")])
    with pytest.raises(pyqwen.ModelNotFoundError, match="nowhere"):
        pyqwen.batch(
            source, tmp_path / "out", tmp_path / "nowhere.gguf", ray_address=cluster.address
        )


def test_a_cluster_that_is_not_there(
    unavailable: Callable[[str], None], tiny_model_path: Path, write: Write, tmp_path: Path
) -> None:
    if importlib.util.find_spec("ray") is None:
        unavailable("ray (pip install 'pyqwen[ray]')")
    source, out = write([row("a")]), tmp_path / "out"
    for address in ("127.0.0.1:1", "localhost:99999", "[::1]:1", "nowhere at all"):
        with pytest.raises(pyqwen.PyQwenError, match="Ray cluster"):
            pyqwen.batch(source, out, tiny_model_path, ray_address=address)
