"""Peak memory of the driver while an index is built, by the size of the corpus.

python -m benchmarks.memory [--sizes 20000 200000] [--json FILE]

Every size is built in a process of its own, with an encoder of one small layer: what grows is the point, not
the vectors. The object store's most use is printed beside it.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.claims import Claim, write_claims

_WORDS = 20_000


def main() -> None:
    """Measure each size in a child process, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[20_000, 200_000])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--build", nargs=2, metavar=("SIZE", "ENCODER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.build is not None:
        print(json.dumps(_build(int(options.build[0]), options.build[1])))
        return
    from tests.tiny_encoder import save_tiny_encoder

    with tempfile.TemporaryDirectory() as folder:
        # Here, so that torch does not swell the processes that are measured.
        encoder = save_tiny_encoder(Path(folder))
        measured = {size: _measure(size, encoder) for size in options.sizes}
    for size, each in measured.items():
        print(f"{size:>9} documents: {each}")
    small, large = measured[options.sizes[0]], measured[options.sizes[-1]]
    ratio = large["driver_peak_mb"] / small["driver_peak_mb"]
    name = f"driver's peak at {options.sizes[-1]} over {options.sizes[0]} documents"
    write_claims("memory", {name: Claim(ratio, 1.2, "lower")}, {"measured": measured}, options.json)


def _measure(size: int, encoder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.memory", "--build", str(size), encoder]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _build(size: int, encoder: str) -> dict[str, Any]:
    from cluster.session import connected
    from cluster.storage import open_store
    from retrieval.index import build_index
    from retrieval.settings import CorpusSettings, EncoderSettings, IndexSettings

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_corpus(folder / "corpus.jsonl", size)
        with connected(None):
            over, most = threading.Event(), [0.0]
            watcher = threading.Thread(target=_watch, args=(over, most))
            watcher.start()
            started = time.time()
            index = build_index(
                open_store(str(folder / "store")),
                CorpusSettings(path=str(folder / "corpus.jsonl")),
                IndexSettings(encoder=EncoderSettings(model=encoder, preset="minilm")),
                lambda *_: None,
            )
            seconds = time.time() - started
            over.set()
            watcher.join()
    return {
        "documents": index.rows,
        "seconds": round(seconds, 1),
        "driver_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "object_store_peak_mb": most[0] / 2**20,
    }


def _watch(over: threading.Event, most: list[float]) -> None:
    import ray

    while not over.wait(0.5):
        total = ray.cluster_resources().get("object_store_memory", 0)
        free = ray.available_resources().get("object_store_memory", 0)
        most[0] = max(most[0], total - free)


def _write_corpus(path: Path, size: int) -> None:
    rng = random.Random(0)
    words = [f"word{number}" for number in range(_WORDS)]
    with path.open("w", encoding="utf-8") as file:
        for _ in range(size):
            text = " ".join(rng.choices(words, k=rng.randint(8, 30)))
            file.write(json.dumps({"text": text}) + "\n")


if __name__ == "__main__":
    main()
