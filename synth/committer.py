"""From finished rows to ledger parts: collected, and written every few seconds."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from cluster.ledger import Ledger

FLUSH_SECONDS = 3.0
FLUSH_ROWS = 5_000
TICK_SECONDS = 0.2


class Committer:
    """Collects finished rows and writes them to the ledger every few seconds."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0
        self._ending = False

    def add(self, batch: pa.RecordBatch) -> None:
        """Take rows; they are safe once the next flush returns."""
        self._waiting.append(batch)
        self._rows += batch.num_rows

    def add_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take rows given as mappings."""
        self.add(pa.RecordBatch.from_pylist(list(rows), schema=self._ledger.schema))

    async def flush(self) -> None:
        """Write what waits as one part."""
        batches, self._waiting, self._rows = self._waiting, [], 0
        if batches:
            await asyncio.to_thread(self._ledger.commit, batches)
            await asyncio.to_thread(self._ledger.compact)
            # What encoding a part took would otherwise stay with the process.
            pa.default_memory_pool().release_unused()
        else:
            await asyncio.to_thread(self._ledger.lease.renew)

    async def keep_flushing(self, tick: Callable[[], None]) -> None:
        """Flush on time or size until told to end, and call tick a few times a second."""
        flushed, self._ending = time.monotonic(), False
        while not self._ending:
            await asyncio.sleep(TICK_SECONDS)
            tick()
            if self._rows >= FLUSH_ROWS or time.monotonic() - flushed >= FLUSH_SECONDS:
                await self.flush()
                flushed = time.monotonic()

    def end(self) -> None:
        """Let `keep_flushing` return; cancelling leaves a thread that writes beside the next flush."""
        self._ending = True
