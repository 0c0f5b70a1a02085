"""One method, one task: prepare, plan, work the plan through the replicas, and commit every row."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.budget import open_budget
from cluster.errors import DataError, RunError
from cluster.lease import Lease
from cluster.ledger import Ledger
from cluster.pool import Pool, PoolSettings
from cluster.progress import Progress
from cluster.settings import digest
from cluster.storage import Store
from synth.committer import Committer
from synth.feed import Feed
from synth.limits import Limits
from synth.method import Embed, Feedback, Method, Retrieve, Sources, Tools
from synth.past import read_past
from synth.pipeline import ItemSource, work
from synth.planner import Planner
from synth.preparation import CallSource, commit_sources, read_sources
from synth.quota import Place, Quota
from synth.records import Author
from synth.replicas import RayFleet
from synth.rows import ledger_schema
from synth.ticker import Ticker, Watch
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
    limits: Limits = field(default_factory=Limits)
    retrieve: Retrieve | None = None
    band: tuple[float, float] | None = None
    embed: Embed | None = None
    ledger: Ledger | None = None
    """What rows are committed to; one is shared by several orders that are worked under one lease."""
    twins: frozenset[Place] = frozenset()
    """Accepted rows that curation leaves out for what they say."""
    spare: Mapping[str, int] = field(default_factory=dict)
    """Rows of labels to make beyond their targets, since more such may be found."""
    round: int = 0
    feedback: Feedback = field(default_factory=dict)
    """What earlier rounds taught."""
    earlier: Callable[[], Quota] | None = None
    """Makes a quota that has judged the rows of earlier rounds; targets count them."""
    place: Store | None = None
    """Where the sources of the round are kept, if it has its own."""


@dataclass(frozen=True, slots=True)
class Result:
    """How the work ended; drawn counts the items of all sittings, short names labels that stalled and why."""

    drawn: int
    unfinished: int
    short: Mapping[str, str]
    restarts: int
    seconds: float
    stopped: str | None = None
    """The limit that ended the work before its targets."""
    costs: Mapping[str, Any] = field(default_factory=dict)
    fleet: Mapping[str, Any] = field(default_factory=dict)


def synthesize(order: Order) -> Result:
    """Make the rows an order asks for; what is committed already is not made again."""
    return asyncio.run(Synthesis(order).run())


class Synthesis:
    """One sitting over one order."""

    def __init__(self, order: Order) -> None:
        self._began = time.monotonic()
        self._order = order
        limits, assignment = order.limits, order.assignment
        near = assignment.filters.near_duplicates
        self._past = read_past(order.store, tuple(order.targets), near is not None)
        self._tokens = self._past.tokens
        currencies = limits.currencies()
        costs = limits.spent_on(self._tokens)
        self._budget = open_budget(order.store, currencies, limits.amounts(), costs, order.lease)
        fleet = RayFleet(replace(assignment, currencies=currencies, judge_rates=limits.judge_rates()))
        self._method = assignment.method.build(assignment.task)
        schema = ledger_schema(assignment.task.settings.fields)
        ledger = order.ledger or Ledger(order.store, order.lease, schema)
        ledger.begin(order.round)
        self._committer = Committer(ledger)
        shape = PoolSettings(assignment.teacher.in_flight, assignment.teacher.hang_timeout)
        self._pool = Pool(fleet, shape, order.progress.event)
        self._watch = Watch(limits, self._budget, self._pool, fleet.gpus)

    async def run(self) -> Result:
        """Work the plan to its end or to a limit."""
        order = self._order
        try:
            sources = await self._sources()
            if order.earlier is None:
                _check_capacity(order, self._method, sources)
            planner = Planner(
                plan=self._method.plan(sources, order.round, order.feedback),
                targets=order.targets,
                settled=self._past.settled,
                ceiling=order.ceiling,
                round=order.round,
                near=order.assignment.filters.near_duplicates,
                twins=order.twins,
                spare=order.spare,
                earlier=order.earlier() if order.earlier else None,
            )
            planner.catch_up()
            assignment = order.assignment
            author = Author(assignment.method.name, assignment.teacher.model, assignment.revision)
            source = ItemSource(planner, self._committer, author, self._budget)
            ticker = Ticker(order.progress, source, self._pool, self._watch, self._tokens)
            self._watch.look(source)
            if not source.done():
                teacher = assignment.teacher
                order.progress.say(f"Teacher: loading {teacher.model} ({teacher.backend})")
                await work(self._pool, source, self._committer, ticker.tick)
            return self._result(source, ticker)
        finally:
            await self._pool.close()
            self._budget.close_all()

    def _result(self, source: ItemSource, ticker: Ticker) -> Result:
        planner, limits = source.planner, self._order.limits
        self._count(source)
        stopped = source.stopped if not planner.done() else None
        return Result(
            drawn=len(self._past.settled) + planner.drawn,
            unfinished=source.unfinished(),
            short=planner.short() if stopped is None else {},
            restarts=self._pool.restarts,
            seconds=time.monotonic() - self._began,
            stopped=limits.reason(stopped) if stopped else None,
            costs=limits.costs(self._budget, self._tokens),
            fleet=_fleet(self._pool, ticker),
        )

    def _count(self, feed: Feed[Any]) -> None:
        """Add what a feed spent in this sitting to what the ledger held before it."""
        self._tokens = self._tokens.plus(feed.tally.tokens)

    async def _sources(self) -> Sources:
        """Return what was prepared, preparing it first when it is not committed yet."""
        order = self._order
        place = order.place or order.store
        committed = read_sources(place)
        if committed is not None:
            return committed
        # What a later round asks is asked anew, also where it is the same as an earlier one asked.
        key = digest([self._method.plan_key, order.round]) if order.place else self._method.plan_key
        calls = CallSource(key, self._committer, self._past.prepared, self._budget)
        tools = Tools(
            generate=calls.generate,
            tokenizer=order.assignment.teacher.tokenizer(),
            retrieve=order.retrieve,
            band=order.band,
            embed=order.embed,
            round=order.round,
            feedback=order.feedback,
        )
        preparing = asyncio.ensure_future(self._method.prepare(tools))
        preparing.add_done_callback(lambda _: calls.finish())
        called = asyncio.ensure_future(calls.called.wait())
        try:
            # Replicas are started only when a method asks the teacher for something.
            await asyncio.wait({preparing, called}, return_when=asyncio.FIRST_COMPLETED)
            if not preparing.done():
                await work(self._pool, calls, self._committer, lambda: self._watch.look(calls))
            if calls.stopped is not None and not preparing.done():
                reason = order.limits.reason(calls.stopped)
                raise RunError(f"{reason}. Nothing is generated yet: this was still being prepared")
            sources = await preparing
            self._count(calls)
        finally:
            preparing.cancel()
            called.cancel()
        order.lease.renew(force=True)
        commit_sources(place, sources)
        # Read back, so that a resumed run plans from the very same bytes.
        return read_sources(place) or {}


def _fleet(pool: Pool, ticker: Ticker) -> dict[str, Any]:
    """Return what the report says of the replicas; empty when none was needed."""
    loaded = list(pool.loaded.values())
    if not loaded:
        return {}
    return {
        "replicas": len(loaded),
        "seats": sum(each.seats for each in loaded),
        "in_flight": sum(each.in_flight for each in loaded),
        "facts": dict(loaded[0].facts),
        "occupancy": ticker.occupancy.share,
    }


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
            f"method {order.assignment.method.name} has too few items for {'; '.join(poor)}; "
            f"{order.assignment.method.for_more}, or lower targets.rows_per_label or targets.rows"
        )
