"""Running a method's `prepare`: its teacher calls go through the pool and the ledger like items."""

import asyncio
import io
import json
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import RunError
from cluster.pool import Outcome, Work
from cluster.settings import digest
from cluster.storage import Store
from synth.method import Sources
from synth.pipeline import ATTEMPTS, Committer
from synth.records import Call, Prompt, Reply, Sampling, prompt_hash

MANIFEST = "sources/manifest.json"


class CallSource:
    """Feeds the pool with the calls of `prepare`; a reply the ledger holds already is not asked for again."""

    def __init__(self, plan_key: str, committer: Committer, prepared: Mapping[str, Reply]) -> None:
        self._plan_key = plan_key
        self._committer = committer
        self._prepared = prepared
        self._waiting: deque[Call] = deque()
        self._futures: dict[str, asyncio.Future[Reply]] = {}
        self._calls: dict[str, Call] = {}
        self._asked: Counter[str] = Counter()
        self._strikes: Counter[str] = Counter()
        self._finished = False
        self.called = asyncio.Event()

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Reply:
        """Ask the teacher through the pool; the same request asked twice is two draws."""
        content = digest([self._plan_key, "prepare", prompt_hash(prompt), repr(sampling)])
        self._asked[content] += 1
        call = Call(digest([content, self._asked[content]]), prompt, sampling)
        if call.id in self._prepared:
            return self._prepared[call.id]
        self._calls[call.id] = call
        self._waiting.append(call)
        self._futures[call.id] = asyncio.get_running_loop().create_future()
        self.called.set()
        return await self._futures[call.id]

    def finish(self) -> None:
        """Say that no more calls are to come."""
        self._finished = True

    def next_lot(self, size: int, held: Collection[str]) -> list[Call]:
        return [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]

    def settle(self, outcome: Outcome) -> None:
        if outcome.rows is not None:
            self._committer.add(outcome.rows)
            for row in outcome.rows.to_pylist():
                future = self._futures.pop(row["item_id"])
                # Whoever asked may have been cancelled meanwhile.
                if not future.done():
                    future.set_result(as_reply(row))
        for item_id, message in outcome.errors:
            self._strike(item_id, message)

    def lost(self, items: Sequence[Work], reason: str) -> None:
        for item in items:
            self._strike(item.id, f"its replica was lost: {reason}")

    def done(self) -> bool:
        return self._finished

    def _strike(self, call_id: str, reason: str) -> None:
        self._strikes[call_id] += 1
        if self._strikes[call_id] < ATTEMPTS:
            self._waiting.append(self._calls[call_id])
        else:
            future = self._futures.pop(call_id)
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
