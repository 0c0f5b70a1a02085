"""The teacher that is none: found by name, loaded at once, and deaf."""

import asyncio

import pytest
from pydantic import TypeAdapter, ValidationError

from cluster.registry import one_of
from synth.records import Message, Sampling
from synth.teacher import TeacherRefuses, TeacherSettings
from synth.teachers.none_backend import NoneSettings

TEACHERS: TypeAdapter[TeacherSettings] = TypeAdapter(one_of(TeacherSettings, "synth.teachers", "backend"))


def test_a_recipe_names_it_by_its_backend_alone() -> None:
    teacher = TEACHERS.validate_python({"backend": "none"})
    assert teacher == NoneSettings()
    assert teacher.resolve() is teacher
    assert teacher.identity() == {"backend": "none", "model": "none"}
    assert (teacher.check(), teacher.abilities, teacher.gpus()) == ("none", frozenset(), 0)
    with pytest.raises(ValidationError):
        TEACHERS.validate_python({"backend": "none", "model": "gpt2"})


def test_its_engine_is_of_the_revision_that_was_checked_and_counts_words() -> None:
    settings = NoneSettings()
    engine = asyncio.run(settings.engine())
    assert engine.revision == settings.check()
    capacity = engine.capacity()
    assert capacity.in_flight >= capacity.seats >= 1 and engine.busy() == (0, 0)
    assert engine.prompt_tokens((Message("user", "four words in all"),)) == 5
    assert settings.tokenizer().cut("one two three", 2) == "one two"
    asyncio.run(engine.close())


def test_asking_it_ends_the_run_with_the_remedy() -> None:
    engine = asyncio.run(NoneSettings().engine())
    with pytest.raises(TeacherRefuses, match=r"backend: none answers no call.*name a backend that writes"):
        asyncio.run(engine.generate("Write.", Sampling(), 0))
