"""Whether a text is no text of the task but a model saying that it will not write one."""

import re

from synth.filters.reading import Reading

HEAD = 32
"""Words at the start of a text in which a refusal is looked for; later it is part of the text."""

_STEMS = frozenset(
    (
        b"cant",
        b"cannot",
        b"not",
        b"unable",
        b"wont",
        b"decline",
        b"comfortable",
        b"ai",
        b"artificial",
        b"model",
    )
)
"""One of these words is in every English refusal: most texts are done with after looking for them."""
_TASK = (
    rb"(?:assist|help|write|provide|generate|create|rewrite|summari[sz]e|fulfill?|comply|produce|"
    rb"writing|providing|generating|creating|rewriting|summari[sz]ing|producing)\b"
)
"""What a model says that it will not do, as some of it is what people say of themselves."""
_ENGLISH = re.compile(
    # `As an AI`, `I am just a language model`.
    rb"\b(?:as|im|i am) (?:just |only )?(?:an? |your )?(?:helpful )?"
    rb"(?:ai\b(?! (?:researcher|engineer|expert|scientist))|artificial intelligence\b"
    rb"|(?:large )?language model\b)|\bai language model\b"
    # `I cannot provide`, `we are not comfortable creating`.
    rb"|\b(?:i|im|we|were) (?:cannot|cant|can not|(?:am |are )?(?:unable|not able) to"
    rb"|(?:wont|will not) be able to"
    rb"|(?:am |are |do |dont )?(?:not )?(?:feel )?comfortable) (?:with )?(?:\w+ly )?"
    rb"(?:help (?:you )?(?:with|write|create)|complete (?:this|that|your)"
    rb"|write (?:an?|the|this|that|about|any|content|texts?|something)\b|(?!help|write)" + _TASK + rb")"
    rb"|^unable to " + _TASK + rb""
    rb"|\bi (?:must|have to|will have to) (?:\w+ly )?decline\b"
    # `Sorry, but I can't`: what it cannot may be anything.
    rb"|^(?:im |i am |we are |were )?(?:very |so |really |truly )?"
    rb"(?:sorry|afraid|apologi[sz]e|i apologi[sz]e) (?:but |that )?"
    rb"(?:i|we) (?:cant|cannot|can not|wont be|will not be|am unable|are unable|am not able)\b"
)
_OTHERS = tuple(
    b" ".join(Reading(phrase).words)
    for phrase in (
        "Es tut mir leid, aber ich kann",
        "Als KI-Modell",
        "Als KI-Sprachmodell",
        "Als Sprachmodell",
        "Je suis désolé, mais je ne peux",
        "En tant que modèle de langage",
        "En tant qu'IA",
        "Lo siento, pero no puedo",
        "Como modelo de lenguaje",
        "Mi dispiace, ma non posso",
        "Come modello linguistico",
        "Desculpe, mas não posso",
        "Como modelo de linguagem",
        "Как языковая модель",
        "Извините, но я не могу",
        "作为一个人工智能",
        "作为人工智能",
        "作为一个AI",
        "抱歉，我无法",
        "抱歉，我不能",
        "很抱歉，我无法",
        "很抱歉，我不能",
        "对不起，我不能",
        "对不起，我无法",
        "申し訳ありませんが",
        "AIとして",
        "죄송하지만",
        "AI 언어 모델",
    )
)


_FIRST = frozenset(phrase.split()[0] for phrase in _OTHERS)


def refuses(reading: Reading) -> bool:
    """Say whether a text begins as a refusal."""
    words = reading.words[:HEAD]
    if words and words[0] in _FIRST and b" ".join(words).startswith(_OTHERS):
        return True
    return not _STEMS.isdisjoint(words) and _ENGLISH.search(b" ".join(words)) is not None
