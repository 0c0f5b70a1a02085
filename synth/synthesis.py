"""One method, one task: prepare, plan, work the plan through the replicas, and commit every row."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.errors import DataError
from cluster.lease import Lease
from cluster.ledger import Ledger, read_ledger
from cluster.pool import Pool
from cluster.progress import Progress
from cluster.storage import Store
from synth.method import Method, Retrieve, Sources, Tools
from synth.pipeline import Committer, ItemSource, Tally, work
from synth.planner import Planner
from synth.preparation import CallSource, as_reply, commit_sources, read_sources
from synth.quota import Candidate
from synth.records import Author, Reply, ledger_schema
from synth.replicas import pool_settings, starter
from synth.worker import Assignment


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made, and where."""

    assignment: Assignment
    targets: Mapping[str, int]
    ceiling: float
    store: Store
    lease: Lease
    progress: Progress
    retrieve: Retrieve | None = None
    band: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """How the work ended; drawn counts the items of all sittings, short names labels that stalled and why."""

    drawn: int
    unfinished: int
    short: Mapping[str, str]
    restarts: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier sittings left in the ledger."""

    settled: Mapping[str, Sequence[Candidate]]
    prepared: Mapping[str, Reply]


def synthesize(order: Order) -> Result:
    """Make the rows an order asks for; what is committed already is not made again."""
    return asyncio.run(_synthesize(order))


async def _synthesize(order: Order) -> Result:
    began = time.monotonic()
    assignment = order.assignment
    method = assignment.method.build(assignment.task)
    past = read_past(order.store)
    committer = Committer(
        Ledger(order.store, order.lease, ledger_schema(assignment.task.settings.fields)),
    )
    pool = Pool(starter(assignment), pool_settings(assignment.teacher), order.progress.event)
    try:
        sources = await _sources(order, method, pool, committer, past)
        _check_capacity(order, method, sources)
        planner = Planner(method.plan(sources, 0, {}), order.targets, past.settled, order.ceiling)
        planner.catch_up()
        author = Author(assignment.method.name, assignment.teacher.model, assignment.revision)
        source = ItemSource(planner, committer, Tally(), author)
        if not source.done():
            order.progress.say(f"Teacher: loading {assignment.teacher.model} ({assignment.teacher.backend})")
            await work(pool, source, committer, Ticker(order, source, pool).tick)
        return Result(
            drawn=len(past.settled) + planner.drawn,
            unfinished=source.unfinished(),
            short=planner.short(),
            restarts=pool.restarts,
            seconds=time.monotonic() - began,
        )
    finally:
        await pool.close()


def read_past(store: Store) -> Past:
    """Read from the ledger which items are settled, with accepted rows, and which calls are answered."""
    settled: dict[str, list[Candidate]] = {}
    prepared: dict[str, Reply] = {}
    columns = ("status", "labels", "text_hash", "text", "reason", "prompt_tokens", "reply_tokens")
    for table in read_ledger(store, columns):
        for row in table.to_pylist():
            if row["status"] == "prepared":
                prepared[row["item_id"]] = as_reply(row)
                continue
            rows = settled.setdefault(row["item_id"], [])
            if row["status"] == "accepted":
                rows.append(Candidate(tuple(row["labels"]), row["text_hash"]))
    return Past(settled, prepared)


async def _sources(order: Order, method: Method, pool: Pool, committer: Committer, past: Past) -> Sources:
    """Return what was prepared, preparing it first when it is not committed yet."""
    committed = read_sources(order.store)
    if committed is not None:
        return committed
    calls = CallSource(method.plan_key, committer, past.prepared)
    tools = Tools(calls.generate, order.assignment.teacher.tokenizer(), order.retrieve, order.band)
    preparing = asyncio.ensure_future(method.prepare(tools))
    preparing.add_done_callback(lambda _: calls.finish())
    called = asyncio.ensure_future(calls.called.wait())
    try:
        # Replicas are started only when a method asks the teacher for something.
        await asyncio.wait({preparing, called}, return_when=asyncio.FIRST_COMPLETED)
        if not preparing.done():
            await work(pool, calls, committer, lambda: None)
        sources = await preparing
    finally:
        preparing.cancel()
        called.cancel()
    order.lease.renew(force=True)
    commit_sources(order.store, sources)
    # Read back, so that a resumed run plans from the very same bytes.
    return read_sources(order.store) or {}


def _check_capacity(order: Order, method: Method, sources: Sources) -> None:
    capacity = method.capacity(sources)
    if capacity is None:
        return
    poor = [
        f"{label}: {capacity[label]} of {target}"
        for label, target in order.targets.items()
        if capacity[label] < target
    ]
    if poor:
        raise DataError(
            "too few documents can be retrieved for "
            + "; ".join(poor)
            + ". Add seeds for these labels, widen "
            "method.similarity, raise method.last_rank or method.draws, enlarge the corpus, or lower "
            "targets.rows_per_label"
        )


class Ticker:
    """Tells a few times a second how far the run is."""

    def __init__(self, order: Order, source: ItemSource, pool: Pool) -> None:
        self._order = order
        self._source = source
        self._pool = pool
        self._began: float | None = None
        self._at_start = sum(source.planner.quota.kept.values())

    def tick(self) -> None:
        """Show one line: rows, speed, rejections, replicas, time left, and the label that lags most."""
        if self._pool.alive and self._began is None:
            self._began = time.monotonic()
        kept, tally = self._source.planner.quota.kept, self._source.tally
        rows, wanted = sum(kept.values()), sum(self._order.targets.values())
        seconds = max(1e-6, time.monotonic() - (self._began or time.monotonic()))
        speed = (rows - self._at_start) / seconds
        left = (wanted - rows) / speed if speed > 0 else None
        last = min(kept, key=lambda label: kept[label] / self._order.targets[label])
        self._order.progress.live(
            "synthesis",
            f"Rows {rows}/{wanted} | {speed:.2f} rows/s | {tally.reply_tokens / seconds:.0f} tok/s | "
            f"rejected {tally.rows['rejected']} failed {tally.failed} | replicas {self._pool.alive} | "
            f"ETA {_clock(left)} | {last} {kept[last]}/{self._order.targets[last]}",
            kept=dict(kept),
            rows=dict(tally.rows),
            reply_tokens=tally.reply_tokens,
            replicas=self._pool.alive,
            restarts=self._pool.restarts,
            eta_seconds=left,
        )


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
