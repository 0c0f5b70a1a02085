"""The bedrock teacher over real HTTP: what is sent, what is read, and what models do not take."""

import asyncio
import json
import logging

import pytest

from synth.records import Message, Reply, Sampling, Structure
from tests.bedrock_endpoint import (
    KEY,
    MODEL,
    PROMPT_TOKENS,
    REPLY_TOKENS,
    Answer,
    Asked,
    BedrockEndpoint,
    ask,
    converse,
    invalid,
    said,
    teacher,
    tool,
)

PERSON = Structure(json.dumps({"type": "object", "properties": {"name": {"type": "string"}}}))
WORDS = Structure(json.dumps({"type": "array", "items": {"type": "string"}}))
COLOUR = Structure(choices=("red", "dark blue"))


# --- what is sent and what is read


async def test_a_raw_prompt_is_the_one_message_of_a_user(server: BedrockEndpoint) -> None:
    (reply,) = await ask(
        server, "Write.", sampling=Sampling(0.7, 0.8, 50, ("\nReview:",)), extra={"top_k": 40}
    )
    assert reply == Reply("Re: Write..", "stop", PROMPT_TOKENS, REPLY_TOKENS)
    (asked,) = server.asked
    assert (asked.model, asked.path.rpartition("/")[2]) == (MODEL, "converse")
    assert asked.body == {
        "messages": [{"role": "user", "content": [{"text": "Write."}]}],
        "inferenceConfig": {"maxTokens": 50, "temperature": 0.7, "topP": 0.8, "stopSequences": ["\nReview:"]},
        "additionalModelRequestFields": {"top_k": 40},
    }
    assert KEY in asked.headers["Authorization"]


async def test_chats_keep_their_roles_and_neighbours_of_one_role_become_one_message(
    server: BedrockEndpoint,
) -> None:
    turns = (
        Message("system", "Be brief."), Message("user", "a"), Message("user", "b"), Message("assistant", "c"),
        Message("user", "d"),
    )  # fmt: skip
    await ask(server, turns)
    body = server.asked[0].body
    assert body["system"] == [{"text": "Be brief."}]
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "a"}, {"text": "b"}]},
        {"role": "assistant", "content": [{"text": "c"}]},
        {"role": "user", "content": [{"text": "d"}]},
    ]


async def test_the_first_stop_strings_are_sent_and_all_are_kept(server: BedrockEndpoint) -> None:
    stops = ("\n\n", "\nA:", "\nB:", "\nC:", "\nD:", "\nE:")
    server.answering = lambda asked: said("one\nE: two\nA: three", stop="max_tokens")
    (reply,) = await ask(server, "p", sampling=Sampling(stop=stops))
    assert server.asked[0].body["inferenceConfig"]["stopSequences"] == ["\nA:", "\nB:", "\nC:", "\nD:"]
    assert (reply.text, reply.finish_reason) == ("one", "stop")


@pytest.mark.parametrize(
    ("stop", "text", "finish"),
    [
        ("end_turn", "t", "stop"), ("stop_sequence", "t", "stop"), ("max_tokens", "t", "length"),
        ("model_context_window_exceeded", "t", "length"), ("guardrail_intervened", "", "stop"),
        ("content_filtered", "", "stop"), ("something_new", "t", "stop"),
    ],
)  # fmt: skip
async def test_why_a_reply_ended(server: BedrockEndpoint, stop: str, text: str, finish: str) -> None:
    server.next.append(said("t", stop=stop))
    (reply,) = await ask(server, "p")
    assert (reply.text, reply.finish_reason) == (text, finish)


async def test_a_reply_is_all_its_texts_and_nothing_else(server: BedrockEndpoint) -> None:
    thought = {"reasoningContent": {"reasoningText": {"text": "hm"}}}
    server.next.append(converse([thought, {"text": "a \ud83d"}, {"text": "b"}], cacheReadInputTokens=100))
    server.next.append(converse([]))
    first, second = await ask(server, "p"), await ask(server, "p")
    assert first == [Reply("a �b", "stop", PROMPT_TOKENS + 100, REPLY_TOKENS)]
    assert second[0].text == ""


# --- structured replies


async def test_a_structured_reply_is_the_input_of_a_forced_tool(server: BedrockEndpoint) -> None:
    server.next += [tool({"name": "Zoë", "age": 3}), tool({"value": ["a"]}), tool({"choice": "dark blue"})]
    replies = [
        (await ask(server, "p", sampling=Sampling(structure=form, stop=("\nA:", "name"))))[0]
        for form in (PERSON, WORDS, COLOUR)
    ]
    assert [reply.text for reply in replies] == ['{"age":3,"name":"Zoë"}', '["a"]', "dark blue"]
    assert {reply.finish_reason for reply in replies} == {"stop"}
    first, second, third = (asked.body["toolConfig"] for asked in server.asked)
    assert first["toolChoice"] == {"tool": {"name": "reply"}}
    schemas = [each["tools"][0]["toolSpec"]["inputSchema"]["json"] for each in (first, second, third)]
    assert schemas[0] == json.loads(PERSON.json_schema or "")
    assert schemas[1]["properties"] == {"value": json.loads(WORDS.json_schema or "")}
    assert schemas[2]["properties"]["choice"]["enum"] == ["red", "dark blue"]
    assert "stopSequences" not in server.asked[0].body["inferenceConfig"]


@pytest.mark.parametrize(
    ("answer", "text", "finish"),
    [
        (said("red"), "red", "stop"),
        (said('{"choice": "red"}'), "red", "stop"),
        (tool({"colour": "red"}), '{"colour":"red"}', "stop"),
        (tool("red"), "red", "stop"),
        (tool({"choice": 3}), "3", "stop"),
        (tool({}, stop="max_tokens"), "{}", "length"),
        (tool({"choice": "red"}, name="other"), "I will.", "stop"),
    ],
)
async def test_a_model_that_does_not_keep_to_the_form_is_read_all_the_same(
    server: BedrockEndpoint, answer: Answer, text: str, finish: str
) -> None:
    server.next.append(answer)
    (reply,) = await ask(server, "p", sampling=Sampling(structure=COLOUR))
    assert (reply.text, reply.finish_reason) == (text, finish)


def without_tools(asked: Asked) -> Answer:
    config = asked.body.get("toolConfig")
    if config is None:
        return said("red")
    if "tool" in config["toolChoice"]:
        return invalid(
            "This model doesn't support the toolConfig.toolChoice.tool field. Remove it and try again."
        )
    return invalid("This model doesn't support tool use.")


async def test_a_model_without_tools_is_asked_in_the_prompt_alone_from_then_on(
    server: BedrockEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    server.answering = without_tools
    engine = await teacher(server.url).engine()
    for _ in range(3):
        reply = await engine.generate("p", Sampling(structure=COLOUR, stop=("\nA:",)), 0)
        assert reply.text == "red"
    await engine.close()
    sent = [asked.body.get("toolConfig", {}).get("toolChoice") for asked in server.asked]
    assert sent == [{"tool": {"name": "reply"}}, {"any": {}}, None, None, None]
    assert [record.levelno for record in caplog.records if "does not take" in record.message] == [
        logging.WARNING,
        logging.WARNING,
    ]


async def test_a_schema_that_is_not_taken_is_left_out_and_others_are_not(server: BedrockEndpoint) -> None:
    def answer(asked: Asked) -> Answer:
        if "array" in json.dumps(asked.body.get("toolConfig", {})):
            return invalid("toolConfig.tools.0.toolSpec.inputSchema.json: items is not supported in a schema")
        return tool({"choice": "red"}) if "toolConfig" in asked.body else said("[]")

    server.answering = answer
    engine = await teacher(server.url).engine()
    texts = [
        (await engine.generate("p", Sampling(structure=form), 0)).text for form in (WORDS, COLOUR, WORDS)
    ]
    await engine.close()
    assert texts == ["[]", "red", "[]"]
    assert len(server.asked) == 4


# --- what models do not take


@pytest.mark.parametrize(
    ("message", "missing"),
    [
        ("`temperature` and `top_p` cannot both be specified for this model. Please use only one.", "topP"),
        ("This model doesn't support the topP field. Remove topP and try again.", "topP"),
        ("This model doesn’t support the stopSequences field.", "stopSequences"),
        ("`temperature` is deprecated for this model.", "temperature"),
    ],
)
async def test_what_a_model_does_not_take_is_left_out_from_then_on(
    server: BedrockEndpoint, message: str, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.answering = lambda asked: (
        invalid(message) if missing in asked.body["inferenceConfig"] else said("x\nA: y")
    )
    engine = await teacher(server.url, attempts=1).engine()
    sampling = Sampling(stop=("\nA:",))
    replies = await asyncio.gather(*(engine.generate("p", sampling, 0) for _ in range(4)))
    sent = len(server.asked)
    replies.append(await engine.generate("p", sampling, 0))
    await engine.close()
    assert {reply.text for reply in replies} == {"x"}
    assert len(server.asked) == sent + 1
    assert len([record for record in caplog.records if "does not take" in record.message]) == 1
    kept = {"maxTokens", "temperature", "topP", "stopSequences"} - {missing}
    assert set(server.asked[-1].body["inferenceConfig"]) >= kept - {"topP"}


async def test_system_messages_are_put_before_the_users_where_there_are_none(server: BedrockEndpoint) -> None:
    server.answering = lambda asked: (
        invalid("This model doesn't support system messages. Try again without a system message.")
        if "system" in asked.body
        else said("x")
    )
    await ask(server, (Message("system", "s"), Message("user", "u")))
    assert server.asked[-1].body["messages"] == [{"role": "user", "content": [{"text": "s"}, {"text": "u"}]}]
