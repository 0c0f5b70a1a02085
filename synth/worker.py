"""A teacher replica: one engine, and many items worked against it at once."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.errors import ModelError
from cluster.purse import Currency, Purse
from cluster.work import Loaded, Outcome, Vitals
from synth.calling import Caller, idle_vitals
from synth.filters.settings import FilterSettings
from synth.filters.sieve import Sieve
from synth.item_clock import ItemClock
from synth.judge import Judge, JudgeSettings
from synth.method import Generate, MethodSettings
from synth.records import Author, Call, Item, Prompt, Reply, Sampling, Usage, prompt_hash
from synth.rows import as_batch, failed_row, ledger_schema, prepared_row, settled_rows
from synth.task import Gold, Task
from synth.teacher import Engine, TeacherRefuses, TeacherSettings

BEAT_SECONDS = 1.0
LINGER_SECONDS = 0.02
"""After the first finished item an exchange waits at most so long for others, to save round trips."""
UNHURRIED_SECONDS = 0.5
"""The same while the engine has `ENOUGH` requests in line: it does not miss what the driver would send."""
ENOUGH = 16
"""Finished items that are worth a round trip without waiting for more."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a replica is to do: method, teacher and task, as validated on the driver."""

    task: Task
    method: MethodSettings
    teacher: TeacherSettings
    revision: str
    """Revision of the teacher that the run was begun with."""
    currencies: tuple[Currency, ...] = ()
    """What calls are paid in; without any, nothing limits them."""
    filters: FilterSettings = field(default_factory=FilterSettings)
    test: tuple[Gold, ...] = ()
    """Gold test rows, which no accepted text may copy; no teacher is shown them."""
    judge: JudgeSettings | None = None
    judge_revision: str = ""
    """Revision of the judge's own teacher, if it has one."""
    judge_rates: tuple[Currency, ...] = ()
    """What calls of the judge's own teacher cost, in the same currencies."""


class Worker:
    """The body of the replica actor."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._method = assignment.method.build(assignment.task)
        self._sieve = Sieve(assignment.filters, assignment.task, assignment.test)
        self._schema = ledger_schema(assignment.task.settings.fields)
        self._author = Author(assignment.method.name, assignment.teacher.model, assignment.revision)
        self._judge = Judge(assignment.judge, assignment.task) if assignment.judge else None
        self._caller: Caller | None = None
        self._judge_caller: Caller | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._made: list[tuple[str, list[dict[str, Any]]]] = []
        self._errors: list[tuple[str, str]] = []
        self._timed_out: list[str] = []
        self._hopeless: str | None = None
        self._news = asyncio.Event()
        self._plenty = asyncio.Event()

    async def where(self) -> str:
        """Return the id of the node that the replica was placed on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    async def load(self) -> Loaded:
        """Load the engine; ModelError when its weights are not those that the run was begun with."""
        teacher, judge = self._assignment.teacher, self._assignment.judge
        engine = await _loaded(teacher, self._assignment.revision)
        purse = Purse(self._assignment.currencies)
        self._caller = self._judge_caller = Caller(engine, purse, self._news)
        if judge is not None and judge.teacher is not None:
            second = await _loaded(judge.teacher, self._assignment.judge_revision)
            self._judge_caller = Caller(second, purse, self._news, self._assignment.judge_rates)
        capacity = engine.capacity()
        return Loaded(
            await self.where(), teacher.in_flight or capacity.in_flight, capacity.seats, capacity.facts
        )

    async def exchange(
        self, items: Sequence[Item | Call], hurry: bool = False, granted: Sequence[float] = ()
    ) -> Outcome:
        """Take items and a grant; return what is finished, after one beat at the latest, at once in a hurry.

        `granted` is what may be spent in all since the replica was loaded, in each currency.
        """
        if granted and self._caller is not None:
            self._caller.purse.grant(granted)
        for item in items:
            self._tasks[item.id] = asyncio.create_task(self._work(item))
        if not hurry and not self._news.is_set():
            await self._wait()
        rows, settled, refused = as_batch(self._made, self._schema)
        errors = (*self._errors, *refused)
        outcome = Outcome(rows, settled, errors, tuple(self._timed_out), self._hopeless, self._vitals())
        self._forget()
        return outcome

    async def drop(self) -> Vitals:
        """Give up what is under way, as it is not needed any more; return the last account."""
        calling = [task for caller in self._callers() for task in caller.tasks]
        tasks = [task for task in {*self._tasks.values(), *calling} if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._forget()
        if self._caller is not None:
            # The driver takes what is not used for its own again: it must not be spent here as well.
            self._caller.purse.give_back()
        return self._vitals()

    async def stop(self) -> None:
        """Free the engine; the replica is ended next."""
        await self.drop()
        for caller in self._callers():
            await caller.engine.close()

    def _callers(self) -> list[Caller]:
        """Return the teacher's caller, and that of a judge with a teacher of its own."""
        return list(dict.fromkeys(each for each in (self._caller, self._judge_caller) if each is not None))

    def _vitals(self) -> Vitals:
        return self._caller.vitals() if self._caller else idle_vitals(self._assignment.currencies)

    def _forget(self) -> None:
        self._made, self._errors, self._timed_out = [], [], []
        self._news.clear()
        self._plenty.clear()

    async def _wait(self) -> None:
        if await _within(BEAT_SECONDS, self._news) and self._tasks:
            vitals = self._vitals()
            unhurried = vitals.waiting >= ENOUGH and not vitals.blocked
            await _within(UNHURRIED_SECONDS if unhurried else LINGER_SECONDS, self._plenty)

    async def _work(self, item: Item | Call) -> None:
        clock = ItemClock(self._assignment.teacher.item_timeout)
        try:
            async with clock:
                work = self._call(item, clock) if isinstance(item, Call) else self._examples(item, clock)
                rows = await work
        except TeacherRefuses as error:
            # The item is innocent: it stays with the driver, which ends the run.
            self._hopeless = str(error)
        except Exception as error:  # Whatever a method or an engine raises settles this item alone.
            self._give_up(item, error, clock.expired)
        else:
            self._made.append((item.id, rows))
        self._tasks.pop(item.id, None)
        self._news.set()
        if not self._tasks or self._hopeless or len(self._made) >= ENOUGH:
            self._plenty.set()

    def _give_up(self, item: Item | Call, error: Exception, expired: bool) -> None:
        if expired:
            seconds = self._assignment.teacher.item_timeout
            self._errors.append((item.id, f"no reply within {seconds:.0f} s"))
            self._timed_out.append(item.id)
        else:
            log.error("item %s failed", item.id, exc_info=error)
            self._errors.append((item.id, f"{type(error).__name__}: {str(error)[:300]}"))

    async def _examples(self, item: Item, clock: ItemClock) -> list[dict[str, Any]]:
        calls: list[Usage] = []

        def asking(caller: Caller | None) -> Generate:
            own = caller is not self._caller

            async def generate(prompt: Prompt, sampling: Sampling) -> Reply:
                seed = int(item.id[:12], 16) + len(calls)
                reply = await self._generate(caller, prompt, sampling, seed, clock)
                tokens = reply.prompt_tokens, reply.reply_tokens
                calls.append(Usage(prompt_hash(prompt), sampling, *tokens, judge=own))
                return reply

            return generate

        outcomes = self._sieve.sift(item, await self._method.examples(item, asking(self._caller)))
        if self._judge is not None:
            outcomes = await self._judge.review(outcomes, asking(self._judge_caller))
        if not outcomes:
            return [failed_row(item, "the method returned nothing", self._author)]
        return settled_rows(item, outcomes, calls, self._author, "text")

    async def _call(self, call: Call, clock: ItemClock) -> list[dict[str, Any]]:
        reply = await self._generate(self._caller, call.prompt, call.sampling, int(call.id[:12], 16), clock)
        return [prepared_row(call, reply, self._author)]

    async def _generate(
        self, caller: Caller | None, prompt: Prompt, sampling: Sampling, seed: int, clock: ItemClock
    ) -> Reply:
        if caller is None:
            raise RuntimeError("the replica was given work before it was loaded")
        return await caller.generate(prompt, sampling, seed, clock)


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Wait for an event for so long at most; say whether it came."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


async def _loaded(teacher: TeacherSettings, revision: str) -> Engine:
    """Load an engine; ModelError when its weights are not those that the run was begun with."""
    engine = await teacher.engine()
    if engine.revision != revision:
        raise ModelError(
            f"teacher {teacher.model}: revision {engine.revision} is on this node, {revision} where the run "
            "was begun; give all nodes the same files"
        )
    return engine
