"""Faults on order: each is taken by one engine, which then misbehaves as the order's kind says."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from synth.records import Reply, Sampling
from synth.teacher import EngineDied
from synth.teachers import scripted_orders
from synth.teachers.scripted import ScriptedEngine, ScriptedSettings
from synth.teachers.scripted_orders import KINDS, take

PROMPT = "Write a headline about sport.\nHeadline:"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted_orders, "LOOK_SECONDS", 0.01)


async def engine_in(folder: Path, seconds: float = 0.2) -> ScriptedEngine:
    engine = await ScriptedSettings(orders=folder, seconds=seconds).engine()
    assert isinstance(engine, ScriptedEngine)
    return engine


def call(engine: ScriptedEngine, seed: int = 0) -> asyncio.Task[Reply]:
    return asyncio.ensure_future(engine.generate(PROMPT, Sampling(), seed))


async def outcomes(*calls: asyncio.Task[Reply]) -> list[str]:
    done = await asyncio.gather(*(asyncio.wait_for(each, 1) for each in calls), return_exceptions=True)
    return [type(each).__name__ for each in done]


async def ordered(folder: Path, kind: str) -> None:
    """Give an order and wait until somebody has taken it."""
    (folder / f"{kind}-1").touch()
    while (folder / f"{kind}-1").exists():
        await asyncio.sleep(0.01)


def test_an_order_is_taken_once_and_kept_with_the_process_that_took_it(tmp_path: Path) -> None:
    (tmp_path / "out-of-memory-0007").touch()
    (tmp_path / "note.txt").touch()
    assert [take(tmp_path), take(tmp_path)] == ["out-of-memory", None]
    assert (tmp_path / "taken" / "out-of-memory-0007").read_text() == str(os.getpid())
    assert take(tmp_path / "nowhere") is None


async def test_of_many_engines_one_breaks_and_the_others_work_on(tmp_path: Path) -> None:
    engines = [await engine_in(tmp_path) for _ in range(5)]
    await ordered(tmp_path, "engine-dies")
    assert sorted(await outcomes(*map(call, engines))) == ["EngineDied"] + ["Reply"] * 4


async def test_a_dead_engine_fails_the_calls_under_way_and_every_later_one(tmp_path: Path) -> None:
    engine = await engine_in(tmp_path)
    under_way = call(engine)
    await ordered(tmp_path, "engine-dies")
    assert await outcomes(under_way, call(engine)) == ["EngineDied"] * 2
    with pytest.raises(EngineDied, match="the order says"):
        await call(engine)


async def test_a_hung_engine_answers_neither_calls_under_way_nor_later_ones(tmp_path: Path) -> None:
    engine = await engine_in(tmp_path)
    under_way = call(engine)
    await ordered(tmp_path, "engine-hangs")
    assert await outcomes(under_way, call(engine)) == ["TimeoutError"] * 2


async def test_memory_runs_out_for_the_calls_under_way_and_no_others(tmp_path: Path) -> None:
    engine = await engine_in(tmp_path)
    under_way = call(engine), call(engine, 1)
    await ordered(tmp_path, "out-of-memory")
    assert await outcomes(*under_way, call(engine, 2)) == ["MemoryError", "MemoryError", "Reply"]
    await engine.close()


async def test_an_order_to_raise_fails_the_next_call_alone(tmp_path: Path) -> None:
    engine = await engine_in(tmp_path)
    under_way = call(engine)
    await ordered(tmp_path, "raise")
    assert await outcomes(under_way, call(engine, 1), call(engine, 2)) == ["Reply", "RuntimeError", "Reply"]
    await engine.close()


async def test_orders_end_and_freeze_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, float]] = []
    monkeypatch.setattr(time, "sleep", lambda seconds: called.append(("sleep", seconds)))
    monkeypatch.setattr(os, "_exit", lambda code: called.append(("exit", code)))
    engine = await engine_in(tmp_path)
    await ordered(tmp_path, "die")
    await ordered(tmp_path, "freeze")
    assert called == [("exit", 1), ("sleep", 3600)]
    await engine.close()


def test_where_orders_come_from_is_no_part_of_the_revision(tmp_path: Path) -> None:
    assert ScriptedSettings(orders=tmp_path).check() == ScriptedSettings().check()
    assert len(KINDS) == 6
