"""Teacher calls of a stage that is no method: through the replica pool, and kept in a ledger of their own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cluster.budget import open_budget
from cluster.errors import RunError
from cluster.ledger import Ledger
from cluster.pool import Pool, PoolSettings
from cluster.settings import digest
from jobs.stage import Stage
from synth.committer import Committer
from synth.method import Generate
from synth.past import read_past
from synth.pipeline import work
from synth.preparation import CallSource
from synth.records import Prompt, Reply, Sampling
from synth.replicas import RayFleet
from synth.rows import ledger_schema
from synth.teacher import TeacherSettings
from synth.ticker import Watch
from synth.worker import Assignment

T = TypeVar("T")


def pooled(
    stage: Stage,
    place: str,
    teacher: TeacherSettings,
    revision: str,
    asking: Callable[[Generate], Awaitable[T]],
) -> T:
    """Run a coroutine that asks a teacher, as many calls at once as it makes, and return its result.

    Replies are committed to `<place>/ledger/` in the run folder as they come: whoever asks the same of the
    same weights again, in the same order, is answered from there. The recipe's limits hold for each place by
    itself. Errors: RunError when a limit stops it, or when nothing is asked and nothing returned.
    """
    return asyncio.run(_Sitting(stage, place, teacher, revision).run(asking))


class _Sitting:
    """One sitting over the calls of a place."""

    def __init__(self, stage: Stage, place: str, teacher: TeacherSettings, revision: str) -> None:
        store, limits = stage.run.within(place), stage.recipe.limits
        schema = ledger_schema(stage.task.settings.fields)
        past = read_past(store, stage.task.labels)
        self._limits = limits
        self._what = f"{place}: {teacher.model} ({teacher.backend})"
        self._progress = stage.progress
        self._budget = open_budget(
            store, limits.currencies(), limits.amounts(), limits.spent_on(past.tokens), stage.lease
        )
        # Replicas build the recipe's method as ever; calls leave it alone.
        assignment = Assignment(
            stage.task, stage.recipe.method, teacher, revision, currencies=limits.currencies()
        )
        fleet = RayFleet(assignment)
        self._pool = Pool(fleet, PoolSettings(teacher.in_flight, teacher.hang_timeout), stage.progress.event)
        self._watch = Watch(limits, self._budget, self._pool, fleet.gpus)
        self._committer = Committer(Ledger(store, stage.lease, schema))
        key = digest([teacher.identity(), revision])
        self._calls = CallSource(key, self._committer, past.prepared, self._budget)
        self._asked = self._answered = 0

    async def run(self, asking: Callable[[Generate], Awaitable[T]]) -> T:
        calls = self._calls
        asked = asyncio.ensure_future(asking(self._generate))
        asked.add_done_callback(lambda _: calls.finish())
        called = asyncio.ensure_future(calls.called.wait())
        try:
            # Replicas are started only when something is asked that the ledger does not hold.
            await asyncio.wait({asked, called}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                self._progress.say(f"Teacher: loading for {self._what}")
                await work(self._pool, calls, self._committer, self._tick)
            if calls.stopped is not None and not asked.done():
                raise RunError(self._limits.reason(calls.stopped))
            return await asked
        finally:
            asked.cancel()
            called.cancel()
            await self._pool.close()
            self._budget.close_all()

    async def _generate(self, prompt: Prompt, sampling: Sampling) -> Reply:
        self._asked += 1
        reply = await self._calls.generate(prompt, sampling)
        self._answered += 1
        return reply

    def _tick(self) -> None:
        self._watch.look(self._calls)
        answered, asked = self._answered, self._asked
        told = f"{self._what}: {answered:,} of {asked:,} replies so far"
        self._progress.live("asking", told, answered=answered, asked=asked)
