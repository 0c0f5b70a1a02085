"""What the report warns of: each worry with the figures that raise it, and those just short of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

from cluster.storage import LocalStore
from jobs.report.card import write_card
from jobs.report.page import write_report
from jobs.report.scores import read_scores
from jobs.report.worries import Worry, worries
from tests.unit.jobs.measured_run import FILM, GOLD, JAPAN, measured, pair, row, term, write_run
from tests.unit.jobs.test_report import LABELS, NASTY, Page, make_metrics

Given = dict[str, Any]
MINILM, COPIES = "students.minilm", "quality.copies"
LEAK = {"of": 4, "rows": 2, "share": 1 / 3, "ids": [[row(0), GOLD[0]], [row(1), GOLD[1]]]}
SOME = {"rows": 3, "share": 0.5, "ids": [[row(3), row(0)]]}
RIGHT = make_metrics()["students"]["minilm"]
SURE = [{"confidence": 0.9, "accuracy": 0.7, "rows": 9}]


def found(metrics: Given) -> list[Worry]:
    return worries(metrics, read_scores(metrics, list(LABELS)))


def changed(changes: Given) -> Given:
    """Metrics of a run that is nothing to worry about, with changes by dotted paths."""
    metrics = make_metrics() | {"quality": measured(), "knowledge": {}}
    for path, value in changes.items():
        node: Any = metrics
        *parents, last = path.split(".")
        for name in parents:
            node = node[name]
        node[last] = value
    return metrics


def test_a_run_as_it_should_be_is_nothing_to_worry_about() -> None:
    assert found(changed({})) == []
    assert found({}) == []
    assert found(make_metrics()) == []


CASES: dict[str, tuple[Given, Given, str, str, bool]] = {
    "gold rows in the dataset": (
        {f"{COPIES}.gold": LEAK},
        {f"{COPIES}.gold": {"not_computed": "the task names no gold test rows"}},
        "2 rows are gold test rows",
        "findings",
        True,
    ),
    "rows near gold rows": (
        {"quality.nearest.gold": {"share_alike": 0.01, "pairs": [pair(row(0), GOLD[0], 0.99)]}},
        {"quality.nearest.gold.share_alike": 0.009},
        "1.0\u00a0% of the rows are almost a gold test row (cosine from 0.95)",
        "findings",
        True,
    ),
    "contradictions": (
        {f"{COPIES}.contradicting": SOME},
        {f"{COPIES}.contradicting": SOME | {"rows": 0}},
        "3 rows have a text that stands under another label too",
        "findings",
        False,
    ),
    "label without rows": (
        {"quality.labels.without_rows": [NASTY]},
        {"quality.labels.several": 3},
        f"No row has the label {NASTY}",
        "rows",
        True,
    ),
    "a judge that disagrees": (
        {"knowledge.oracle": {"preserved": 0.79}},
        {"knowledge.oracle": {"preserved": 0.8}},
        "agrees with 79.0\u00a0% of the labels only",
        "knowledge",
        False,
    ),
    "no better than one label": (
        {f"{MINILM}.accuracy_low": 0.333},
        {f"{MINILM}.accuracy_low": 0.334},
        "no better than always saying the most frequent label",
        "students",
        True,
    ),
    "worse than seeds": (
        {"students.seeds only.accuracy": 0.9},
        {"students.seeds only.accuracy": 0.876},
        "The same student trained on the seeds alone is right 2.4\u00a0points more often",
        "students",
        False,
    ),
    "worse than gold": (
        {"students.all gold": RIGHT | {"trained_on": "gold", "accuracy": 0.976}},
        {"students.all gold": RIGHT | {"trained_on": "gold", "accuracy": 0.8}},
        "trained on gold rows alone is right 10.0\u00a0points more often",
        "students",
        False,
    ),
    "unsure": (
        {f"{MINILM}.calibration_error": 0.15, f"{MINILM}.reliability": SURE},
        {f"{MINILM}.calibration_error": 0.149, f"{MINILM}.reliability": SURE},
        "Its probabilities are off by 15.0\u00a0% on average",
        "calibration",
        False,
    ),
    "label without gold rows": (
        {f"{MINILM}.absent_labels": [JAPAN]},
        {f"{MINILM}.absent_labels": []},
        f"No gold test row has the label {JAPAN}",
        "students",
        False,
    ),
    "repeated rows": (
        {f"{COPIES}.repeated": SOME | {"share": 0.01}},
        {f"{COPIES}.repeated": SOME | {"share": 0.009}},
        "1.0\u00a0% of the rows repeat an earlier one",
        "findings",
        False,
    ),
    "repeated phrases": (
        {"quality.self_bleu.gold_same_n.rows.5": 0.505},
        {"quality.self_bleu.gold_same_n.rows.5": 0.503},
        "Self-BLEU-5 0.505, gold 0.304, 4 rows of each",
        "quality",
        False,
    ),
    "other lengths": (
        {"quality.profile.distance.ks": 0.5},
        {"quality.profile.distance": {"not_computed": "the task names no gold test rows"}},
        "Rows have other lengths than gold rows (distance 0.5 of 1)",
        "lengths",
        False,
    ),
    "bound terms": (
        {"quality.bound_terms.terms": [term("<i>moreover", FILM, False, row(1))]},
        {"quality.bound_terms.terms": [term("moreover", FILM, True, row(1))]},
        f"Words give labels away that do not among gold rows: “<i>moreover” ({FILM})",
        "bound",
        False,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_worry_is_raised_by_its_figure_and_by_none_short_of_it(case: str) -> None:
    raised, short, words, place, grave = CASES[case]
    (worry,) = found(changed(raised))
    assert words in worry.text
    assert (worry.place, worry.grave) == (place, grave)
    assert found(changed(short)) == []


def test_every_worry_is_shown_and_leads_to_where_the_page_has_more(tmp_path: Path) -> None:
    told = {case: each for case, each in CASES.items() if case != "a judge that disagrees"}
    metrics = changed({path: value for each in told.values() for path, value in each[0].items()})
    assert len(found(metrics)) == len(told)
    folder = write_run(tmp_path, None)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    html = Path(write_report(LocalStore(folder))).read_text()
    shown = html[html.index('id="worries"') : html.index("</header>")]
    ids = Page(html).ids
    for _, _, words, place, _ in told.values():
        assert str(escape(words)) in shown
        assert f'<a href="#{place}">' in shown
        assert place in ids
    assert shown.count('<li class="grave">') == sum(grave for *_, grave in told.values())
    assert "<script" not in html and "<i>moreover" not in html
    card = Path(write_card(LocalStore(folder))).read_text().split("---\n", 2)[2]
    assert "<script" not in card and "<i>moreover" not in card
    assert card.count("2 rows are gold test rows") == 1


def test_a_run_without_worries_shows_none(tmp_path: Path) -> None:
    html = Path(write_report(LocalStore(write_run(tmp_path, measured())))).read_text()
    assert 'id="worries"' not in html


def test_the_gravest_worries_stand_first() -> None:
    changes = {f"{COPIES}.gold": LEAK, f"{COPIES}.contradicting": SOME, f"{MINILM}.absent_labels": [JAPAN]}
    told = found(changed(changes | {f"{MINILM}.accuracy_low": 0.1}))
    assert [worry.grave for worry in told] == [True, True, False, False]
    assert "gold test rows" in told[0].text


def test_no_more_than_five_bound_terms_are_named() -> None:
    terms = [term(f"word{place}", FILM, place == 0, row(1)) for place in range(9)]
    (worry,) = found(changed({"quality.bound_terms.terms": terms}))
    assert [f"word{place}" in worry.text for place in range(9)] == [False, *[True] * 5, *[False] * 3]
    assert "and 3 more" in worry.text


def test_terms_are_no_worry_where_there_are_no_gold_rows_to_hold_them_against() -> None:
    told = {"n": 6, "terms": [term("moreover", FILM, False)], "gold": {"not_computed": "none"}}
    assert found(make_metrics() | {"quality": measured() | {"bound_terms": told}}) == []


def test_metrics_that_were_not_computed_are_no_worry() -> None:
    answers = dict.fromkeys(measured(), "not computed, because nothing is there")
    assert found(make_metrics() | {"quality": answers}) == []
