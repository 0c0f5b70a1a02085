"""Whatever is killed while an index is built, the index that comes of it is that of a calm build."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from ray.cluster_utils import Cluster

from cluster.storage import LocalStore
from retrieval.manifest import Index, complete_indexes
from tests.tiny_encoder import save_tiny_encoder

ROOT = Path(__file__).parents[2]
FILES, ROWS = 6, 150


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of six files, every tenth document twice, and an encoder."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "corpus").mkdir()
    words = [f"word{number}" for number in range(400)]
    rng = random.Random(0)
    for file in range(FILES):
        texts = [" ".join(rng.choices(words, k=rng.randint(5, 60))) for _ in range(ROWS)]
        rows = [{"text": text} for text in texts + texts[::10]]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "corpus" / f"{file}.jsonl").write_text(lines)
    save_tiny_encoder(folder / "encoder")
    return folder


@pytest.fixture(scope="module")
def calm(inputs: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """The index of a build that nothing disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    with build(inputs, folder, cluster) as driver:
        said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 0, said
    return the_index(folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head and one more node, each of one CPU."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False},
        shutdown_at_exit=False,
    )
    cluster.add_node(num_cpus=1)
    try:
        yield cluster
    finally:
        cluster.shutdown()


@pytest.mark.timeout(240)
@pytest.mark.slow
def test_the_driver_may_be_killed_again_and_again(
    inputs: Path, calm: Index, cluster: Cluster, tmp_path: Path
) -> None:
    rng = random.Random(1)
    for _ in range(4):
        with build(inputs, tmp_path, cluster) as driver:
            time.sleep(rng.uniform(4, 9))
            driver.kill()
    with build(inputs, tmp_path, cluster) as driver:
        said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 0, said
    same(the_index(tmp_path), calm)


@pytest.mark.timeout(240)
@pytest.mark.slow
def test_workers_and_a_node_may_be_killed(
    inputs: Path, calm: Index, cluster: Cluster, tmp_path: Path
) -> None:
    killed: list[str] = []
    with build(inputs, tmp_path, cluster) as driver:
        over = threading.Event()
        killer = threading.Thread(target=kill_workers, args=(killed, over))
        killer.start()
        deadline = time.monotonic() + 100
        while len(list(tmp_path.glob("store/indexes/*/vectors/*"))) < 3:
            assert driver.poll() is None and time.monotonic() < deadline, "the build never got under way"
            time.sleep(0.1)
        victim = sorted(cluster.worker_nodes, key=lambda node: str(node.node_id))[0]
        cluster.remove_node(victim, allow_graceful=False)
        cluster.add_node(num_cpus=1)
        said, _ = driver.communicate(timeout=120)
        over.set()
        killer.join()
    assert driver.returncode == 0, said
    assert killed
    same(the_index(tmp_path), calm)


def build(inputs: Path, folder: Path, cluster: Cluster) -> "subprocess.Popen[str]":
    """Start `nightshift index` as a user of the cluster does."""
    recipe: dict[str, Any] = {
        "run": "build",
        "store": str(folder / "store"),
        "task": {"name": "toy", "instruction": "Tell them apart.", "labels": {"a": "an a", "b": "a b"}},
        "corpus": {"path": str(inputs / "corpus")},
        "index": {
            "name": "toy",
            "encoder": {"model": str(inputs / "encoder"), "preset": "minilm", "dtype": "float32"},
            "partition_rows": 25,
            "shard_rows": 300,
            "structure": "ivf_sq",
        },
        "method": {"name": "fewgen", "shots": 0},
        "teacher": {"backend": "scripted"},
        "targets": {"rows_per_label": 1},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    command = [sys.executable, "-m", "jobs.index", str(path), "--address", cluster.address]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_workers(killed: list[str], over: threading.Event) -> None:
    """Kill a reading, embedding or building process of this test's clusters now and then."""
    kinds = ("read_split", "MapWorker", "build_shard", "_ids_and_keys")
    while len(killed) < 4 and not over.wait(1.5):
        for process in psutil.process_iter(["name", "cmdline", "uids"]):
            title = " ".join(process.info["cmdline"] or [])
            if (
                process.info["uids"].real == os.getuid()
                and "ray::" in title
                and any(k in title for k in kinds)
            ):
                killed.append(title)
                process.kill()
                break


def the_index(folder: Path) -> Index:
    """Return the one complete index of a store."""
    (index,) = complete_indexes(LocalStore(folder / "store"))
    return index


def same(stormy: Index, calm: Index) -> None:
    """Compare documents, vectors and manifests."""
    assert stormy.fingerprint == calm.fingerprint
    assert (stormy.manifest.parts, stormy.manifest.refused) == (calm.manifest.parts, calm.manifest.refused)
    assert stormy.rows == FILES * ROWS
    for part in calm.layout.parts:
        tables = [pq.read_table(index.store.fetch(part.documents_key)) for index in (stormy, calm)]
        assert tables[0].equals(tables[1])
        vectors = [np.load(index.store.fetch(part.vectors_key)) for index in (stormy, calm)]
        np.testing.assert_array_equal(*vectors)
    assert sorted(stormy.store.list("shards")) == sorted(calm.store.list("shards"))
    assert stormy.structure == calm.structure
