"""What the runs of a comparison came to: entries, differences that are more than luck, page and table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.rundir import read_metrics, update_metrics
from cluster.storage import LocalStore
from jobs.comparing import Entry, Kind, baseline_entries, cell, failed, significance
from jobs.evaluate import run as evaluate
from jobs.report.comparison import HEADINGS, equal, lines_of, worded, write_comparison
from jobs.stage import Stage
from jobs.train import run as train
from synth.task import Gold
from tests.report_fixture import comparison_result
from tests.unit.jobs.test_report import NASTY, Page
from tests.unit.jobs.test_train_rows import PLAIN, Classroom, stage
from training.metrics.significance import difference

SYNTHESIS = {
    "prompt_tokens": 900,
    "reply_tokens": 100,
    "seconds": 12.5,
    "rows": {"returned": 8, "accepted": 6},
    "stalled": {"neutral": "why", "entailment": "why"},
    "stopped": "limits.tokens",
}
DATASET = {"rows": 5, "target": {"entailment": 3, "neutral": 4}}


def made(run: Stage, **told: Any) -> Stage:
    """Train and score the students of a run that a method has made."""
    update_metrics(run.run, **{"synthesis": SYNTHESIS, "dataset": DATASET} | told)
    if run.recipe.students:
        train(run)
        evaluate(run)
    return run


def test_an_entry_tells_what_a_run_came_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Classroom({0: 3, 1: 4}, monkeypatch)
    student = PLAIN | {"runs": 2, "rerun_spread": None}
    quality = {"vendi": {"vendi": 2.0}}
    run = made(stage(tmp_path, student, seeds=0), costs={"money": {"total": 1.5}})
    update_metrics(run.run, quality=quality)
    entry = cell(run, "my method")
    assert (entry.name, entry.kind, entry.run, entry.failed) == ("my method", "method", "r", None)
    assert entry.facts == {
        "rows": 5,
        "target": 7,
        "accepted": 6,
        "returned": 8,
        "tokens": 1000,
        "tokens_per_row": 200,
        "money": 1.5,
        "seconds": 12.5,
        "stopped": "limits.tokens",
        "stalled": ["entailment", "neutral"],
        "quality": quality,
    }
    scores = read_metrics(run.run)["students"]["plain"]
    assert entry.students["plain"] == {
        "accuracies": [0.75, 1.0],
        "macro_f1": scores["macro_f1"],
        "mean": 0.875,
        "std": pytest.approx(np.std([0.75, 1.0], ddof=1)),
    }
    # Of four rows the last is right in one of two runs.
    assert entry.right["plain"] == dict(zip([row.id for row in run.plan.test], [1, 1, 1, 0.5], strict=True))
    assert entry.told().keys() == {"name", "kind", "run", "facts", "students", "failed"}


def test_an_entry_of_one_run_has_no_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Classroom({0: 1}, monkeypatch)
    scores = cell(made(stage(tmp_path, PLAIN, seeds=0)), "m").students["plain"]
    assert (scores["accuracies"], scores["mean"], scores["std"]) == ([0.25], 0.25, None)


def test_runs_that_were_given_up_are_in_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Classroom({0: 1, 1: 4, 2: 2, 3: 2}, monkeypatch)
    entry = cell(made(stage(tmp_path, PLAIN | {"runs": 2}, seeds=0)), "m")
    assert entry.students["plain"]["accuracies"] == [0.5, 0.5]
    assert list(entry.right["plain"].values()) == [1, 1, 0, 0]


def test_the_baseline_of_seeds_that_a_recipe_asks_for_stands_in_its_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Classroom({0: 3}, monkeypatch)
    assert set(cell(made(stage(tmp_path, PLAIN)), "m").students) == {"plain", "plain-seeds-only"}


def test_a_run_without_rows_or_students_has_an_entry_without_scores(tmp_path: Path) -> None:
    run = made(stage(tmp_path, seeds=0))
    assert (cell(run, "m").students, cell(run, "m").right) == ({}, {})
    bare = replace(stage(tmp_path, PLAIN, seeds=0), run=LocalStore(tmp_path / "none"))
    update_metrics(bare.run, dataset={"rows": 0, "target": {"entailment": 3}})
    facts = cell(bare, "m").facts
    assert (facts["rows"], facts["target"], facts["tokens_per_row"], facts["money"]) == (0, 3, None, None)


def test_rows_of_another_tool_cost_nobody_knows_what(tmp_path: Path) -> None:
    run = stage(tmp_path, seeds=0)
    update_metrics(run.run, dataset={**DATASET, "from": "rows.jsonl"})
    assert (cell(run, "m").facts["tokens"], cell(run, "m").facts["tokens_per_row"]) == (None, None)


def test_baselines_are_named_for_the_rows_they_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Classroom({0: 3, 1: 4, 2: 2}, monkeypatch)
    gold = tuple(Gold(f"gold{place}", {"text": f"{place}.", "claim": "c"}, "neutral") for place in range(6))
    students: list[dict[str, Any]] = [
        PLAIN | {"name": f"{source}-{name}", "rows": source, "seed": seed}
        for source in ("gold", "seeds")
        for name, seed in (("plain", 0), ("other", 1))
    ]
    run = stage(tmp_path, *students, gold=gold)
    train(run)
    evaluate(run)
    found = {entry.name: entry for entry in baseline_entries(run)}
    assert [(entry.name, entry.kind) for entry in found.values()] == [
        ("gold", "gold"),
        ("seeds", "seeds"),
        ("majority class", "majority"),
    ]
    assert {name: scores["mean"] for name, scores in found["gold"].students.items()} == {
        "plain": 0.75,
        "other": 1,
    }
    assert (found["gold"].facts["rows"], found["seeds"].facts["rows"]) == (6, 3)
    assert found["seeds"].right.keys() == {"plain", "other"}


def test_always_the_most_frequent_label_is_a_baseline_by_itself(tmp_path: Path) -> None:
    run = stage(tmp_path, seeds=0)
    both = Gold("both", {"text": "x", "claim": "y"}, "entailment", ("neutral",))
    (entry,) = baseline_entries(replace(run, plan=replace(run.plan, test=(*run.plan.test[:3], both))))
    assert (entry.kind, entry.right) == ("majority", {})
    assert entry.students[""] == {"accuracies": [0.5], "label": "entailment", "mean": 0.5, "std": None}


def test_without_gold_test_rows_there_is_no_majority(tmp_path: Path) -> None:
    run = stage(tmp_path, seeds=0)
    assert baseline_entries(replace(run, plan=replace(run.plan, test=()))) == []


def entry(name: str, *right: float, kind: Kind = "method", student: str = "s", first: int = 0) -> Entry:
    rows = {f"row{first + place:03}": each for place, each in enumerate(right)}
    return Entry(name, kind, "r", right={student: rows})


RANDOM = np.random.default_rng(0)
GOOD, FAIR, POOR = ((RANDOM.random(120) < share).astype(float) for share in (0.9, 0.7, 0.4))


def test_every_pair_of_a_student_is_compared_row_by_row() -> None:
    entries = [entry("good", *GOOD), entry("fair", *FAIR), entry("poor", *POOR), failed("none", "r", "why")]
    (pairs,) = significance(entries).values()
    assert [(pair["one"], pair["other"]) for pair in pairs] == [
        ("good", "fair"),
        ("good", "poor"),
        ("fair", "poor"),
    ]
    apart = difference(GOOD, POOR)
    assert pairs[1] == {
        "one": "good",
        "other": "poor",
        "rows": 120,
        "points": apart.points,
        "low": apart.low,
        "high": apart.high,
        "p": apart.p,
        "p_corrected": pytest.approx(3 * apart.p),
    }


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=12, max_size=12), min_size=2, max_size=4))
def test_p_is_corrected_as_holm_has_it(answers: list[list[float]]) -> None:
    entries = [entry(f"m{place}", *right) for place, right in enumerate(answers)]
    pairs = sorted(significance(entries)["s"], key=lambda pair: float(pair["p"]))
    highest = 0.0
    for place, pair in enumerate(pairs):
        highest = max(highest, min(1.0, pair["p"] * (len(pairs) - place)))
        assert pair["p_corrected"] == pytest.approx(highest)
    assert all(one["p_corrected"] <= other["p_corrected"] + 1e-12 for one, other in pairwise(pairs))


def test_pairs_are_compared_on_the_rows_that_both_labelled() -> None:
    entries = [entry("one", 1, 1, 1, 1), entry("two", 0, 0, 1, 1, first=2), entry("three", 1, first=9)]
    (pair,) = significance(entries)["s"]
    assert (pair["one"], pair["other"], pair["rows"], pair["points"]) == ("one", "two", 2, 1.0)


def test_the_teacher_stands_beside_each_student_and_students_never_beside_each_other() -> None:
    asked = entry("teacher, zero-shot", 1, 0, 1, kind="teacher", student="")
    entries = [
        Entry("m", "method", "r", right={"small": {"row000": 1.0}, "large": {"row000": 0.0}}),
        entry("n", 1, 1, student="large"),
        asked,
    ]
    found = significance(entries)
    named = {name: [(pair["one"], pair["other"]) for pair in pairs] for name, pairs in found.items()}
    assert named == {
        "small": [("m", "teacher, zero-shot")],
        "large": [("m", "n"), ("m", "teacher, zero-shot"), ("n", "teacher, zero-shot")],
    }
    assert significance([asked, failed("m", "r", "why")]) == {}


def test_a_method_of_a_baselines_name_is_compared_too() -> None:
    entries = [entry("gold", *POOR), entry("m", *FAIR), entry("gold", *GOOD, kind="gold")]
    assert len(significance(entries)["s"]) == 3


def lines(*entries: Mapping[str, Any]) -> list[str]:
    return [line.name for line in lines_of({"entries": entries})]


def line(name: str, kind: str = "method", mean: float | None = 0.5, student: str = "s") -> dict[str, Any]:
    students: dict[str, Any] = (
        {} if mean is None else {student: {"accuracies": [mean], "mean": mean, "std": None}}
    )
    return {"name": name, "kind": kind, "run": "r", "facts": {}, "students": students, "failed": None}


def test_the_best_method_stands_first_and_baselines_after_all() -> None:
    found = lines(
        line("gold", "gold", 0.9), line("fair", mean=0.6), line("good", mean=0.8), line("seeds", "seeds")
    )
    assert found == ["good", "fair", "gold", "seeds"]


def test_what_has_no_student_stands_after_the_methods() -> None:
    teacher, majority = (
        line(name, kind, 0.9, student="") for name, kind in (("t", "teacher"), ("a", "majority"))
    )
    assert lines(majority, teacher, line("m", mean=0.8)) == ["m", "t", "a"]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page(tmp_path_factory.mktemp("compared"), comparison_result())


def page(folder: Path, result: Mapping[str, Any]) -> str:
    place = write_comparison(LocalStore(folder), result)
    assert place == str(folder / "comparison.html")
    return Path(place).read_text(encoding="utf-8").replace("\u00a0", " ")


def table(html: str) -> list[list[str]]:
    """Return the cells of a page's first table, its headings first."""
    rows = html[html.index("<table>") : html.index("</table>")].split("</tr>")
    return [[unescape(cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in rows[:-1]]


def test_the_page_shows_each_entry_with_spread_cost_and_rows(html: str) -> None:
    assert "1 task, 25 accepted rows of each label for each method." in html
    # A column that holds nothing is not there.
    headings = ["", "Student", "Rows", "Accuracy", "Macro F1", "Tokens a row", "Time", "Self-BLEU-5"]
    assert table(html) == [
        headings,
        [NASTY, "minilm", "100", "80.0 ± 2.0 %", "0.70", "–", "–", "0.20"],
        ["fewgen", "minilm", "80 of 100", "73.0 ± 2.0 %", "0.70", "120", "60 s", "–"],
        ["gold", "minilm", "500", "90.5 ± 2.0 %", "0.70", "–", "–", "–"],
        ["teacher, zero-shot", "", "–", "64.0 %", "–", "–", "–", "–"],
        ["majority class", "", "–", "25.0 %", "–", "–", "–", "–"],
    ]
    assert "fewgen made fewer rows than wanted" in html


def test_the_page_tells_what_failed_and_goes_on(html: str) -> None:
    assert '<p class="notice"><b>targen</b> failed: &lt;b&gt;no&lt;/b&gt;</p>' in html
    assert "<td>targen</td>" not in html


def test_the_page_puts_the_better_first_and_says_what_may_be_luck(tmp_path: Path, html: str) -> None:
    escaped = "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;"
    assert (
        f'<td>{escaped}</td><td>fewgen</td><td class="n">100</td><td class="n">7.0</td>\n'
        '<td class="n">1.0 to 12.0</td>' in html
    )
    assert html.count('<span class="good">more than luck</span>') == 1
    result = comparison_result()
    result["tasks"]["news"]["significance"]["minilm"][0]["p_corrected"] = 0.051
    assert '<span class="soft">may be luck</span>' in page(tmp_path, result)


def test_the_page_runs_and_loads_nothing_whatever_names_hold(html: str) -> None:
    found = Page(html)
    assert not found.tags & {"script", "img", "link", "iframe", "b:script"}
    assert len(found.ids) == len(set(found.ids)) and "svg" in found.tags
    assert "<script" not in html and "<b>no" not in html


def test_the_same_result_gives_the_same_page(tmp_path: Path, html: str) -> None:
    assert page(tmp_path, comparison_result()) == html


def test_a_comparison_without_students_has_a_page_and_a_table(tmp_path: Path) -> None:
    result = comparison_result()
    task = result["tasks"]["news"]
    task["entries"] = [each for each in task["entries"] if each["kind"] in ("teacher", "majority")]
    task["entries"].append(line("m", mean=None) | {"facts": {"rows": 12, "target": 12}})
    task["significance"] = {}
    html = page(tmp_path, result)
    assert ["m", "", "12", "–"] in table(html)
    assert "more than luck" not in html
    assert any(text.startswith("  m ") and "12" in text for text in worded(result))


def test_a_comparison_of_which_all_failed_has_a_page_and_a_table(tmp_path: Path) -> None:
    entries = [failed("m", "r", "no more").told(), failed("n", "r", "nor this").told()]
    task = {"test_rows": 9, "entries": entries, "significance": {}}
    result = {"comparison": "c", "equal": {"rows_per_label": 5, "tokens": None}, "tasks": {"t": task}}
    html = page(tmp_path, result)
    assert "<svg" not in html and "<b>m</b> failed: no more" in html
    assert [text for text in worded(result) if "failed" in text] == [
        "  m  failed: no more",
        "  n  failed: nor this",
    ]


def test_equal_is_rows_or_tokens() -> None:
    assert (
        equal({"rows_per_label": 1200, "tokens": None}) == "1,200 accepted rows of each label for each method"
    )
    assert equal({"rows_per_label": None, "tokens": 40_000}) == "40,000 tokens of the teacher for each method"


def test_for_equal_tokens_no_number_of_rows_was_wanted(tmp_path: Path) -> None:
    result = comparison_result()
    result["equal"] = {"rows_per_label": None, "tokens": 40_000}
    result["tasks"]["news"]["entries"][0]["facts"]["target"] = 2_000_000
    html = page(tmp_path, result)
    assert "2,000,000" not in html and "fewer rows than wanted" not in html


def test_the_printed_table_has_a_line_for_each_entry(html: str) -> None:
    told = list(worded(comparison_result()))
    assert told[0] == "Comparison methods: 25 accepted rows of each label for each method"
    assert told[1] == "news, 100 gold test rows:"
    columns = [heading for heading in HEADINGS if heading in table(html)[0]]
    assert told[2].split() == " ".join(columns).split()
    body = told[3:-1]
    assert len(body) == len(comparison_result()["tasks"]["news"]["entries"])
    (fewgen,) = (text for text in body if "fewgen (minilm)" in text)
    assert fewgen.replace("\u00a0", " ").split("  ")[-1].strip() == "–"
    assert "80 of 100" in fewgen and "73.0 ± 2.0" in fewgen
    assert any(text.split() == ["targen", "failed:", "<b>no</b>"] for text in body)
    assert told[-1] == "  minilm: 1 of 1 differences more than luck (p ≤ 0.05)"
    assert aligned(body, NASTY) == aligned(body, "fewgen")


def aligned(body: Sequence[str], name: str) -> int:
    """Return where the cells of a line end."""
    (found,) = (text for text in body if name in text)
    return len(found)
