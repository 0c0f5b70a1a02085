"""Lists out of replies: numbers, bullets, JSON and plain lines, whatever stands around them."""

import random

import pytest

from synth.listing import LONGEST, numbered

THREE = ["Alpha", "Beta", "Gamma"]


@pytest.mark.parametrize(
    "text",
    [
        "1. Alpha\n2. Beta\n3. Gamma",
        "1) Alpha\n2) Beta\n3) Gamma",
        "(1) Alpha\n(2) Beta\n(3) Gamma",
        "1: Alpha\n2: Beta\n3: Gamma",
        "1、Alpha\n2、Beta\n3、Gamma",
        "#1. Alpha\n#2. Beta\n#3. Gamma",
        "### 1. Alpha\n\n### 2. Beta\n\n### 3. Gamma",
        "Topic 1: Alpha\nTopic 2: Beta\nTopic 3: Gamma",
        "**1. Alpha**\n**2. Beta**\n**3. Gamma**",
        "1. **Alpha**\n2. **Beta**\n3. **Gamma**",
        '1. "Alpha",\n2. “Beta”,\n3. `Gamma`',
        "  1.Alpha\r\n  2.Beta\r\n  3.Gamma\r\n",
        "1. Alpha 2. Beta 3. Gamma",
        "- Alpha\n- Beta\n- Gamma",
        "* Alpha\n* Beta\n* Gamma",
        "• Alpha\n• Beta\n• Gamma",
        '["Alpha", "Beta", "Gamma"]',
        "['Alpha', 'Beta', 'Gamma']",
        '```json\n["Alpha", "Beta", "Gamma"]\n```',
        '{"topics": ["Alpha", "Beta", "Gamma"]}',
        '[{"topic": "Alpha"}, {"topic": "Beta"}, {"topic": "Gamma"}]',
        '["Alpha", "Beta", "Gamma",]',
        "[\n  “Alpha”,\n  “Beta”,\n  “Gamma”\n]",
        "Alpha\nBeta\nGamma",
        " Alpha\n2. Beta\n3. Gamma",
    ],
)
def test_every_form_of_a_list_gives_the_same_entries(text: str) -> None:
    assert numbered(text, 10) == THREE
    assert numbered(f"Sure! Here they are:\n\n{text}\n\nI hope they help.", 10) == THREE
    assert numbered(text, 2) == THREE[:2]
    assert numbered(text, 0) == []


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("1. Alpha\n2. alpha\n3. ALPHA!\n4. Beta", ["Alpha", "ALPHA!", "Beta"]),
        ("- 1.\n- 1990\n- ### 2\n- 30", ["1990", "30"]),
        ("1. Alpha\n2. Beta\n\nAnother list:\n1. Beta\n2. Gamma", THREE),
        ("1. Technology:\n   - chips\n   - screens\n2. Health:\n   - sleep", ["Technology", "Health"]),
        ("1. Here are some ideas:\n- Alpha\n- Beta\n- Gamma", THREE),
        ("- Alpha\n  - more of it\n- Beta\n- Gamma", THREE),
        (
            "1. A blank: ____ is here.\n2. It's 3:30 p.m. now.",
            ["A blank: ____ is here.", "It's 3:30 p.m. now."],
        ),
        ('1. "No," he said, "never."\n2. Yes', ['"No," he said, "never."', "Yes"]),
        ("['Men's clubs', 'a \"b\"', 'c']", ["Men's clubs", 'a "b"', "c"]),
        ('["a \\"b\\"", "c" "d"]', ['a "b"', "d"]),
        ('He wrote ["sic"].\n1. Alpha\n2. Beta', ["Alpha", "Beta"]),
        ("1. Übergänge\n2. 日本語の文。", ["Übergänge", "日本語の文。"]),
    ],
)
def test_what_is_no_entry_is_left_out(text: str, entries: list[str]) -> None:
    assert numbered(text, 10) == entries


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t ",
        "One paragraph of prose, and no list at all.",
        "A paragraph.\n\nAnother one.\n\nAnd a third.\n\nAnd a fourth.",
        "1. ...\n2. ---\n3.",
        "[]",
        "[1, 2, 3]",
        "Write ten domains, one per line.",
    ],
)
def test_what_holds_no_list_gives_none(text: str) -> None:
    assert numbered(text, 10) == []


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("1. Alpha\n2. Beta\n3. Gam", ["Alpha", "Beta"]),
        ("- Alpha\n- Beta\n- Gam", ["Alpha", "Beta"]),
        ('["Alpha", "Beta", "Gamma"', ["Alpha", "Beta"]),
        ("Alpha\nBeta\nGam", ["Alpha", "Beta"]),
        ("Well,\nthese are\nmy ideas\n1. Alph", []),
        ("1. Alpha\n2. Beta\n3. Alpha", ["Alpha", "Beta"]),
    ],
)
def test_a_list_that_was_cut_off_loses_its_last_entry(text: str, kept: list[str]) -> None:
    assert numbered(text, 10, whole=False) == kept


def test_no_reply_makes_it_raise_or_take_long() -> None:
    rng = random.Random(7)
    letters = [
        '"',
        "'",
        "[",
        "]",
        "{",
        "}",
        "\\",
        "\n",
        " ",
        "1",
        ".",
        "2. ",
        "- ",
        "*",
        "a",
        ",",
        ":",
        "\x00",
    ]
    letters += ["\ud800", "”", "“", "```", "۳.", "\u2028"]
    for _ in range(2000):
        text = "".join(rng.choices(letters, k=rng.randrange(60)))
        for whole in (True, False):
            entries = numbered(text, 5, whole)
            assert len(entries) <= 5
            assert all(entry.strip() == entry and "\n" not in entry for entry in entries)
            assert len({entry.casefold() for entry in entries}) == len(entries)
    for piece in ('"', "['", "[", "1.", " 1. 2. 3.", '{["', "\\", "'a", "#", "-"):
        numbered(piece * LONGEST, 10)
