"""A teacher replica: one engine, and many items worked against it at once."""

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from cluster.errors import ModelError
from cluster.pool import Outcome
from synth.method import MethodSettings
from synth.records import (
    Author,
    Call,
    Item,
    Prompt,
    Reply,
    Sampling,
    Usage,
    failed_row,
    ledger_schema,
    prepared_row,
    prompt_hash,
    settled_rows,
)
from synth.task import Task
from synth.teacher import Engine, EngineDied, TeacherSettings

BEAT_SECONDS = 1.0
LINGER_SECONDS = 0.02
"""After the first finished item an exchange waits so long for others, to save round trips."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a replica is to do: method, teacher and task, as validated on the driver."""

    task: Task
    method: MethodSettings
    teacher: TeacherSettings
    revision: str
    """Revision of the teacher that the run was begun with."""


class Worker:
    """The body of the replica actor."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._method = assignment.method.build(assignment.task)
        self._schema = ledger_schema(assignment.task.settings.fields)
        self._engine: Engine | None = None
        self._author = Author(assignment.method.name, assignment.teacher.model, assignment.revision)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._rows: list[dict[str, object]] = []
        self._settled: list[str] = []
        self._errors: list[tuple[str, str]] = []
        self._timed_out: list[str] = []
        self._finished = asyncio.Event()

    async def load(self) -> str:
        """Load the engine and return the id of the node that it runs on."""
        import ray

        self._engine = await self._assignment.teacher.engine()
        if self._engine.revision != self._assignment.revision:
            raise ModelError(
                f"teacher {self._assignment.teacher.model}: revision {self._engine.revision} is on this "
                f"node, {self._assignment.revision} where the run was begun; give all nodes the same files"
            )
        return str(ray.get_runtime_context().get_node_id())

    async def exchange(self, items: Sequence[Item | Call], hurry: bool = False) -> Outcome:
        """Take items in; return what is finished, after one beat at the latest, at once in a hurry."""
        for item in items:
            self._tasks[item.id] = asyncio.create_task(self._work(item))
        if not hurry and not self._finished.is_set():
            await self._wait()
        rows = pa.RecordBatch.from_pylist(self._rows, schema=self._schema) if self._rows else None
        outcome = Outcome(rows, tuple(self._settled), tuple(self._errors), tuple(self._timed_out))
        self._forget()
        return outcome

    async def drop(self) -> None:
        """Give up what is under way: it is not needed any more."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._forget()

    async def stop(self) -> None:
        """Free the engine; the replica is ended next."""
        await self.drop()
        if self._engine is not None:
            await self._engine.close()

    def _forget(self) -> None:
        self._rows, self._settled, self._errors, self._timed_out = [], [], [], []
        self._finished.clear()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(BEAT_SECONDS):
                await self._finished.wait()
        except TimeoutError:
            return
        await asyncio.sleep(LINGER_SECONDS)

    async def _work(self, item: Item | Call) -> None:
        try:
            async with asyncio.timeout(self._assignment.teacher.item_timeout):
                rows = await (self._call(item) if isinstance(item, Call) else self._examples(item))
        except EngineDied:
            # An actor that lives on with a dead engine would be given the same items for ever.
            log.exception("the engine died; the replica ends")
            os._exit(1)
        except TimeoutError:
            self._errors.append((item.id, f"no reply within {self._assignment.teacher.item_timeout:.0f} s"))
            self._timed_out.append(item.id)
        except Exception as error:  # Whatever a method or an engine raises settles this item alone.
            log.exception("item %s failed", item.id)
            self._errors.append((item.id, f"{type(error).__name__}: {str(error)[:300]}"))
        else:
            self._rows += rows
            self._settled.append(item.id)
        self._tasks.pop(item.id, None)
        self._finished.set()

    async def _examples(self, item: Item) -> list[dict[str, object]]:
        calls: list[Usage] = []

        async def generate(prompt: Prompt, sampling: Sampling) -> Reply:
            reply = await self._generate(prompt, sampling, int(item.id[:12], 16) + len(calls))
            calls.append(Usage(prompt_hash(prompt), sampling, reply.prompt_tokens, reply.reply_tokens))
            return reply

        outcomes = await self._method.examples(item, generate)
        if not outcomes:
            return [failed_row(item, "the method returned nothing", self._author)]
        return settled_rows(item, outcomes, calls, self._author, "text")

    async def _call(self, call: Call) -> list[dict[str, object]]:
        reply = await self._generate(call.prompt, call.sampling, int(call.id[:12], 16))
        return [prepared_row(call, reply, self._author)]

    async def _generate(self, prompt: Prompt, sampling: Sampling, seed: int) -> Reply:
        if self._engine is None:
            raise RuntimeError("the replica was given work before it was loaded")
        return await self._engine.generate(prompt, sampling, seed)
