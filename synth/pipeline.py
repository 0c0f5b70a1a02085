"""From plan to ledger: what the replica pool works, and where finished rows go."""

import asyncio
import logging
from collections.abc import Callable, Sequence

import pyarrow as pa

from cluster.budget import Budget
from cluster.pool import Pool
from cluster.work import Source
from synth.breaker import Breaker
from synth.committer import Committer
from synth.feed import Feed
from synth.planner import Planner
from synth.quota import Candidate
from synth.records import Author, Item
from synth.rows import failed_row

_COUNTED = ("item_id", "status", "reason", "labels", "text_hash", "signature")

log = logging.getLogger(__name__)


class ItemSource(Feed[Item]):
    """Feeds the pool from the planner and takes every row to the committer."""

    def __init__(self, planner: Planner, committer: Committer, author: Author, budget: Budget) -> None:
        super().__init__(budget)
        self.planner = planner
        self._committer = committer
        self._author = author
        self._breaker = Breaker()

    def complete(self) -> bool:
        return self.planner.done()

    def _fresh(self) -> Item | None:
        return self.planner.next_item()

    def _take(self, settled: Sequence[str], rows: pa.RecordBatch) -> None:
        self._committer.add(rows)
        accepted: dict[str, list[Candidate]] = {item_id: [] for item_id in settled}
        reasons: dict[str, str] = {}
        failed: dict[str, str] = {}
        columns = (rows.column(name).to_pylist() for name in _COUNTED)
        for item_id, status, reason, labels, text_hash, signature in zip(*columns, strict=True):
            self.tally.rows[status] += 1
            if status == "accepted":
                accepted[item_id].append(Candidate(tuple(labels), text_hash, signature))
            elif status == "rejected":
                self.tally.rows[f"rejected:{reason}"] += 1
                reasons[item_id] = reason
            else:
                failed[item_id] = reason
        for item_id, candidates in accepted.items():
            self.planner.settle(item_id, candidates)
        for item_id, candidates in accepted.items():
            if item_id in failed:
                self._breaker.failed(failed[item_id])
            else:
                self._breaker.settled(bool(candidates), reasons.get(item_id))

    def _set_aside(self, work: Item, reason: str) -> None:
        self._committer.add_rows([failed_row(work, reason, self._author)])
        self.tally.rows["failed"] += 1
        self.planner.settle(work.id, ())
        log.warning("item %s is set aside as failed: %s", work.id, reason)
        self._breaker.failed(reason)


async def work(pool: Pool, source: Source, committer: Committer, tick: Callable[[], None]) -> None:
    """Run a source through the pool while rows are committed; what is finished is flushed however it ends."""
    flushing = asyncio.create_task(committer.keep_flushing(tick))
    working = asyncio.create_task(pool.run(source))
    try:
        await asyncio.wait({flushing, working}, return_when=asyncio.FIRST_COMPLETED)
        # A store that cannot be written ends the flushing first, and with it the run.
        if flushing.done():
            flushing.result()
        working.result()
    finally:
        working.cancel()
        committer.end()
        await asyncio.gather(working, flushing, return_exceptions=True)
        await committer.flush()
    # Rows that a last flush could not write have left the queue: the run must not end as if they were safe.
    flushing.result()
