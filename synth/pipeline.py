"""From plan to ledger: what the replica pool works, and where finished rows go."""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from cluster.errors import TooManyFailures
from cluster.ledger import Ledger
from cluster.pool import Outcome, Pool, Source, Work
from synth.planner import Planner
from synth.quota import Candidate
from synth.records import Author, Item, failed_row

FLUSH_SECONDS = 3.0
FLUSH_ROWS = 20_000
TICK_SECONDS = 0.2
ATTEMPTS = 2
"""How often an item may raise, time out, or lose its replica, until it is set aside as failed."""
MAX_FAILED_SHARE = 0.2
MIN_FAILED = 20

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Tally:
    """Live counts of a run, for progress and the books."""

    rows: Counter[str] = field(default_factory=Counter)
    """Returned rows by status, and rejections as `rejected:<reason>`."""
    accepted: Counter[str] = field(default_factory=Counter)
    """Accepted rows by label."""
    settled: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Count the rows of one outcome."""
        for row in rows:
            self.rows[row["status"]] += 1
            if row["status"] == "rejected":
                self.rows[f"rejected:{row['reason']}"] += 1
            elif row["status"] == "accepted":
                self.accepted.update(row["labels"])
            self.prompt_tokens += row["prompt_tokens"] or 0
            self.reply_tokens += row["reply_tokens"] or 0


_COUNTED = ("item_id", "status", "reason", "labels", "text_hash", "prompt_tokens", "reply_tokens")


class Committer:
    """Collects finished rows and writes them to the ledger every few seconds."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[pa.RecordBatch] = []
        self._ending = False

    def add(self, batch: pa.RecordBatch) -> None:
        """Take rows; they are safe once the next flush returns."""
        self._waiting.append(batch)

    def add_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take rows given as mappings."""
        self.add(pa.RecordBatch.from_pylist(list(rows), schema=self._ledger.schema))

    async def flush(self) -> None:
        """Write what waits as one part."""
        batches, self._waiting = self._waiting, []
        if batches:
            await asyncio.to_thread(self._ledger.commit, batches)
            await asyncio.to_thread(self._ledger.compact)
        else:
            await asyncio.to_thread(self._ledger.lease.renew)

    async def keep_flushing(self, tick: Callable[[], None]) -> None:
        """Flush on time or size until told to end, and call tick a few times a second."""
        flushed, self._ending = time.monotonic(), False
        while not self._ending:
            await asyncio.sleep(TICK_SECONDS)
            tick()
            waiting = sum(batch.num_rows for batch in self._waiting)
            if waiting >= FLUSH_ROWS or time.monotonic() - flushed >= FLUSH_SECONDS:
                await self.flush()
                flushed = time.monotonic()

    def end(self) -> None:
        """Let `keep_flushing` return; cancelling leaves a thread that writes beside the next flush."""
        self._ending = True


class ItemSource:
    """Feeds the pool from the planner; re-queues what dead replicas held; sets poison aside."""

    def __init__(self, planner: Planner, committer: Committer, tally: Tally, author: Author) -> None:
        self.planner = planner
        self.tally = tally
        self._committer = committer
        self._author = author
        self._again: deque[Item] = deque()
        self._aloft: dict[str, Item] = {}
        self._strikes: Counter[str] = Counter()

    def next_lot(self, size: int, held: Collection[str]) -> list[Item]:
        lot: list[Item] = []
        suspect = any(item_id in self._strikes for item_id in held)
        while len(lot) < size and not self.planner.done():
            item = self._retry(suspect) or self.planner.next_item()
            if item is None:
                break
            suspect = suspect or item.id in self._strikes
            self._aloft[item.id] = item
            lot.append(item)
        return lot

    def settle(self, outcome: Outcome) -> None:
        if outcome.rows is not None:
            self._committer.add(outcome.rows)
            rows = outcome.rows.select(_COUNTED).to_pylist()
            self.tally.add(rows)
            self._settle_rows(outcome.settled, rows)
        for item_id, message in outcome.errors:
            self._strike(self._aloft.pop(item_id), message)

    def lost(self, items: Sequence[Work], reason: str) -> None:
        for item in items:
            self._strike(self._aloft.pop(item.id), f"its replica was lost: {reason}")

    def done(self) -> bool:
        return self.planner.done()

    def unfinished(self) -> int:
        """Items drawn whose rows are not needed any more and were not waited for."""
        return len(self._aloft) + len(self._again)

    def _retry(self, suspect: bool) -> Item | None:
        # One suspect at a time per replica: when it kills its replica too, no innocent gets a second strike.
        return self._again.popleft() if self._again and not suspect else None

    def _settle_rows(self, settled: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        accepted: dict[str, list[Candidate]] = {item_id: [] for item_id in settled}
        for row in rows:
            if row["status"] == "accepted":
                accepted[row["item_id"]].append(Candidate(tuple(row["labels"]), row["text_hash"]))
            elif row["status"] == "failed":
                self.tally.failed += 1
        for item_id, candidates in accepted.items():
            self._aloft.pop(item_id)
            self._strikes.pop(item_id, None)
            self.tally.settled += 1
            self.planner.settle(item_id, candidates)
        for reason in (row["reason"] for row in rows if row["status"] == "failed"):
            self._check_failures(reason)

    def _strike(self, item: Item, reason: str) -> None:
        self._strikes[item.id] += 1
        if self._strikes[item.id] < ATTEMPTS:
            self._again.append(item)
            return
        row = failed_row(item, reason, self._author)
        self._committer.add_rows([row])
        self.tally.add([row | {"prompt_tokens": 0, "reply_tokens": 0}])
        self.tally.failed += 1
        self.tally.settled += 1
        self.planner.settle(item.id, ())
        log.warning("item %s is set aside as failed: %s", item.id, reason)
        self._check_failures(reason)

    def _check_failures(self, reason: str) -> None:
        failed, settled = self.tally.failed, self.tally.settled
        if failed >= MIN_FAILED and failed > MAX_FAILED_SHARE * settled:
            raise TooManyFailures(
                f"{failed} of {settled} items failed; the last: {reason}. What was made is kept; mend the "
                "cause and give the next run another name with --set run=NAME, for failed items stay failed"
            )


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
