"""What was learned before a round: its tables in `rounds/<number>/feedback/`, the manifest last."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import Store
from synth.method import Feedback

MANIFEST = "feedback/manifest.json"


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What was learned before a round; `ended` says why there is nothing to go on with."""

    feedback: Feedback = field(default_factory=dict)
    left_out: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    """Ids of rows that leave the dataset."""
    told: Mapping[str, Any] = field(default_factory=dict)
    """Figures for `metrics.json`; `accuracy` is that of the student on the gold test rows."""
    ended: str | None = None
    of: str = ""
    """Hash of what it was learned from, and how."""

    @property
    def weights(self) -> pa.Table | None:
        """Weight of every row, if weights were learned: row_id, weight."""
        return self.feedback.get("weights")


def round_folder(run: Store, number: int) -> Store:
    """Return the folder of a round after the first."""
    return run.within(round_key(number))


def round_key(number: int) -> str:
    """Return where in the run folder a round after the first is kept."""
    return f"rounds/{number:03d}"


def read_feedback(folder: Store) -> Learned:
    """Read what was learned before a round."""
    manifest = json.loads(folder.read(MANIFEST))
    tables = {name: _table(folder, name) for name in manifest["tables"]}
    left_out = tables.pop("left_out")["row_id"].combine_chunks()
    return Learned(tables, left_out, manifest["told"], manifest["ended"], manifest["of"])


def commit_feedback(folder: Store, lesson: Learned) -> None:
    """Write what was learned, the manifest last."""
    tables = {**lesson.feedback, "left_out": pa.table({"row_id": lesson.left_out})}
    for name, table in tables.items():
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        folder.write(f"feedback/{name}.parquet", sink.getvalue())
    manifest = {"tables": list(tables), "told": dict(lesson.told), "ended": lesson.ended, "of": lesson.of}
    folder.write(MANIFEST, json.dumps(manifest, indent=1).encode())


def _table(folder: Store, name: str) -> pa.Table:
    return pq.read_table(io.BytesIO(folder.read(f"feedback/{name}.parquet")))
