"""What the report warns of: each worry with the figures that raise it, and those just short of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.storage import LocalStore
from jobs.report.card import write_card
from jobs.report.page import write_report
from jobs.report.scores import read_scores
from jobs.report.worries import Worry, worries
from tests.unit.jobs.measured_run import FILM, GOLD, JAPAN, measured, pair, row, term, write_run
from tests.unit.jobs.test_report import LABELS, NASTY, Page, make_metrics

Given = dict[str, Any]


def found(metrics: Given) -> list[Worry]:
    return worries(metrics, read_scores(metrics, list(LABELS)))


def with_answer(path: str, value: Any) -> Given:
    """Metrics in which one answer says something else; path is dotted."""
    return make_metrics() | {"quality": changed(measured(), path, value)}


def changed(told: Given, path: str, value: Any) -> Given:
    node: Any = told
    *parents, last = path.split(".")
    for name in parents:
        node = node[name]
    node[last] = value
    return told


def with_student(name: str = "minilm", **told: Any) -> Given:
    metrics = make_metrics()
    metrics["students"][name] = metrics["students"].get(name, metrics["students"]["minilm"]) | told
    return metrics | {"quality": measured()}


def test_a_run_as_it_should_be_is_nothing_to_worry_about() -> None:
    assert found(make_metrics() | {"quality": measured()}) == []
    assert found({}) == []
    assert found(make_metrics()) == []


LEAK = {"of": 4, "rows": 2, "share": 1 / 3, "ids": [[row(0), GOLD[0]], [row(1), GOLD[1]]]}
SOME = {"rows": 3, "share": 0.5, "ids": [[row(3), row(0)]]}
CASES: dict[str, tuple[Given, Given, str, str, bool]] = {
    "gold rows in the dataset": (
        with_answer("copies.gold", LEAK),
        with_answer("copies.gold", {"not_computed": "the task names no gold test rows"}),
        "2 rows are gold test rows",
        "findings",
        True,
    ),
    "rows near gold rows": (
        with_answer("nearest.gold", {"share_alike": 0.01, "pairs": [pair(row(0), GOLD[0], 0.99)]}),
        with_answer("nearest.gold.share_alike", 0.009),
        "1.0\u00a0% of the rows are almost a gold test row (cosine from 0.95)",
        "findings",
        True,
    ),
    "contradictions": (
        with_answer("copies.contradicting", SOME),
        with_answer("copies.contradicting.share", 0.5),
        "3 rows have a text that stands under another label too",
        "findings",
        False,
    ),
    "label without rows": (
        with_answer("labels.without_rows", [NASTY]),
        with_answer("labels.several", 3),
        f"No row has the label {NASTY}",
        "rows",
        True,
    ),
    "a judge that disagrees": (
        with_answer("labels.n", 6) | {"knowledge": {"oracle": {"preserved": 0.79}}},
        with_answer("labels.n", 6) | {"knowledge": {"oracle": {"preserved": 0.8}}},
        "agrees with 79.0\u00a0% of the labels only",
        "knowledge",
        False,
    ),
    "no better than one label": (
        with_student(accuracy=0.4, accuracy_low=0.333),
        with_student(accuracy=0.75, accuracy_low=0.334),
        "no better than always saying the most frequent label",
        "students",
        True,
    ),
    "worse than seeds": (
        with_student("seeds only", trained_on="seeds", accuracy=0.9),
        with_student("seeds only", trained_on="seeds", accuracy=0.876),
        "The same student trained on the seeds alone is right 2.4\u00a0points more often",
        "students",
        False,
    ),
    "worse than gold": (
        with_student("all gold", trained_on="gold", accuracy=0.976),
        with_student("all gold", trained_on="gold", accuracy=0.8),
        "trained on gold rows alone is right 10.0\u00a0points more often",
        "students",
        False,
    ),
    "unsure": (
        with_student(calibration_error=0.15, reliability=[{"confidence": 0.9, "accuracy": 0.7, "rows": 9}]),
        with_student(calibration_error=0.149),
        "Its probabilities are off by 15.0\u00a0% on average",
        "calibration",
        False,
    ),
    "label without gold rows": (
        with_student(absent_labels=[JAPAN]),
        with_student(absent_labels=[]),
        f"No gold test row has the label {JAPAN}",
        "students",
        False,
    ),
    "repeated rows": (
        with_answer("copies.repeated", SOME | {"share": 0.01}),
        with_answer("copies.repeated.share", 0.009),
        "1.0\u00a0% of the rows repeat an earlier one",
        "findings",
        False,
    ),
    "repeated phrases": (
        with_answer("self_bleu.gold_same_n.rows.5", 0.505),
        with_answer("self_bleu.gold_same_n.rows.5", 0.503),
        "Self-BLEU-5 0.505, gold 0.304, 4 rows of each",
        "quality",
        False,
    ),
    "other lengths": (
        with_answer("profile.distance.ks", 0.5),
        with_answer("profile.distance", {"not_computed": "the task names no gold test rows"}),
        "Rows have other lengths than gold rows (distance 0.5 of 1)",
        "lengths",
        False,
    ),
    "bound terms": (
        with_answer("bound_terms.terms", [term("<i>moreover", FILM, False, row(1))]),
        with_answer("bound_terms.terms", [term("moreover", FILM, True, row(1))]),
        f"Words give labels away that do not among gold rows: “<i>moreover” ({FILM})",
        "bound",
        False,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_worry_is_raised_by_its_figure_and_by_none_short_of_it(case: str) -> None:
    raised, short, words, place, grave = CASES[case]
    (worry,) = found(raised)
    assert words in worry.text
    assert (worry.place, worry.grave) == (place, grave)
    assert found(short) == []


@pytest.mark.parametrize("case", [case for case in CASES if case != "a judge that disagrees"])
def test_a_worry_leads_to_where_the_page_shows_more(tmp_path: Path, case: str) -> None:
    metrics, _, words, place, grave = CASES[case]
    folder = write_run(tmp_path, None)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    html = Path(write_report(LocalStore(folder))).read_text()
    assert ('<li class="grave">' if grave else "<li>") in html
    assert f'<a href="#{place}">' in html
    assert place in Page(html).ids
    assert words.split("<")[0].split("'")[0] in html
    assert "<script" not in html and "<i>moreover" not in html
    assert "<script" not in Path(write_card(LocalStore(folder))).read_text()


def test_the_gravest_worries_stand_first() -> None:
    metrics = with_student(absent_labels=[JAPAN], accuracy_low=0.1)
    changed(metrics["quality"], "copies.gold", LEAK)
    changed(metrics["quality"], "copies.contradicting", SOME)
    told = found(metrics)
    assert [worry.grave for worry in told] == [True, True, False, False]
    assert "gold test rows" in told[0].text


def test_no_more_than_five_bound_terms_are_named() -> None:
    terms = [term(f"word{place}", FILM, place == 0, row(1)) for place in range(9)]
    (worry,) = found(with_answer("bound_terms.terms", terms))
    assert [f"word{place}" in worry.text for place in range(9)] == [False, *[True] * 5, *[False] * 3]
    assert "and 3 more" in worry.text


def test_terms_are_no_worry_where_there_are_no_gold_rows_to_hold_them_against() -> None:
    told = {"n": 6, "terms": [term("moreover", FILM, False)], "gold": {"not_computed": "none"}}
    assert found(make_metrics() | {"quality": measured() | {"bound_terms": told}}) == []


def test_metrics_that_were_not_computed_are_no_worry() -> None:
    answers = dict.fromkeys(measured(), "not computed, because nothing is there")
    assert found(make_metrics() | {"quality": answers}) == []
