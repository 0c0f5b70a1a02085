"""Dictionaries of texts by label: keys that any labels survive, and replies read as they are meant."""

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.dictionaries import LONGEST_KEY, Dictionary, Keys, plain_keys, read_dictionary
from synth.structured import Unparsed

LABELS = ("Love", "Joy", "Other")
EMOTIONS = Keys.of(plain_keys(LABELS))
ALL = {"Love": "a b", "Joy": "c d", "Other": "e f"}
MARKS = "{}[]\"'\\:,`“”’ \nab1-/*#tn\x00\ud800é体"
ACCEPTED = re.compile(r"[a-zA-Z0-9_.-]{1,64}")


def values(text: str, whole: bool = True, keys: Keys = EMOTIONS) -> Any:
    found = read_dictionary(text, keys, whole)
    return found.values if isinstance(found, Dictionary) else found.reason


@pytest.mark.parametrize(
    ("labels", "keys"),
    [
        (("World", "not_spam", "v1.5-b", "1"), ["World", "not_spam", "v1.5-b", "1"]),
        (("Office Holder", "Sci/Tech", " a  b ", "Café"), ["Office_Holder", "Sci_Tech", "a_b", "Cafe"]),
        (('say "hi"', "{{ x }}", "#3", "two\nlines"), ["say_hi", "x", "3", "two_lines"]),
        (("体育", "Спорт", "naïve 体", "+"), ["class_1", "class_2", "class_3", "class_4"]),
        (("C", "C++", "C#", "D"), ["class_1", "class_2", "class_3", "D"]),
        (("US", "us", "class_2", "x" * (LONGEST_KEY + 1)), ["class_1", "class_2", "class_3", "class_4"]),
    ],
)
def test_a_key_is_the_name_where_it_is_plain_and_a_number_elsewhere(
    labels: tuple[str, ...], keys: list[str]
) -> None:
    assert plain_keys(labels) == dict(zip(labels, keys, strict=True))


@settings(deadline=None)
@given(st.lists(st.text(min_size=1, max_size=60) | st.text("aA_ #1{", min_size=1), unique=True, max_size=80))
def test_any_labels_get_keys_of_their_own_that_every_endpoint_takes(labels: list[str]) -> None:
    keys = plain_keys(labels)
    assert list(keys) == labels
    assert len({key.casefold() for key in keys.values()}) == len(labels)
    assert all(ACCEPTED.fullmatch(key) for key in keys.values())
    read = Keys.of(keys)
    assert [read.label(key) for key in keys.values()] == labels
    reply = json.dumps({key: f"text {place}" for place, key in enumerate(keys.values())})
    if labels:
        assert values(reply, keys=read) == {label: f"text {place}" for place, label in enumerate(labels)}


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ("Love", "Love"),
        (" love: ", "Love"),
        ("OTHER", "Other"),
        ("the joy", None),
        ("", None),
        ("sci-tech", "Sci/Tech"),
        ("Sci_Tech", "Sci/Tech"),
        ("class_5", "体育"),
        ("体育", "体育"),
        ("us", "us"),
        ("US", "US"),
        ("Us", None),
    ],
)
def test_a_key_means_the_one_label_that_has_its_words(given: str, label: str | None) -> None:
    keys = plain_keys((*LABELS, "Sci/Tech", "体育", "us", "US"))
    assert Keys.of(keys).label(given) == label


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ALL),
        json.dumps(dict(reversed(ALL.items()))),
        repr(ALL),
        "{'love': 'a b', 'joy': 'c d', 'other': 'e f'}",
        f"Sure!\n```json\n{json.dumps(ALL, indent=2)}\n```\nI hope this {{helps}}.",
        '{"Love": "a b", "Joy": "c d", "Other": "e f",}',
        '{"Love": "a b", "Joy": "c d", "Other": "e f"',
        '{"Love": "a b"}\n{"Joy": "c d"}\n{"Other": "e f"}',
        '[{"Love": "a b"}, {"Joy": "c d", "Other": "e f"}]',
        '{"texts": {"Love": "a b", "Joy": "c d", "Other": "e f"}}',
        '{"Love": ["a b"], "Joy": {"text": "c d"}, "Other": "e f"}',
        '{"Love": "...", "Joy": "...", "Other": "…"}\n{"Love": "a b", "Joy": "c d", "Other": "e f"}',
        '{"Love": "a b", "Joy": "c d", "Other": "e f"}\n{"Love": "again", "Joy": "and again"}',
        '{Love: "a b", Joy: "c d", Other: "e f"}',
    ],
)
def test_a_dictionary_is_read_however_it_is_written(text: str) -> None:
    assert values(text) == ALL


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"Love": "a b", "Anger": "x", "why": "y"}', Dictionary({"Love": "a b"}, 2)),
        ('{"kind": {"Love": "a b"}}', Dictionary({"Love": "a b"}, 0)),
        ('{"Love": 5, "Joy": null, "Other": ["a", "b"]}', Dictionary(dict.fromkeys(LABELS), 0)),
        ('{"Love": "\\ud800", "Joy": " "}', Dictionary({"Love": None, "Joy": " "}, 0)),
        ('{"Love": "it\'s {fine}", "Joy": "a\nb"}', Dictionary({"Love": "it's {fine}", "Joy": "a\nb"}, 0)),
    ],
)
def test_what_is_no_text_and_what_is_no_label_is_told(text: str, found: Dictionary) -> None:
    assert read_dictionary(text, EMOTIONS) == found


@pytest.mark.parametrize(
    ("text", "whole", "reason"),
    [
        ("", True, "empty"),
        (" \n", False, "cut_off"),
        ("I'm sorry, I cannot.", True, "unparsed"),
        ("Love: a\nJoy: b", True, "unparsed"),
        ('{"label": "Love", "text": "a"}', True, "misfit"),
        ('{"Love": "a b', False, "cut_off"),
        ("{'Love': 'a b', 'Joy': 'it is, well", False, "cut_off"),
        ("{" * 5000, True, "unparsed"),
    ],
)
def test_a_reply_without_a_dictionary_has_a_reason(text: str, whole: bool, reason: str) -> None:
    assert read_dictionary(text, EMOTIONS, whole) == Unparsed(reason, text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"Love": "a, b", "Joy": "c d", "Oth', {"Love": "a, b", "Joy": "c d"}),
        ('{"Love": "a b", "Joy": "c, \\", d', {"Love": "a b"}),
        ('Here: {"Love": "a b", "Joy": ["c", "d', {"Love": "a b"}),
        ('{"x": 1} {"Love": "a {b", "Joy": {"text": "c", "more', {"Love": "a {b"}),
        (
            '{"Love": "a b", "Joy": "c d"} {"Other": "e", "Love": "f',
            {"Love": "a b", "Joy": "c d", "Other": "e"},
        ),
    ],
)
def test_of_a_reply_that_was_cut_off_the_pairs_before_the_cut_count(text: str, found: dict[str, str]) -> None:
    assert values(text, whole=False) == found


@settings(deadline=None)
@given(text=st.text() | st.text(MARKS, max_size=200), whole=st.booleans())
def test_no_text_raises(text: str, whole: bool) -> None:
    assert values(text, whole) in ("empty", "unparsed", "misfit", "cut_off") or values(text, whole)


@settings(deadline=None)
@given(
    texts=st.lists(st.text(MARKS, max_size=30), min_size=3, max_size=3),
    place=st.integers(0, 120),
    size=st.integers(0, 9),
    put=st.text(MARKS, max_size=6),
    whole=st.booleans(),
)
def test_mutated_dictionaries_never_raise_and_give_only_labels(
    texts: list[str], place: int, size: int, put: str, whole: bool
) -> None:
    text = json.dumps(dict(zip(LABELS, texts, strict=True)), ensure_ascii=False)
    found = read_dictionary(text[:place] + put + text[place + size :], EMOTIONS, whole)
    if isinstance(found, Dictionary):
        assert found.values.keys() <= set(LABELS)
        for value in found.values.values():
            assert value is None or value.encode().decode() == value


@settings(deadline=None)
@given(
    texts=st.lists(st.text("ab ,:{}[]\\\"'\né体", min_size=1), min_size=3, max_size=3), cut=st.floats(0, 1)
)
def test_no_text_of_a_json_reply_cut_anywhere_is_half_a_text(texts: list[str], cut: float) -> None:
    whole = dict(zip(LABELS, (f"x{text}x" for text in texts), strict=True))
    reply = json.dumps(whole)
    found = read_dictionary(reply[: int(cut * len(reply))], EMOTIONS, whole=False)
    if isinstance(found, Dictionary):
        assert found.values.items() <= whole.items()


def test_hostile_replies_are_given_up_quickly() -> None:
    hostile = ['{"Love":' * 20_000, '{"a":1,' * 20_000, "{'Love': '" * 3000, '["' * 50_000, "\\" * 100_000]
    began = time.process_time()
    for text in hostile:
        for whole in (True, False):
            read_dictionary(text, EMOTIONS, whole)
    assert time.process_time() - began < 5
