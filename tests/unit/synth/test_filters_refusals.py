"""Refusals are told from texts, in several languages and wherever people say that they cannot."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth.filters.reading import Reading
from synth.filters.refusals import HEAD, refuses

REFUSALS = """\
I'm sorry, but I can't help with that.
I’m sorry, I cannot generate inappropriate or negative content.
I am sorry, I cannot generate a response as it goes against my policies.
Sorry, but I can't do that.
As an AI language model, I have no opinion.
As an artificial intelligence I do not watch films.
I'm just a language model, so I have seen no match.
Unfortunately I cannot rewrite this article.
I apologize, but I am unable to fulfill this request.
Thank you for asking. I am not able to provide a review like this one.
I won't be able to help you with that.
I'm not comfortable writing this kind of text.
I must respectfully decline.
UNABLE TO SUMMARIZE
"I cannot assist with creating this."
Es tut mir leid, aber ich kann dabei nicht helfen.
Je suis désolé, mais je ne peux pas écrire ce texte.
Lo siento, pero no puedo ayudar con eso.
Как языковая модель, я не смотрю фильмы.
对不起，我不能写这个。
作为一个人工智能，我没有观点。
申し訳ありませんが、お手伝いできません。
죄송하지만 도와드릴 수 없습니다."""

TEXTS = """\
I'm sorry for Jean, after having such a good original to be followed up by this.
First of all, I apologize for my English.
I can't help but feel that I wasted my time watching this film.
The champion cannot write off the season.
I cannot recommend this book to anyone.
A new AI model is trained on large datasets and can summarize reports.
As an AI researcher, she knows what the models cannot do.
Many explain the story here, so I won't do that.
it is a very bad film, and i am sorry to say that it does not deserve to be called a movie.
The company said it was unable to provide figures before the end of the year.
i am tied down to my thoughts and i cant write and feel assured
The minister declined to comment. I am afraid of what comes."""


@pytest.mark.parametrize("text", REFUSALS.splitlines())
def test_a_refusal_is_told(text: str) -> None:
    assert refuses(Reading(text))
    assert refuses(Reading(f"\n{text.upper()} "))


@pytest.mark.parametrize("text", TEXTS.splitlines())
def test_a_text_that_only_sounds_like_one_is_none(text: str) -> None:
    assert not refuses(Reading(text))


def test_words_of_refusal_deep_in_a_text_are_part_of_it() -> None:
    said = "I cannot provide that."
    early, late = ("word " * room + said for room in (HEAD - 4, HEAD))
    assert (refuses(Reading(early)), refuses(Reading(late))) == (True, False)


@given(
    text=st.text()
    | st.lists(st.sampled_from(["I", "can't", "sorry", "as an AI", "，", "\ud800"])).map(" ".join)
)
def test_any_text_is_answered(text: str) -> None:
    assert refuses(Reading(text)) in (True, False)
