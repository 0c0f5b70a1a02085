"""Languages: by script when nothing is named, by a detector when one is."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.filters.language import in_language, in_scripts, scripts_of
from synth.filters.settings import LANGUAGES, FilterSettings
from synth.task import Gold, Task, TaskSettings

SAID = {
    "en": "This film was terrible and I want my money back.",
    "de": "Dieser Film war furchtbar, und ich will mein Geld zurück.",
    "fr": "Ce film était terrible et je veux être remboursé.",
    "es": "Esta película fue terrible y quiero que me devuelvan el dinero.",
    "pl": "Ten film był okropny i chcę zwrotu pieniędzy.",
    "ru": "Этот фильм был ужасен, верните мне мои деньги.",
    "zh": "这部电影太糟糕了，我想退钱。",
    "ja": "この映画はひどかったので返金してほしい。",
    "ko": "이 영화는 끔찍해서 환불받고 싶다.",
    "ar": "كان هذا الفيلم فظيعا وأريد استرداد أموالي.",
    "hi": "यह फिल्म बहुत खराब थी और मुझे अपने पैसे वापस चाहिए।",
    "el": "Αυτή η ταινία ήταν απαίσια και θέλω τα λεφτά μου πίσω.",
    "th": "หนังเรื่องนี้แย่มาก ฉันอยากได้เงินคืน",
}
ANY = ["", "😀😀", "42 : 7", "OK", "\ud800", "\0"]


def task(*seeds: str, **told: Any) -> Task:
    named = TaskSettings.model_validate(
        {"name": "t", "instruction": "Tell reviews apart.", "labels": {"a": "good", "b": "bad"}} | told
    )
    return Task(named, tuple(Gold(str(n), {"text": text}, "a") for n, text in enumerate(seeds)))


@pytest.mark.parametrize("wanted", SAID)
def test_a_text_of_the_language_passes_and_those_of_others_do_not(wanted: str) -> None:
    assert [code for code, text in SAID.items() if in_language(text, wanted)] == [wanted]
    assert all(in_language(text, wanted) for text in ANY)


def test_languages_hardly_told_apart_and_short_texts_pass() -> None:
    assert in_language("Ova je knjiga zanimljiva i vrlo dobro napisana.", "sr")
    assert in_language("Filmen var forferdelig, og jeg vil ha pengene tilbake.", "nb")
    assert in_language("Quelle horreur", "en")


def test_the_languages_of_the_settings_are_those_of_the_detector() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    assert frozenset(LanguageIdentifier.from_model_file(MODEL_FILE).labels) == LANGUAGES | {"zxx"}
    told = [FilterSettings(language=name).language for name in ("auto", None, "de", "pt-BR", "zh_Hant", "EN")]
    assert told == ["auto", None, "de", "pt", "zh", "en"]


@pytest.mark.parametrize(
    ("seeds", "passing"),
    [
        (["en", "de", "fr"], {"en", "de", "fr", "es", "pl"}),
        (["ru"], {"ru"}),
        (["ja"], {"ja", "zh"}),
        (["zh"], {"zh"}),
        (["en", "th"], {"en", "de", "fr", "es", "pl", "th"}),
    ],
)
def test_without_a_language_texts_are_in_a_script_of_the_seeds(seeds: list[str], passing: set[str]) -> None:
    scripts = scripts_of(task(*(SAID[code] for code in seeds)))
    assert {code for code, text in SAID.items() if in_scripts(text, scripts)} == passing
    assert all(in_scripts(text, scripts) for text in [*ANY, "Ж"][:2])


@pytest.mark.parametrize(
    ("told", "passing"),
    [
        ({}, {"en", "de", "fr", "es", "pl"}),
        ({"instruction": "Tell Chinese reviews apart."}, {"en", "de", "fr", "es", "pl", "zh"}),
        ({"style": "casual, Korean"}, {"en", "de", "fr", "es", "pl", "ko"}),
        (
            {"instruction": SAID["ru"], "text_type": "Отзыв", "labels": {"a": "хороший", "b": "плохой"}},
            {"ru"},
        ),
        ({"instruction": "?", "text_type": "1", "labels": {"a": "+", "b": "-"}}, set(SAID)),
    ],
)
def test_without_seeds_they_are_in_one_of_the_task_or_of_a_language_it_names(
    told: dict[str, Any], passing: set[str]
) -> None:
    scripts = scripts_of(task(**told))
    assert {code for code, text in SAID.items() if not scripts or in_scripts(text, scripts)} == passing


def test_names_and_quotes_of_another_script_do_not_make_another_language() -> None:
    latin, cyrillic = scripts_of(task(SAID["en"])), scripts_of(task(SAID["ru"]))
    assert in_scripts("The film “Брат” (1997) is a classic – déjà vu…", latin)
    assert in_scripts("Фильм The Matrix вышел в 1999 году", cyrillic)
    assert not in_scripts("I cannot help with that", cyrillic)


@settings(deadline=None)
@given(text=st.text(max_size=80), wanted=st.sampled_from(sorted(LANGUAGES)))
def test_any_text_is_answered(text: str, wanted: str) -> None:
    assert in_language(text, wanted) in (True, False)
    assert in_scripts(text, scripts_of(task(text))) in (True, False)
