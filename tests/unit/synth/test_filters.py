"""The sieve: what each filter refuses and what it lets through, whatever the texts are."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from synth.filters.settings import FilterSettings
from synth.filters.sieve import Sieve
from synth.records import Example, Grounding, Item, Rejection, Shot, make_item
from synth.task import Gold, Task, TaskSettings

LABELS = {"Sports": "sports", "Sci/Tech": "science and technology", "Odd": "what fits none of the others"}
SEED = "The home side won the cup final on penalties after a goalless draw in front of a full house."
TEST = "A probe has found traces of water in rocks from the far side of the moon, researchers say today."
DOCUMENT = (
    "City council members voted late on Monday to close the old bridge for repairs until next spring. "
    "Drivers will have to use the tunnel, which is expected to be crowded in the mornings and evenings."
)
SHOT = "The airline said on Friday that it would hire four hundred new pilots before the summer season."
OFF: Mapping[str, Any] = {
    "refusal": False,
    **dict.fromkeys(set(FilterSettings.model_fields) - {"refusal"}),
}


def task(*seeds: str, fields: Sequence[str] = ("text",), **more: Any) -> Task:
    named = TaskSettings(name="t", instruction="Tell topics apart.", labels=LABELS, fields=fields, **more)
    return Task(named, tuple(Gold(f"s{n}", {"text": text}, "Sports") for n, text in enumerate(seeds)))


def sieve(given: Task | None = None, **changes: Any) -> Sieve:
    chosen = FilterSettings.model_validate(changes)
    return Sieve(chosen, given or task(SEED), [Gold("g", {"text": TEST}, "Sci/Tech")])


ITEM = make_item(
    "key", 0, 0, ("Sports",), documents=(Grounding("d", DOCUMENT),), shots=(Shot("x", SHOT), Shot("s0", SEED))
)


def verdict(text: str, used: Sieve | None = None, label: str = "Sports", item: Item = ITEM) -> str:
    """The reason why a text is refused, `ok` when it is not."""
    (outcome,) = (used or sieve()).sift(item, [Example({"text": text}, label)])
    if isinstance(outcome, Rejection):
        assert (outcome.text, outcome.label) == (text, label)
        return outcome.reason
    assert outcome.fields == {"text": text}
    return "ok"


GOOD = """\
The keeper saved two penalties and sent the visitors home without a single point from the trip.
Sorry, the film was bad: I can't recommend it to anyone, and I won't be able to see a sequel.
I'm sorry for Jean, after having such a good start to be followed up by this.
Talks go on: neither side (so far) has said more than "no comment", and no date was set.
In sports, as in science and technology, money decides: the topic of the evening was sports rights.
Voters went to the polls on Sunday; results: two seats for the left, three for the right.
Never, never, never give up, said the coach.
¿Qué pasó? Nada – 3:0 ganó el equipo de casa, dice la prensa.
Great 👍👍👍 match 😀
OK then"""


@pytest.mark.parametrize("text", GOOD.splitlines())
def test_an_ordinary_text_passes_and_is_signed(text: str) -> None:
    assert verdict(text) == "ok"
    (example,) = sieve().sift(ITEM, [Example({"text": text}, "Sports", {"k": "v"}, {"judge": "4"})])
    assert isinstance(example, Example)
    assert example.signature is not None and len(example.signature) == 64
    assert (example.label, example.extra, example.verdicts) == ("Sports", {"k": "v"}, {"judge": "4"})
    (unsigned,) = sieve(near_duplicates=None).sift(ITEM, [Example({"text": text}, "Sports")])
    assert unsigned == Example({"text": text}, "Sports")


def test_rejections_stay_what_they_are_and_where_they_are() -> None:
    cut = Rejection("cut_off", "\ud800", "Sports")
    given: list[Example | Rejection] = [cut, Example({"text": "One"}, "Sports"), cut]
    assert [type(o) for o in sieve().sift(ITEM, given)] == [Rejection] * 3
    assert sieve().sift(ITEM, given)[::2] == [cut, cut]
    assert sieve().sift(ITEM, []) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "too_short"),
        ("!?… \n", "too_short"),
        ("Goal", "too_short"),
        ("Goal!\0Goal", "ok"),
        ("进", "too_short"),
        ("主队赢了", "ok"),
        ("word " * 2000, "repetition"),
        ("word " * 2001, "too_long"),
    ],
)
def test_lengths_are_counted_in_words_and_half_words(text: str, reason: str) -> None:
    assert verdict(text, sieve(language=None)) == reason


def test_a_field_without_words_is_too_short_and_others_are_named() -> None:
    used = sieve(task(fields=("text", "question")))

    def reason(text: str, question: str) -> str:
        (outcome,) = used.sift(ITEM, [Example({"text": text, "question": question}, "Sports")])
        return outcome.reason if isinstance(outcome, Rejection) else "ok"

    assert reason("The cup final ended without goals.", "Who?") == "ok"
    assert reason("The cup final ended without goals.", " ") == "too_short"
    assert reason("The cup final ended.", "I cannot help with that.") == "refusal in question"
    assert reason("The cup final ended.", "Is it \ud800?") == "broken_text in question"
    # Of a pair only one text is taken over: the other makes it new.
    assert reason(DOCUMENT, "How long will the bridge be closed?") == "ok"
    assert reason(DOCUMENT, "The old bridge for repairs until next spring") == "copies_document"


BREAKS = "Goal \ud800 and goal"


def test_a_text_that_no_file_can_hold_is_refused_in_a_form_that_one_can() -> None:
    for chosen in (sieve(), Sieve(FilterSettings.model_validate(OFF), task(), ())):
        (outcome,) = chosen.sift(ITEM, [Example({"text": BREAKS}, "Sports")])
        assert outcome == Rejection("broken_text", "Goal ? and goal", "Sports")


@pytest.mark.parametrize(
    ("source", "reason"),
    [(SEED, "copies_seed"), (TEST, "copies_test"), (DOCUMENT, "copies_document"), (SHOT, "copies_shot")],
)
def test_copies_are_refused_even_with_a_word_changed_and_own_words_are_not(source: str, reason: str) -> None:
    words = source.split()
    assert verdict(source) == verdict(source.upper().replace(" ", "\n ")) == reason
    assert verdict(" ".join([*words[:-1], "tomorrow"])) == reason
    assert verdict(" ".join(words[:7]) + ", and what came after it was seen by nobody at all.") == "ok"
    assert verdict(" ".join(reversed(words))) == "ok"
    assert verdict(source, sieve(**{reason.replace("shot", "seed"): None})) == "ok"


def test_a_test_row_is_refused_when_half_of_the_text_is_new_and_a_seed_is_not() -> None:
    more = "and that was all there was to it"
    half = [f"{' '.join(source.split()[:15])} {more}" for source in (TEST, SEED)]
    assert [verdict(text) for text in half] == ["copies_test", "ok"]
    assert verdict(half[1], sieve(copies_seed=0.5)) == "copies_seed"


def test_a_short_text_is_a_copy_only_as_a_whole() -> None:
    used = Sieve(FilterSettings(), task("Great match", "Cup final tonight"), ())
    plain = make_item("key", 0, 0, ("Sports",))
    told = [verdict(text, used, item=plain) for text in ("great match!", "Great match tonight", "Cup final")]
    assert told == ["copies_seed", "ok", "ok"]


LEAKS = """\
Category: Sports. The keeper saved two penalties.
The keeper saved two penalties. (Label: sports)
The keeper saved two penalties. **Topic:** "Sports"
[Sports] The keeper saved two penalties.
**Sci/Tech**: a probe has found water.
The keeper saved two penalties (sports).
Here is a headline about sports: keeper saves two penalties.
Sure! Here's a short text on science and technology: a probe has found water.
This is a sports headline that speaks of a keeper.
The keeper saved what fits none of the others, twice.
主题：Sports 守门员扑出两个点球"""


@pytest.mark.parametrize("text", LEAKS.splitlines())
def test_a_text_that_announces_a_label_is_refused(text: str) -> None:
    assert verdict(text, sieve(language=None)) == "label_leak"
    assert verdict(text, sieve(language=None, label_leak=None)) == "ok"


def test_the_name_of_its_label_is_refused_only_on_request_and_only_whole() -> None:
    strict = sieve(label_leak="anywhere")
    assert verdict("All sports are banned here.") == "ok"
    assert verdict("All sports are banned here.", strict) == "label_leak"
    assert verdict("All sports are banned here.", strict, "Sci/Tech") == "ok"
    assert verdict("A sportscaster spoke.", strict) == "ok"
    (both,) = strict.sift(ITEM, [Example({"text": "Sci/tech news of today"}, ("Sports", "Sci/Tech"))])
    assert isinstance(both, Rejection) and both.reason == "label_leak"


def test_numbers_as_labels_are_announced_by_words_and_not_by_brackets() -> None:
    numbered = Task(TaskSettings(name="t", instruction="Rate.", labels={"0": "bad", "1": "good"}), ())
    used = Sieve(FilterSettings(), numbered, ())
    assert verdict("Label: 1 what a match", used, "1") == "label_leak"
    assert verdict("What a match, they said [1]", used, "1") == "ok"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("No goals, no cards, no fun: no goals, no cards.", "ok"),
        ("It was a good match. " * 2, "repetition"),
        ("It was a good match and everyone liked it. " * 2, "repetition"),
        ("Goal! " * 40, "repetition"),
        ("Buy now and save. Call us. Buy now and save. Write us. Buy now and save.", "repetition"),
        ("It is what it is, and it was what it was, and it will be what it will be.", "ok"),
        ("😀" * 40, "repetition"),
        ("ha" * 200, "repetition"),
        ("好" * 40, "repetition"),
        ("see https://example.org/" + "".join(map(str, range(100))), "ok"),
    ],
)
def test_a_text_that_goes_round_in_circles_is_refused(text: str, reason: str) -> None:
    assert verdict(text, sieve(language=None, min_words=1)) == reason
    assert verdict(text, sieve(language=None, min_words=1, repetition=None)) == "ok"


def test_every_filter_can_be_switched_off() -> None:
    used = Sieve(FilterSettings.model_validate(OFF), task(SEED), [Gold("g", {"text": TEST}, "Sports")])
    texts = [SEED, TEST, DOCUMENT, "", "Label: Sports", "I cannot help with that.", "a " * 3000, "Футбол"]
    assert [verdict(text, used) for text in texts] == ["ok"] * len(texts)


@pytest.mark.parametrize("changes", [{"repetition": 0}, {"near_duplicates": 0.2}, {"language": "klingon"}])
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FilterSettings.model_validate(changes)


def test_how_near_is_too_near_may_change_within_a_run_and_nothing_else_may() -> None:
    plain = FilterSettings()
    assert plain.identity() == FilterSettings(near_duplicates=0.9).identity()
    others = [
        {**OFF, "near_duplicates": 0.7},
        {"near_duplicates": None},
        {"max_words": 9},
        {"language": "en"},
    ]
    identities = [FilterSettings.model_validate(changes).identity() for changes in others]
    assert plain.identity() not in identities


SIGNS = st.text() | st.text("aд中のก😀\u0301\u200d\ud800\0'’:[]*#“ \n.", max_size=60)
PARTS = st.sampled_from(
    [SEED, TEST, DOCUMENT, *LEAKS.splitlines(), *GOOD.splitlines(), "I cannot help", "AI"]
)
TEXTS = SIGNS | st.lists(SIGNS | PARTS, max_size=6).map("".join)


@settings(deadline=None, max_examples=300)
@given(texts=st.lists(TEXTS, max_size=3), label=st.sampled_from(["Sports", ("Sports", "Odd"), "?"]))
@pytest.mark.parametrize(
    "used", [sieve(), sieve(language="en", label_leak="anywhere"), sieve(task(*["进球了"] * 3))]
)
def test_no_text_makes_it_raise(used: Sieve, texts: list[str], label: Any) -> None:
    examples = [Example({"text": text}, label) for text in texts]
    outcomes = used.sift(ITEM, examples)
    assert len(outcomes) == len(texts)
    assert used.sift(ITEM, examples) == outcomes
    for outcome in outcomes:
        text = outcome.text if isinstance(outcome, Rejection) else outcome.fields["text"]
        text.encode()


LONG = {
    "words": " ".join(f"w{n}" for n in range(100_000)),
    "one word": "x" * 1_000_000,
    "one sign": "😀" * 500_000,
    "colons": ":" * 500_000,
    "announcing": "label: " * 100_000,
    "brackets": "[" * 500_000,
    "quotes": "I can't \"" * 100_000,
    "marks": "a" + "\u0301" * 500_000,
    "signs": "".join(map(chr, range(0x4E00, 0x9FFF))) * 20,
    "lines": "I cannot provide\n" * 50_000,
    "spaces": " " * 1_000_000,
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("language", ["auto", "en"])
def test_a_text_of_any_length_takes_time_in_proportion(name: str, language: str) -> None:
    used = sieve(max_words=None, language=language, label_leak="anywhere")
    short, long = LONG[name][: len(LONG[name]) // 8], LONG[name]
    seconds = []
    for text in (short, long):
        began = time.process_time()
        used.sift(ITEM, [Example({"text": text}, "Sports")])
        seconds.append(time.process_time() - began)
    # Eight times the text; a square would be 64 times the work.
    assert seconds[1] < 24 * seconds[0] + 0.25
