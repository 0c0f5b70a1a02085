"""Running a method's `prepare`: its teacher calls go through the pool and the ledger like items."""

import asyncio
import io
import json
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.budget import Budget
from cluster.errors import RunError
from cluster.settings import digest
from cluster.storage import Store
from synth.committer import Committer
from synth.feed import Feed
from synth.method import Sources
from synth.records import Call, Prompt, Reply, Sampling, prompt_hash

MANIFEST = "sources/manifest.json"


class CallSource(Feed[Call]):
    """Feeds the pool with the calls of `prepare`; a reply the ledger holds already is not asked for again."""

    def __init__(
        self, plan_key: str, committer: Committer, prepared: Mapping[str, Reply], budget: Budget
    ) -> None:
        super().__init__(budget)
        self._plan_key = plan_key
        self._committer = committer
        self._prepared = prepared
        self._waiting: deque[Call] = deque()
        self._futures: dict[str, asyncio.Future[Reply]] = {}
        self._asked: Counter[str] = Counter()
        self._finished = False
        self.called = asyncio.Event()

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Reply:
        """Ask the teacher through the pool; the same request asked twice is two draws."""
        form = [asdict(sampling.structure)] if sampling.structure else []
        content = digest([self._plan_key, "prepare", prompt_hash(prompt), repr(sampling), *form])
        self._asked[content] += 1
        call = Call(digest([content, self._asked[content]]), prompt, sampling)
        if call.id in self._prepared:
            return self._prepared[call.id]
        self._waiting.append(call)
        self._futures[call.id] = asyncio.get_running_loop().create_future()
        self.called.set()
        return await self._futures[call.id]

    def finish(self) -> None:
        """Say that no more calls are to come."""
        self._finished = True

    def complete(self) -> bool:
        return self._finished

    def _fresh(self) -> Call | None:
        return self._waiting.popleft() if self._waiting else None

    def _take(self, settled: Sequence[str], rows: pa.RecordBatch) -> None:
        self._committer.add(rows)
        for row in rows.to_pylist():
            future = self._futures.pop(row["item_id"])
            # Whoever asked may have been cancelled meanwhile.
            if not future.done():
                future.set_result(as_reply(row))

    def _set_aside(self, work: Call, reason: str) -> None:
        future = self._futures.pop(work.id)
        if not future.done():
            future.set_exception(RunError(f"prepare: a teacher call failed: {reason}"))


def as_reply(row: Mapping[str, Any]) -> Reply:
    """Read the reply back from a ledger row with status prepared."""
    return Reply(row["text"], row["reason"], row["prompt_tokens"], row["reply_tokens"])


def commit_sources(store: Store, sources: Sources) -> None:
    """Write what was prepared under `sources/`, the manifest last."""
    for name, table in sources.items():
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        store.write(f"sources/{name}.parquet", sink.getvalue())
    store.write(MANIFEST, json.dumps({"tables": {n: t.num_rows for n, t in sources.items()}}).encode())


def read_sources(store: Store) -> Sources | None:
    """Read what was prepared; None when it is not complete."""
    if not store.exists(MANIFEST):
        return None
    names = json.loads(store.read(MANIFEST))["tables"]
    return {name: _table(store, name) for name in names}


def _table(store: Store, name: str) -> pa.Table:
    return pq.read_table(io.BytesIO(store.read(f"sources/{name}.parquet")))
