"""The driver's own share: rows a second, memory a row, and how fast a large run is taken up again.

python -m benchmarks.control_plane [--rows 300000] [--settled 1000000] [--parts 5000] [--json FILE]

  rate     planner, pool, replica, filters, ledger and curation with an instant scripted teacher, on two CPUs;
           every filter as it is by default, with 400 seeds and 10,000 test rows that no text may copy; from
           10,000 rows on, so that starting and loading are apart
  memory   of the driver in the same run, above its level at 10,000 rows; near-duplicates of all rows included
  resume   a ledger of a million rows in 5,000 parts is written, then the same run is begun again with a
           higher target: seconds until the first new item is handed out, imports and Ray included
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.claims import Claim, write_claims
from cluster.progress import Progress
from cluster.storage import LocalStore
from synth import quota
from synth.filters.settings import FilterSettings
from synth.methods.fewgen import INSTRUCTION, FewGenSettings
from synth.near import WIDTH, NearRows
from synth.task import Gold, Task, TaskSettings
from synth.teachers.scripted import ScriptedSettings
from synth.worker import Assignment

ROOT = Path(__file__).parent.parent
LABELS = 8
CEILING = 3.0
WARM = 10_000
SEEDS, TEST = 400, 10_000
WORDS = 24
VOCABULARY = 60
"""Words that the teacher is given to write with: few pairs of its texts have more than a tenth in common."""
TEN_MILLION = 10_000_000


def main() -> None:
    """Measure, print and write."""
    options = _options()
    if options.part is not None:
        print(json.dumps(PARTS[options.part](options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rate = _apart("rate", options, Path(folder) / "rate")
        written = _apart("write", options, Path(folder) / "resume")
        resume = _apart("resume", options, Path(folder) / "resume")
    claims = {
        "rows a second, planner to ledger": Claim(rate["rows_per_second"], 5000),
        "driver memory a row, bytes": Claim(rate["bytes_per_row"], 500, "lower"),
        f"seconds to take up {resume['settled']:,} rows in {resume['parts']:,} parts": Claim(
            resume["seconds"], 30, "lower"
        ),
    }
    details: dict[str, Any] = {"rate": rate, "written": written, "resume": resume}
    details["ten million rows, computed from the above"] = {
        "driver memory, GB": round(rate["bytes_per_row"] * TEN_MILLION / 1e9, 2),
        "hours at this rate": round(TEN_MILLION / rate["rows_per_second"] / 3600, 2),
        "seconds to resume": round(resume["seconds"] * TEN_MILLION / resume["settled"], 1),
    }
    print(json.dumps(details, indent=1))
    write_claims("control_plane", claims, details, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--settled", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=5_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _apart(part: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run one part in a fresh process, as a driver of its own."""
    command = [sys.executable, "-m", "benchmarks.control_plane", "--part", part, "--folder", str(folder)]
    for name in ("rows", "settled", "parts"):
        command += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{part}: {found}", file=sys.stderr)
    return found


def gold(name: str, rows: int) -> tuple[Gold, ...]:
    """Return so many different rows in the words of the teacher."""
    random = np.random.default_rng(len(name))
    lots = random.integers(0, VOCABULARY, (rows, WORDS)).tolist()
    texts = [" ".join([f"{name}{n}" if n % 9 == 0 else f"word{n}" for n in lot]) for lot in lots]
    return tuple([Gold(f"{name}-{n}", {"text": text}, "label-0") for n, text in enumerate(texts)])


def task() -> Task:
    """Return a task of eight labels."""
    labels = {f"label-{number}": f"topic number {number}" for number in range(LABELS)}
    settings = TaskSettings(name="rate", instruction="Tell topics apart.", labels=labels)
    return Task(settings, gold("seed", SEEDS))


def assignment() -> Assignment:
    """Return FewGen without shots for the instant teacher; one replica works while the other is served."""
    teacher = ScriptedSettings(replicas=2, num_cpus=0.5, words=WORDS)
    words = " ".join(f"word{n}" for n in range(VOCABULARY))
    method = FewGenSettings(name="fewgen", instruction=f"{INSTRUCTION} Use {words}.")
    return Assignment(
        task(), method, teacher, teacher.check(), filters=FilterSettings(), test=gold("test", TEST)
    )


class Meter(Progress):
    """Notes time, rows and the driver's memory at every look."""

    def __init__(self) -> None:
        super().__init__(None)
        self.looks: list[tuple[float, int, int]] = []
        self._process = psutil.Process()

    def live(self, kind: str, text: str, view: Any = None, **data: Any) -> None:
        """Take a look."""
        rows = int(data["rows"].get("accepted", 0) + data["rows"].get("rejected", 0))
        self.looks.append((time.monotonic(), rows, self._process.memory_info().rss))
        super().live(kind, text, view, **data)


def _rate(options: argparse.Namespace) -> dict[str, Any]:
    from cluster.rundir import owned
    from cluster.session import connected
    from synth.books import balance
    from synth.curate import curate
    from synth.synthesis import Order, synthesize

    meter, store = Meter(), LocalStore(options.folder)
    near: list[NearRows] = []

    def noted(threshold: float) -> NearRows:
        near.append(NearRows(threshold))
        return near[-1]

    quota.NearRows = noted  # type: ignore[assignment, misc]
    targets = dict.fromkeys(task().labels, options.rows // LABELS)
    with connected(None), owned(store) as lease:
        order = assignment()
        result = synthesize(Order(order, targets, CEILING, store, lease, meter))
        bytes_per_row = near[0].nbytes / len(near[0])
        curating = time.monotonic()
        dataset = curate(store, ("text",), targets, order.filters.near_duplicates)
        balance(store, dataset, result.drawn, result.unfinished)
    first = next(look for look in meter.looks if look[1] >= WARM)
    last = meter.looks[-1]
    peak = max(look[2] for look in meter.looks if look[1] >= WARM)
    return {
        "rows": last[1],
        "rows_per_second": (last[1] - first[1]) / (last[0] - first[0]),
        "bytes_per_row": (peak - first[2]) / (last[1] - first[1]),
        "of which near-duplicates": bytes_per_row,
        "rows kept, and surplus": [dataset.rows, dataset.surplus],
        "level_at_10k_mb": first[2] / 1e6,
        "curation_rows_per_second": dataset.rows / (time.monotonic() - curating),
    }


def _write(options: argparse.Namespace) -> dict[str, Any]:
    """Write the ledger that a run of so many rows leaves, in parts of equal size."""
    import pyarrow as pa

    from cluster.ledger import Ledger
    from cluster.rundir import owned
    from synth.records import Author, Example, Sampling, Usage
    from synth.rows import ledger_schema, settled_rows

    began, store, order = time.monotonic(), LocalStore(options.folder), assignment()
    method = order.method.build(order.task)
    author = Author("fewgen", order.teacher.model, order.revision)
    calls, schema = [Usage("0" * 32, Sampling(), 20, 24)], ledger_schema(("text",))
    slots, random = method.plan({}, 0, {}), np.random.default_rng(0)
    with owned(store) as lease:
        ledger = Ledger(store, lease, schema)
        size = options.settled // options.parts
        for _ in range(options.parts):
            rows: list[dict[str, Any]] = []
            for slot, _ in zip(slots, range(size), strict=False):
                item = slot.build()
                text = f"Text number {item.position}, " + "with some words of its own " * 4
                made = Example({"text": text}, item.labels[0], signature=random.bytes(WIDTH))
                rows += settled_rows(item, [made], calls, author, "text")
            ledger.commit([pa.RecordBatch.from_pylist(rows, schema=schema)])
    return {"seconds": time.monotonic() - began}


def _resume(options: argparse.Namespace) -> dict[str, Any]:
    from cluster.ledger import part_count
    from cluster.rundir import owned
    from cluster.session import connected
    from synth.pipeline import ItemSource
    from synth.synthesis import Order, synthesize

    store, began = LocalStore(options.folder), psutil.Process().create_time()
    parts = part_count(store)
    handed: list[float] = []
    next_lot = ItemSource.next_lot

    def noted(source: ItemSource, *given: Any) -> Any:
        lot = next_lot(source, *given)
        if lot:
            handed.append(time.time())
        return lot

    ItemSource.next_lot = noted  # type: ignore[method-assign]
    targets = dict.fromkeys(task().labels, options.settled // LABELS + 1000)
    with connected(None), owned(store) as lease:
        result = synthesize(Order(assignment(), targets, CEILING, store, lease, Progress(None)))
    return {
        "settled": options.settled,
        "parts": parts,
        "seconds": handed[0] - began,
        "new_items": result.drawn - options.settled,
        "peak_mb": _peak() / 1e6,
    }


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


PARTS = {"rate": _rate, "write": _write, "resume": _resume}

if __name__ == "__main__":
    main()
