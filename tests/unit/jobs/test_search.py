import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.errors import SettingsError
from jobs import search
from retrieval.documents import Document, Hit, make_document

NEAR = make_document(
    "Lake Ladoga is the largest lake of Europe.\n\nIt freezes.", "Ladoga", 12, {"continent": "Europe"}
)
FAR = make_document(
    "Words of no matter here. " * 40 + "At the end, volcanoes smoke. " + "More. " * 90, None, 300
)


class Fixed:
    def __init__(self, hits: Sequence[Hit]) -> None:
        self.hits = hits
        self.asked: list[tuple[Sequence[str], int]] = []

    async def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        self.asked.append((queries, top_k))
        return [list(self.hits[:top_k])]


@pytest.fixture
def retriever(monkeypatch: pytest.MonkeyPatch) -> Fixed:
    fixed = Fixed([Hit(NEAR, 1, 0.8765), Hit(FAR, 3, 0.25)])
    documents: dict[str, Document] = {NEAR.id: NEAR}
    monkeypatch.setattr(search, "build", lambda view: SimpleNamespace(key="indexes/lakes-0"))
    monkeypatch.setattr(search, "open_retriever", lambda index, settings: fixed)
    monkeypatch.setattr(search, "document_by_id", lambda index, id: documents[id])
    return fixed


def run(query: str | None = None, top: int = 10, id: str | None = None, as_json: bool = False) -> int:
    view: Any = SimpleNamespace(recipe=SimpleNamespace(retriever=None))
    return search.run(view, query, top, id, as_json)


def test_hits_are_shown_with_what_is_known_of_them(
    retriever: Fixed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("big lakes and volcanoes", top=2) == 0
    assert retriever.asked == [(["big lakes and volcanoes"], 2)]
    first, text, *rest = capsys.readouterr().out.splitlines()
    assert first == f"  1   0.876  Ladoga [{NEAR.id}]  (12 tokens, continent Europe)"
    assert text.strip() == "Lake Ladoga is the largest lake of Europe. It freezes."
    assert rest[0] == f"  3   0.250  [{FAR.id}]  (300 tokens)"
    assert all(len(line) <= 110 for line in rest)


def test_a_long_text_is_cut_to_where_a_word_of_the_query_is(
    retriever: Fixed, capsys: pytest.CaptureFixture[str]
) -> None:
    run("VOLCANOES in Europe")
    shown = capsys.readouterr().out.partition(FAR.id)[2]
    assert "volcanoes smoke" in shown
    assert shown.count("…") == 2
    run("nothing like it")
    assert "volcanoes" not in capsys.readouterr().out


def test_as_json_each_hit_is_a_line(retriever: Fixed, capsys: pytest.CaptureFixture[str]) -> None:
    run("lakes", as_json=True)
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(hit["rank"], hit["score"]) for hit in hits] == [(1, 0.8765), (3, 0.25)]
    assert hits[0]["document"]["metadata"] == {"continent": "Europe"}
    assert hits[0]["document"]["text"] == NEAR.text


def test_no_hit_is_said_beside_the_output(retriever: Fixed, capsys: pytest.CaptureFixture[str]) -> None:
    retriever.hits = []
    assert run("lakes") == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "no document of indexes/lakes-0 answers\n")


def test_one_document_is_shown_whole(retriever: Fixed, capsys: pytest.CaptureFixture[str]) -> None:
    run(id=NEAR.id)
    assert capsys.readouterr().out.endswith(NEAR.text + "\n")
    run(id=NEAR.id, as_json=True)
    assert json.loads(capsys.readouterr().out)["title"] == "Ladoga"
    assert retriever.asked == []


@pytest.mark.parametrize("given", [{}, {"query": "lakes", "id": NEAR.id}])
def test_either_a_query_or_an_id_is_given(retriever: Fixed, given: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="give either a query or --id"):
        run(**given)
