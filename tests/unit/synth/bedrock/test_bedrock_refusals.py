"""The bedrock teacher over real HTTP: what ends a run and what an item, no secret shown; and its settings."""

import logging
import socket
from typing import Any

import pytest

from cluster.errors import ModelError, SettingsError
from cluster.settings import validate
from synth.records import Message, Prompt, Sampling
from synth.teacher import TeacherRefuses, TeacherSettings
from synth.teachers import bedrock_engine
from synth.teachers.bedrock_backend import BedrockSettings
from synth.teachers.patience import NoReply
from synth.teachers.scripted import Words
from tests.bedrock_endpoint import (
    KEY,
    MODEL,
    SAMPLING,
    SECRET,
    SESSION,
    THROTTLED,
    Answer,
    BedrockEndpoint,
    ask,
    error,
    invalid,
    page,
    said,
    teacher,
)


async def refusal(server: BedrockEndpoint, prompt: Prompt = "p", **more: Any) -> str:
    with pytest.raises(TeacherRefuses) as refused:
        await ask(server, prompt, **more)
    assert refused.value.__cause__ is None
    return str(refused.value)


# --- what ends the run, and what ends one item


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        (error(403, "UnrecognizedClientException"), ["credentials are not accepted", "AWS_ACCESS_KEY_ID"]),
        (error(403, "InvalidSignatureException"), ["credentials are not accepted", "clock"]),
        (error(403, "ExpiredTokenException"), ["have expired", "renew"]),
        (
            error(
                403,
                "AccessDeniedException",
                "You don't have access to the model with the specified model ID.",
            ),
            ["access to anthropic.claude-3", "bedrock:InvokeModel", "teacher.model"],
        ),
        (
            error(404, "ResourceNotFoundException", "Could not resolve the foundation model"),
            ["no model", "Could not resolve", "teacher.model"],
        ),
        (invalid("The provided model identifier is invalid."), ["mend teacher.model"]),
        (
            invalid(
                "Invocation of model ID x with on-demand throughput isn’t supported. Retry your request with "
                "the ID or ARN of an inference profile that contains this model."
            ),
            ["inference profile", "mend teacher.model"],
        ),
        (
            invalid("The maximum tokens you requested exceeds the model limit of 4096."),
            ["method.sampling.max_tokens", "lower it"],
        ),
        (
            error(429, "ThrottlingException", "Too many tokens per day, please wait before trying again."),
            ["quota of the day", "goes on from here"],
        ),
        (page(404), ["teacher.endpoint_url"]),
        (page(403), ["is denied"]),
        (Answer(301, b"", {"Location": "http://127.0.0.1:9/"}), ["teacher.endpoint_url"]),
    ],
    ids=lambda value: value[0][:20] if isinstance(value, list) else "",
)
async def test_what_will_never_be_answered_ends_the_run_at_once(
    server: BedrockEndpoint, answer: Answer, parts: list[str]
) -> None:
    server.answering = lambda asked: answer
    message = await refusal(server)
    assert [part for part in parts if part not in message] == [], message
    assert len(server.asked) == 1
    assert "<html" not in message


async def test_extra_fields_and_temperatures_that_no_model_takes_name_their_setting(
    server: BedrockEndpoint,
) -> None:
    server.answering = lambda asked: invalid(
        "Malformed input request: #: extraneous key [top_q] is not permitted"
    )
    assert "refuses teacher.extra" in await refusal(server, extra={"top_q": 1})
    assert "method.sampling.temperature: is 1.3" in await refusal(server, sampling=Sampling(1.3))


async def test_after_a_refusal_every_call_is_refused_without_asking(server: BedrockEndpoint) -> None:
    server.answering = lambda asked: error(403, "ExpiredTokenException")
    engine = await teacher(server.url).engine()
    for _ in range(3):
        with pytest.raises(TeacherRefuses):
            await engine.generate("p", SAMPLING, 0)
    await engine.close()
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        invalid("Input is too long for requested model."),
        invalid("input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000"),
        invalid("The text field in the ContentBlock object at messages.0.content.0 is blank."),
        Answer(413, b"<html>Request Entity Too Large</html>", {"Content-Type": "text/html"}),
    ],
    ids=range(4),
)
async def test_a_prompt_that_is_refused_fails_its_item_alone(server: BedrockEndpoint, answer: Answer) -> None:
    server.answering = lambda asked: answer if asked.prompt == "bad" else said("x")
    engine = await teacher(server.url).engine()
    with pytest.raises(NoReply, match="this prompt is refused"):
        await engine.generate("bad", SAMPLING, 0)
    assert (await engine.generate("good", SAMPLING, 0)).text == "x"
    await engine.close()
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (page(200), "without a reply"),
        (said("late", after=30), "no answer in time"),
        (error(500, "InternalServerException"), "500 InternalServerException"),
    ],
    ids=["page", "nothing", "500"],
)
async def test_an_endpoint_that_never_gave_a_reply_ends_the_run(
    server: BedrockEndpoint, answer: Answer, said: str
) -> None:
    server.answering = lambda asked: answer
    message = await refusal(server, attempts=2, timeout=0.3)
    assert "gave no reply at all" in message
    assert said in message
    assert "teacher.endpoint_url" in message
    assert len(server.asked) == 2


async def test_a_closed_port_ends_the_run() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        engine = await teacher(f"http://127.0.0.1:{taken.getsockname()[1]}", attempts=2).engine()
        with pytest.raises(TeacherRefuses, match=r"cannot be reached .EndpointConnectionError"):
            await engine.generate("p", SAMPLING, 0)
        await engine.close()


async def test_an_account_without_a_quota_is_told_from_one_that_is_busy(server: BedrockEndpoint) -> None:
    server.answering = lambda asked: THROTTLED
    message = await refusal(server, attempts=3, outage=0.05)
    assert "let no call through at all" in message
    assert "AWS Service Quotas" in message


async def test_no_credentials_and_half_of_them_end_the_run(
    server: BedrockEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    message = await refusal(server)
    assert "no credentials were found" in message
    assert "AWS_PROFILE" in message
    assert server.asked == []


# --- secrets


@pytest.mark.parametrize(
    "make",
    [
        lambda words: error(403, "InvalidSignatureException", words),
        lambda words: error(403, "AccessDeniedException", words),
        lambda words: error(404, "ResourceNotFoundException", words),
        lambda words: error(500, "InternalServerException", words),
        lambda words: error(418, "Teapot", words),
        lambda words: Answer(200, words.encode()),
        lambda words: Answer(403, words.encode()),
        lambda words: Answer(500, f"<html>{words}</html>".encode()),
        invalid,
    ],
    ids=range(9),
)
async def test_no_key_is_ever_shown(
    server: BedrockEndpoint, make: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    words = f"It was signed by {KEY} {SESSION}.\n\nx-amz-security-token:{SESSION}\n{SECRET} {SECRET[:20]}"
    server.answering = lambda asked: make(words)
    caplog.set_level(logging.INFO)
    with pytest.raises((TeacherRefuses, NoReply)) as raised:
        await ask(server, "p", attempts=2)
    logging.getLogger("synth").error("item failed", exc_info=raised.value)
    shown = caplog.text + "".join(capfd.readouterr()) + repr(raised.value)
    for secret in (KEY, SECRET, SESSION):
        assert secret not in shown
        assert secret[:12] not in shown


async def test_a_bearer_token_is_neither_shown_nor_sent_in_the_open(
    server: BedrockEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "bedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t"
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", token)
    message = await refusal(server)
    assert "needs an https address; mend teacher.endpoint_url" in message
    assert token[:20] not in message
    assert server.asked == []


# --- settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"endpoint_url": "https://me:hunter2@host"}, "secrets stay out"),
        ({"endpoint_url": "https://host/?X-Amz-Security-Token=hunter2"}, "secrets stay out"),
        ({"endpoint_url": "ftp://hunter2"}, "give an address"),
        ({"endpoint_url": "https://[hunter2"}, "give an address"),
        ({"extra": {"a": [{"aws_secret_access_key": "hunter2"}]}}, "secrets stay out"),
        ({"extra": {"top_p": 0.5}}, "method.sampling.top_p"),
        ({"extra": {"stop_sequences": ["hunter2"]}}, "method.stop"),
        ({"aws_access_key_id": "x"}, "unknown key"),
        ({"model": ""}, "model"),
        ({"model": "two words"}, "model"),
        ({"concurrency": 0}, "concurrency"),
        ({"replicas": None}, "replicas"),
    ],
    ids=range(12),
)
def test_settings_that_cannot_be_right_are_refused_without_showing_a_secret(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        validate(BedrockSettings, {"backend": "bedrock", "model": MODEL} | given, "r.yaml")
    assert "hunter2" not in str(refused.value)


def test_identity_is_what_determines_a_text_and_checking_asks_nobody() -> None:
    plain = teacher()
    same = teacher(
        "http://localhost:1", concurrency=3, region="eu-west-1", requests_per_minute=5.0, attempts=2
    )
    assert plain.check() == same.check() == same.model_copy(update={"timeout": 3.0}).check()
    others = [teacher(extra={"top_k": 3}), teacher(model="amazon.nova-lite-v1:0")]
    assert len({plain.check(), *(other.check() for other in others)}) == 3
    assert (plain.gpus(), plain.replicas) == (0.0, 1)
    assert isinstance(plain, TeacherSettings)


def test_the_region_is_the_settings_the_arns_or_that_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    arn = "arn:aws:bedrock:eu-west-3:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-v1:0"
    assert teacher(region="us-west-2", model=arn).resolved_region() == "us-west-2"
    assert teacher(region=None, model=arn).resolved_region() == "eu-west-3"
    with pytest.raises(ModelError, match=r"set teacher\.region"):
        teacher(region=None).check()
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    assert teacher(region=None).resolved_region() == "ap-south-1"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ModelError, match=r"teacher\.region: the AWS configuration cannot be read"):
        teacher(region=None).check()


async def test_an_arn_is_sent_whole_and_a_profile_that_is_not_there_is_told_when_loading(
    server: BedrockEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"
    await ask(server, "p", model=arn)
    assert server.asked[0].model == arn
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(
        ModelError, match=r"boto3 cannot use it .The config profile .nobody. could not be found"
    ):
        await teacher(server.url).engine()


@pytest.mark.parametrize("prompt", ["é" * 1000, "a", (Message("system", "s"), Message("user", "🎉" * 9))])
async def test_a_prompt_never_has_more_tokens_than_is_reserved_for_it(prompt: Prompt) -> None:
    engine = await teacher().engine()
    text = prompt if isinstance(prompt, str) else "".join(turn.content for turn in prompt)
    assert engine.prompt_tokens(prompt) >= len(text.encode()) + 16
    capacity = engine.capacity()
    assert (capacity.in_flight, capacity.seats) == (24, 16)
    assert capacity.facts["structured"] == "tool"
    await engine.close()


async def test_a_named_tokenizer_counts_and_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bedrock_engine, "NamedTokenizer", lambda name: Words())
    monkeypatch.setattr(BedrockSettings, "check", lambda self: "r1")
    engine = await teacher(tokenizer_model="package:some/model").engine()
    plain = await teacher().engine()
    assert 40 < engine.prompt_tokens("word " * 40) < plain.prompt_tokens("word " * 40)
    await engine.close()
    await plain.close()
