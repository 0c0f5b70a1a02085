"""Memory and speed of the driver while it turns a ledger into a dataset and balances the books.

python -m benchmarks.curation [--sizes 20000 200000] [--json FILE]

Ledgers hold texts of about a hundred words in parts of 200 rows. Items settle out of order: within a window
of 2,000, and one in a thousand at any later time. Each ledger is curated in a process of its own.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.claims import Claim, write_claims

PART_ROWS = 200
WINDOW = 2_000
LATE = 0.001
LABELS = ("business", "science", "sport", "world")
_WORDS = [f"word{number}" for number in range(20_000)]
_REFUSED, _REPEATED = 0.05, 0.02


def main() -> None:
    """Measure each size in a child process, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[20_000, 200_000])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--curate", nargs=2, metavar=("FOLDER", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.curate is not None:
        print(json.dumps(_curate(Path(options.curate[0]), int(options.curate[1]))))
        return
    measured = {size: _measure(size) for size in options.sizes}
    for size, each in measured.items():
        print(f"{size:>9} rows: {each}")
    small, large = measured[options.sizes[0]], measured[options.sizes[-1]]
    more = large["dataset_rows"] - small["dataset_rows"]
    grown = (large["peak_mb"] - small["peak_mb"]) * 2**20 / more
    name = f"driver's bytes per dataset row beyond {options.sizes[0]} rows"
    details = {"measured": measured, "part_rows": PART_ROWS, "window": WINDOW, "late": LATE}
    write_claims("curation", {name: Claim(grown, 300, "lower")}, details, options.json)


def _measure(size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        _write_ledger(Path(folder), size)
        command = [sys.executable, "-m", "benchmarks.curation", "--curate", folder, str(size)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _curate(folder: Path, size: int) -> dict[str, Any]:
    from cluster.storage import LocalStore
    from synth.books import balance
    from synth.curate import curate

    store, before = LocalStore(folder), _peak_mb()
    # More than there is, so that every row that is no duplicate enters.
    started = time.perf_counter()
    dataset = curate(store, ("text",), dict.fromkeys(LABELS, size))
    curated = time.perf_counter()
    books = balance(store, dataset, drawn=size, unfinished=0)
    balanced = time.perf_counter()
    return {
        "ledger_rows": size,
        "dataset_rows": books.rows,
        "peak_mb": round(_peak_mb(), 1),
        "peak_before_mb": round(before, 1),
        "curate_rows_per_s": round(size / (curated - started)),
        "balance_rows_per_s": round(size / (balanced - curated)),
        "dataset_mb": round(sum(entry.size for entry in store.entries("data")) / 2**20, 1),
    }


def _peak_mb() -> float:
    # Not ru_maxrss: that one also tells of the process this one was started from.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("/proc/self/status has no VmHWM: memory can be measured on Linux only")


def _write_ledger(folder: Path, size: int) -> None:
    import pyarrow as pa

    from cluster.lease import acquire
    from cluster.ledger import Ledger
    from cluster.storage import LocalStore
    from synth.rows import ledger_schema

    store, schema, waiting = LocalStore(folder), ledger_schema(("text",)), list[dict[str, Any]]()
    ledger = Ledger(store, acquire(store), schema)
    for row in _rows(size):
        waiting.append(row)
        if len(waiting) == PART_ROWS:
            ledger.commit([pa.RecordBatch.from_pylist(waiting, schema=schema)])
            waiting.clear()
    if waiting:
        ledger.commit([pa.RecordBatch.from_pylist(waiting, schema=schema)])
    ledger.lease.release()


def _rows(size: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of a run of items with one row each, in the order they settle in."""
    from synth.records import Author, Example, Grounding, Rejection, Sampling, Usage, make_item
    from synth.rows import settled_rows

    rng = random.Random(size)
    author = Author("synthesizrr", "models/teacher-8b", "0123456789abcdef")
    text = ""
    for position in _settling(rng, size):
        label = LABELS[position % len(LABELS)]
        document = Grounding(f"doc-{rng.randrange(10**6):07d}", "A document.", rng.random())
        item = make_item("benchmark", 0, position, (label,), draw=position, documents=(document,))
        if not text or rng.random() > _REPEATED:
            text = " ".join(rng.choices(_WORDS, k=rng.randint(70, 130)))
        outcome = (
            Rejection("too_short", "", label) if rng.random() < _REFUSED else Example({"text": text}, label)
        )
        usage = Usage(f"{position:016x}", Sampling(), 2_000, 150)
        yield from settled_rows(item, [outcome], [usage], author, "text")


def _settling(rng: random.Random, size: int) -> list[int]:
    def settles(position: int) -> float:
        late = rng.random() < LATE
        return rng.uniform(position, size) if late else position + rng.random() * WINDOW

    return sorted(range(size), key=settles)


if __name__ == "__main__":
    main()
