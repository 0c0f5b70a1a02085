"""Templates in their sandbox, and replies read into examples and rejections whatever they hold."""

from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import SettingsError
from synth.prompting import as_text, chat, read_reply, render, stops, with_article
from synth.records import Example, Message, Rejection, Reply

HEADERS = ("News Article", "Headline")
REASONS = {"empty", "run_on", "cut_off"}
Pieces = Literal["first", "all"]

PARTS = st.sampled_from(
    ["\n", "\n\n", " ", "Headline:", "News Article:", "Rain.", '"', "“", "'", "I'm sorry", "\r\n"]
)
TEXTS = st.text(max_size=80) | st.lists(PARTS | st.text(max_size=5), max_size=12).map("".join)
FINISHES = st.sampled_from(["stop", "length"]) | st.text(max_size=8)


def read(text: str, pieces: Pieces = "first", finish: str = "stop") -> list[tuple[str, str]]:
    """Read a reply; each outcome as (reason, or `ok`, and text)."""
    outcomes = read_reply(Reply(text, finish, 1, 1), "sport", HEADERS, pieces)
    assert {outcome.label for outcome in outcomes} == {"sport"}
    return [(o.reason, o.text) if isinstance(o, Rejection) else ("ok", o.fields["text"]) for o in outcomes]


@settings(deadline=None)
@given(
    text=TEXTS, finish=FINISHES, pieces=st.sampled_from(["first", "all"]), headers=st.lists(TEXTS, max_size=3)
)
def test_any_reply_gives_examples_or_rejections_of_a_known_reason(
    text: str, finish: str, pieces: Pieces, headers: list[str]
) -> None:
    outcomes = read_reply(Reply(text, finish, 0, 0), "sport", [*HEADERS, *headers], pieces)
    examples = [outcome for outcome in outcomes if isinstance(outcome, Example)]
    rejections = [outcome for outcome in outcomes if isinstance(outcome, Rejection)]
    assert len(examples) + len(rejections) == len(outcomes) > 0
    assert {rejection.reason for rejection in rejections} <= REASONS
    assert all(list(example.fields) == ["text"] and example.fields["text"].strip() for example in examples)
    assert pieces == "all" or len(examples) <= 1
    assert (sum(rejection.reason == "cut_off" for rejection in rejections) == 1) == (finish == "length")


@settings(deadline=None)
@given(text=TEXTS, finish=FINISHES)
def test_only_all_pieces_turn_run_ons_into_examples_and_nothing_else_changes(text: str, finish: str) -> None:
    first, every = read(text, "first", finish), read(text, "all", finish)
    assert [("ok" if reason == "run_on" else reason, piece) for reason, piece in first] == every


@pytest.mark.parametrize("text", ["", " \n\t ", '""', "Headline:", "\n Headline: \n\nNews Article:  "])
def test_a_reply_without_a_text_is_one_empty_rejection(text: str) -> None:
    assert read(text) == read(text, "all") == [("empty", "")]


def test_a_reply_that_runs_on_gives_one_example_or_all_its_pieces() -> None:
    text = "Headline: Rain ends play.\n\nNews Article: Clouds came.\n  Headline: Cup final off."
    pieces = ["Rain ends play.", "Clouds came.", "Cup final off."]
    assert read(text) == list(zip(["ok", "run_on", "run_on"], pieces, strict=True))
    assert read(text, "all") == [("ok", piece) for piece in pieces]


def test_the_limit_cuts_off_the_last_piece_only() -> None:
    assert read("Rain ends", finish="length") == [("cut_off", "Rain ends")]
    assert read("Rain.\nHeadline: Cup fi", finish="length") == [("ok", "Rain."), ("cut_off", "Cup fi")]


@pytest.mark.parametrize(
    "text", ["Late Headline: A.", "A.\nA Headline: B.", "A.\nHeadlines: B.", "A.\nHeadline B"]
)
def test_a_header_splits_only_at_the_start_of_a_line_and_with_its_colon(text: str) -> None:
    assert read(text, "all") == [("ok", text)]


@pytest.mark.parametrize("quoted", ['"Rain."', "“ Rain. ”", "'Rain.'", ' "Rain." \n'])
def test_one_pair_of_wrapping_quotation_marks_is_taken_off(quoted: str) -> None:
    assert read(quoted) == [("ok", "Rain.")]
    assert read('"Rain" and "sun"') == [("ok", '"Rain" and "sun"')]


def test_a_reply_that_opens_with_another_document_gives_no_example_of_it() -> None:
    assert ("ok", "Clouds came.") not in read("News Article: Clouds came.\n\nHeadline: Rain ends play.")


ESCAPES = """\
noun.__class__ | noun['__class__'] | noun.upper.__self__ | self.__init__.__globals__ | noun|attr('__class__')
'{0.__class__}'.format(noun) | (1).__class__.__base__.__subclasses__()"""


@pytest.mark.parametrize("escape", ESCAPES.replace("\n", " | ").split(" | "))
def test_a_template_cannot_reach_the_insides_of_python(escape: str) -> None:
    with pytest.raises(SettingsError, match="prompt template"):
        render("{{ " + escape + " }}", noun="rain")


def test_a_template_that_names_what_is_not_there_or_cannot_be_read_is_shown_with_the_name() -> None:
    with pytest.raises(SettingsError, match=r"prompt template 'A \{\{ noum \}\}': 'noum' is undefined"):
        render("A {{ noum }}", noun="rain")
    with pytest.raises(SettingsError, match="prompt template"):
        render("{% for x in %}", noun="rain")


def test_a_template_that_fails_on_an_absent_length_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="prompt template"):
        render("It is {{ length + ' long' }}.", length=None)


def test_values_are_put_in_as_they_are() -> None:
    assert (
        render("{{ a }} {{ b | article }}", a="R&D <b> {{ b }}", b="article") == "R&D <b> {{ b }} an article"
    )
    assert [with_article(noun) for noun in ("headline", "Essay")] == ["a headline", "an Essay"]
    assert stops("Headline", "Text", "Headline") == ("\nHeadline:", "\nText:")
    turns = chat([("Ask.", "Answer.")], "Again.")
    assert turns == (Message("user", "Ask."), Message("assistant", "Answer."), Message("user", "Again."))
    assert as_text(turns) == "user: Ask.\n\nassistant: Answer.\n\nuser: Again."
    assert as_text("plain") == "plain"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Sure! Here is a headline about sport:\n\nCup final drawn.", "Cup final drawn."),
        ("Here's the headline:\nCup final drawn.", "Cup final drawn."),
        ("Certainly, here you go:", None),
        ("Here it comes: the cup final.", "Here it comes: the cup final."),
        ("Heretics on trial:\nthe court sits again.", "Heretics on trial:\nthe court sits again."),
    ],
)
def test_what_a_chat_model_says_before_the_text_is_left_out(text: str, kept: str | None) -> None:
    (outcome,) = read_reply(Reply(text, "stop", 1, 1), "sport", ["Headline"])
    if kept is None:
        assert isinstance(outcome, Rejection) and outcome.reason == "empty"
    else:
        assert isinstance(outcome, Example) and outcome.fields["text"] == kept
