"""The dataset's metrics on the report: figures, charts, reasons, the rows behind them, and gold rows kept."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.rundir import update_metrics
from cluster.storage import LocalStore
from jobs import quality as quality_module
from jobs.quality import quality
from jobs.report.card import write_card
from jobs.report.findings import SHOWN, bound, findings, nearest_gold, read_gold
from jobs.report.page import write_report
from jobs.report.quality import Figure, figures, not_computed
from jobs.report.quality_charts import entity_chart, length_chart, map_chart, repetition_chart
from retrieval.settings import EncoderSettings, IndexSettings
from synth.metrics.copies import Copies
from synth.metrics.distinct import Distinct
from synth.metrics.mauve import Mauve
from synth.metrics.meaning import Meaning
from synth.metrics.metric import Texts
from synth.metrics.profile import Profile
from synth.metrics.self_bleu import SelfBleu
from synth.metrics.settings import metrics_settings
from synth.metrics.vendi import Vendi
from synth.task import Gold
from tests.unit.jobs.measured_run import FILM, GOLD, measured, pair, row, term, write_run
from tests.unit.jobs.test_report import EVIL, NASTY, Page
from tests.unit.jobs.test_train_rows import PLAIN, stage
from tests.unit.synth.measuring import measure, some
from tests.unit.synth.vectors_given import ENCODER, given_vectors, random_vectors

Answers = Mapping[str, Any]


def shown(answers: Answers) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures({"quality": answers})}


def report(folder: Path) -> str:
    return Path(write_report(LocalStore(folder))).read_text(encoding="utf-8").replace("\u00a0", " ")


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run with terms, findings, examples and a metric that was not computed."""
    answers = measured()
    answers["bound_terms"]["terms"] = [term("<b>moreover", FILM, False, row(1)), term("noir", FILM, True)]
    answers["copies"]["gold"] = {"rows": 1, "share": 0.01, "ids": [[row(0), GOLD[0]]]}
    answers["nearest"]["examples"] = [{"label": NASTY, **pair(row(3), GOLD[2], 0.42)}]
    answers["vendi"] = "not computed, because <i>it</i> needs an encoder"
    return report(write_run(tmp_path_factory.mktemp("measured") / "run", answers))


@pytest.mark.parametrize(
    ("name", "rows", "gold", "n"),
    [
        ("Self-BLEU-1", "0.801", "0.703", "4"),
        ("Self-BLEU-5", "0.402", "0.304", "4"),
        ("Distinct-1", "0.501", "0.603", "4"),
        ("Distinct-2", "0.902", "0.954", "4"),
        ("Vocabulary", "1,234", "2,345", "4"),
        ("Diversity of meaning", "0.712", "0.813", "4"),
        ("Vendi score", "2.71", "3.14", "4"),
        ("MAUVE", "0.876 ± 0.012", "–", "6"),
        ("Entity entropy", "2.22", "4.44", "6"),
        ("Entities a row", "3.33", "5.55", "6"),
        ("Tokens a row", "41.5", "39.5", "6"),
        ("Reading grade", "8.25", "–", "6"),
        ("Rows that repeat another", "0.0\u00a0%", "–", "6"),
        ("Rows that are gold test rows", "0.0\u00a0%", "–", "6"),
    ],
)
def test_a_figure_stands_beside_that_of_as_many_gold_rows(name: str, rows: str, gold: str, n: str) -> None:
    figure = shown(measured())[name]
    assert (figure.rows, figure.gold, figure.n) == (rows, gold, n)
    assert figure.reading


def test_without_gold_rows_figures_are_those_of_all_rows() -> None:
    none = {"not_computed": "the task names no gold test rows (task.test)"}
    answers = {
        name: {key: value for key, value in answer.items() if key != "gold_same_n"} | {"gold": none}
        for name, answer in measured().items()
    }
    found = shown(answers)
    assert (found["Self-BLEU-5"].rows, found["Self-BLEU-5"].n) == ("0.61", "6")
    assert (found["Vendi score"].rows, found["Vendi score"].n) == ("5.42", "6")
    assert found["Vocabulary"].rows == "2,468"
    assert {figure.gold for figure in found.values()} == {"–"}
    assert "Rows that are gold test rows" not in found
    assert all(chart({"quality": answers}) for chart in (repetition_chart, length_chart, entity_chart))


def test_figures_read_what_metrics_say() -> None:
    rows = some([f"Film {place} was seen by {place * 7} people in a hall." for place in range(30)])
    gold = some([f"A hall shows film {place}." for place in range(20)])
    vectors = given_vectors(random_vectors(60, 8), random_vectors(50, 8, seed=1))
    answers: dict[str, Any] = {
        metric.name: measure(metric, rows, gold) for metric in (SelfBleu(), Distinct(), Profile(), Copies())
    }
    for metric in (Meaning(encoder=ENCODER), Vendi(encoder=ENCODER), Mauve(encoder=ENCODER)):
        answers[metric.name] = metric.measure(vectors)
    found = shown(json.loads(json.dumps(answers)))
    unmeasured = {"Entity entropy", "Entities a row"}
    assert found.keys() == shown(measured()).keys() - unmeasured
    assert not [name for name, figure in found.items() if "–" in figure.rows]
    alone = {"MAUVE", "Rows that repeat another", "Rows that are gold test rows"}
    assert {name for name, figure in found.items() if figure.gold == "–"} == alone
    equal = answers["vendi"]["gold_same_n"]
    assert found["Vendi score"].n == "50" == str(equal["n"])
    assert float(found["Vendi score"].rows) == pytest.approx(equal["rows"]["vendi"], rel=0.01)
    assert float(found["Self-BLEU-5"].gold) == pytest.approx(
        answers["self_bleu"]["gold_same_n"]["gold"]["5"], rel=0.01
    )
    assert "fewer than 1,000 rows" in found["MAUVE"].reading
    assert repetition_chart({"quality": answers}) and length_chart({"quality": answers})


def entities_without_any() -> Answers:
    return {"entities": measured()["entities"] | {"entropy": {"not_computed": "no entities were found"}}}


def words_alone() -> Answers:
    return {"distinct": measure(Distinct(), some(["yes", "no"]), some(["no", "maybe"]))}


@pytest.mark.parametrize("answers", [entities_without_any, words_alone])
def test_a_figure_that_was_not_computed_is_a_dash(answers: Callable[[], Answers]) -> None:
    assert all(isinstance(figure.rows, str) for figure in figures({"quality": answers()}))


def test_mauve_of_one_seed_has_no_spread() -> None:
    found = shown(
        {"mauve": measured()["mauve"] | {"std": None, "scores": [0.8765], "warnings": ["few rows"]}}
    )
    assert found["MAUVE"].rows == "0.876"
    assert found["MAUVE"].reading.endswith("; few rows")


def test_what_was_not_computed_is_said_with_the_reason(html: str) -> None:
    answers = measured() | {
        "mauve": "not computed, because there are no gold test rows",
        "own": "not computed, because X",
    }
    answers["nearest"]["seeds"] = {"not_computed": "the task names no seeds"}
    told = not_computed({"quality": answers})
    assert ("MAUVE", "there are no gold test rows") in told
    assert ("Nearest rows by meaning, seeds", "the task names no seeds") in told
    # A metric that this version has no name for is called what it is called.
    assert ("own", "X") in told
    assert not_computed({"quality": measured()}) == []
    assert "<b>Vendi score</b>, because &lt;i&gt;it&lt;/i&gt; needs an encoder." in html


def test_the_page_shows_figures_and_charts(html: str) -> None:
    for name, figure in shown(measured()).items():
        if name not in ("Vendi score", "Rows that are gold test rows"):
            cells = f'<td>{name}</td><td class="n">{figure.rows}</td><td class="n">{figure.gold}</td>'
            assert cells.replace("\u00a0", " ") in html
    assert '<td>Rows that are gold test rows</td><td class="n">1.0 %</td>' in html
    assert "<td>Vendi score</td>" not in html
    page = Page(html)
    assert {"repetition", "lengths", "entity-chart", "meanings", "quality"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert not page.tags & {"script", "img", "link", "iframe"}
    assert "first principal component (41 % of the variance)" in html


def test_charts_name_what_they_draw_as_it_is() -> None:
    metrics = {"quality": measured()}
    chart = str(map_chart(metrics))
    assert "<script" not in chart and "&lt;script&gt;alert(" in chart
    assert "日本" in chart and "Film: 'noir'" in chart and "gold rows" in chart
    entities = str(entity_chart(metrics))
    # The type with the most bits comes first.
    assert entities.index("&lt;b&gt;GPE") < entities.index("PERSON")
    assert ">gold rows<" in str(repetition_chart(metrics)) and ">gold rows<" in str(length_chart(metrics))


def test_charts_without_gold_rows_name_none() -> None:
    answers = measured()
    del (
        answers["self_bleu"]["gold_same_n"],
        answers["profile"]["histogram"]["gold"],
        answers["entities"]["gold"],
    )
    answers["map"]["points"] = [each for each in answers["map"]["points"] if not each[3]]
    for chart in (repetition_chart, length_chart, entity_chart, map_chart):
        drawing = str(chart({"quality": answers}))
        assert drawing.startswith("<svg") and ">gold rows<" not in drawing


def test_nothing_is_drawn_of_what_was_not_computed() -> None:
    for answers in ({}, None, dict.fromkeys(measured(), "not computed, because X")):
        for chart in (repetition_chart, length_chart, entity_chart, map_chart):
            assert chart({"quality": answers}) is None


def test_a_label_that_begins_with_an_underscore_is_named_too() -> None:
    answer = measured()["map"] | {"labels": ["_other", "a", "b"]}
    assert "_other" in str(map_chart({"quality": {"map": answer}}))


def test_findings_show_the_rows_beside_each_other(tmp_path: Path) -> None:
    answers = measured()
    answers["copies"] = {
        "gold": {"ids": [[row(0), GOLD[0]], [row(1), "gone"], ["gone", GOLD[1]]]},
        "contradicting": {"ids": [[row(1), row(2)]]},
        "repeated": {"ids": [[row(4), row(5)]] * 9},
    }
    answers["nearest"]["gold"]["pairs"] = [pair(row(3), GOLD[3], 0.951), pair(row(4), GOLD[2], 0.949)]
    answers["nearest_rouge_l"]["gold"]["nearest"] = [{"id": row(5), "other": GOLD[1], "score": 0.7}]
    run = LocalStore(write_run(tmp_path / "run", answers))
    found = {each.title: each for each in findings(run, {"quality": answers}, read_gold(run))}
    pairs = {
        title: [(shown.row.id, shown.other.id, shown.note) for shown in each.pairs]
        for title, each in found.items()
    }
    assert pairs == {
        "Rows that are gold test rows": [(row(0), GOLD[0], "the same")],
        "Rows almost like a gold test row": [(row(3), GOLD[3], "cosine 0.95")],
        "Rows that share long runs of words with a gold test row": [(row(5), GOLD[1], "Rouge-L 0.70")],
        "One text under several labels": [(row(1), row(2), "the same")],
        "Rows that repeat another": [(row(4), row(5), "the same")] * 5,
    }
    (leak,) = found["Rows that are gold test rows"].pairs
    assert (leak.row.label, leak.row.text) == (NASTY, f"row 0 {EVIL}")
    assert (leak.other.label, leak.other.text) == (f"{FILM}, {NASTY}", f"gold g0 {EVIL}")
    assert found["Rows almost like a gold test row"].note == "By meaning, from a cosine of 0.95."


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    run = LocalStore(write_run(tmp_path / "run", measured()))
    assert findings(run, {"quality": measured()}, read_gold(run)) == []
    assert findings(run, {}, {}) == []
    assert bound(run, {"quality": measured()}) == []
    assert 'id="findings"' not in report(tmp_path / "run")


def test_terms_are_shown_where_there_are_no_gold_rows_to_hold_them_against(tmp_path: Path) -> None:
    told = term("moreover", FILM, False, row(1))
    del told["also_in_gold"]
    html = report(write_run(tmp_path / "run", {"bound_terms": {"n": 6, "terms": [told]}}))
    assert "<td>moreover</td>" in html and "not bound" not in html


def test_the_page_shows_findings_and_terms_as_texts(html: str) -> None:
    found = html[html.index('id="findings"') :]
    assert "row 0 &lt;img src=x onerror=alert(1)&gt;" in found and "gold g0 &lt;img" in found
    assert "<td>&lt;b&gt;moreover</td>" in found
    assert '<td class="n">1,500</td><td class="n">2</td>' in found
    assert found.count('<span class="bad">not bound</span>') == 1 == found.count("<td>bound too</td>")
    assert "row 1 &lt;img" in found[found.index("moreover") :]
    assert "<img" not in html and "<script" not in html and "<b>moreover" not in html


def test_the_nearest_gold_row_stands_beside_a_sample(html: str) -> None:
    samples = html[html.index('id="samples"') : html.index('id="quality"')]
    assert "nearest gold row · Film: &#39;noir&#39;, &lt;script&gt;" in samples
    assert "similarity 0.42" in samples and "gold g2 &lt;img" in samples
    # Of the rows of its label it is the one that is shown first, whatever its id.
    first = samples[samples.index("<summary>&lt;script&gt;") :]
    assert first.index("row 3 &lt;img") < first.index("row 0 &lt;img")


def test_rows_with_a_gold_row_beside_them_are_the_ones_that_are_shown(tmp_path: Path) -> None:
    run = LocalStore(write_run(tmp_path / "run", measured()))
    examples = [pair(row(5), GOLD[1], 0.5) | {"label": "日本"}, pair(row(4), "gone", 0.5) | {"label": FILM}]
    beside = nearest_gold({"quality": {"nearest": {"examples": examples}}}, read_gold(run))
    assert list(beside) == [row(5)]
    assert (beside[row(5)].id, beside[row(5)].score) == (GOLD[1], 0.5)


@pytest.mark.parametrize("answers", [None, {}])
def test_a_run_of_an_older_version_has_its_page(tmp_path: Path, answers: Answers | None) -> None:
    folder = write_run(tmp_path / "run", answers)
    (folder / SHOWN).unlink()
    html = report(folder)
    assert 'id="quality"' not in html and 'id="findings"' not in html
    assert "Film: &#39;noir&#39;" in html
    # Nothing is missing that the recipe did not ask for.
    assert 'id="missing"' not in html
    write_card(LocalStore(folder))


def test_metrics_that_were_asked_for_and_are_not_there_are_missing(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", None)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"resolved": {"metrics": {"copies": {}}}}))
    assert "Not in this run: metrics of the dataset." in report(folder)


class Measuring:
    """Stands in for the cluster: takes down what it is asked and gives the answers it was made with."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.asked: dict[str, Any] = {}

    def __call__(self, metrics: Any, sides: Any, store: Any, earlier: Any, say: Any) -> Any:
        self.asked = {"metrics": metrics, "sides": sides, "earlier": earlier}
        return self.answers


def test_gold_rows_and_seeds_that_answers_name_are_kept_for_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = stage(tmp_path, PLAIN)
    named, seed = given.plan.test[2], given.task.seeds[1]
    answers = {
        "copies": {"gold": {"ids": [["row", named.id]]}, "n": 1},
        "nearest": {"examples": [{"row": "r", "other": seed.id}], "n": 1},
        "mauve": "not computed, because there is no encoder",
    }
    cluster = Measuring(answers)
    monkeypatch.setattr(quality_module, "measure_all", cluster)
    update_metrics(given.run, quality={"copies": {"identity": "earlier"}})
    recipe = given.recipe.model_copy(update={"metrics": metrics_settings()()})
    assert quality(replace(given, plan=replace(given.plan, recipe=recipe))) == answers
    kept = {each["id"]: each for each in pq.read_table(tmp_path / SHOWN).to_pylist()}
    assert kept.keys() == {named.id, seed.id}
    # As a student reads them, and so as rows are measured.
    assert kept[named.id]["text"] == "test 2.\nClaim: Its claim 2."
    assert kept[named.id]["labels"] == ["entailment"]
    assert read_gold(given.run)[seed.id].label == "neutral"
    assert "Metric mauve: not computed, because there is no encoder" in capsys.readouterr().err
    assert cluster.asked["earlier"] == {"copies": {"identity": "earlier"}}
    sides: Mapping[str, Texts] = cluster.asked["sides"]
    assert {side: len(texts) for side, texts in sides.items()} == {"rows": 5, "gold": 4, "seeds": 3}
    assert "Text 0.\nClaim: Claim 0." in sides["rows"].texts
    assert sorted(sides["gold"].labels) == [("entailment",)] * 2 + [("neutral",)] * 2


def test_a_gold_row_of_several_labels_is_kept_with_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = stage(tmp_path, PLAIN, seeds=0)
    both = Gold("both", {"text": "x", "claim": "y"}, "entailment", ("neutral",))
    recipe = given.recipe.model_copy(update={"metrics": metrics_settings()()})
    plan = replace(given.plan, recipe=recipe, test=(*given.plan.test, both))
    monkeypatch.setattr(quality_module, "measure_all", Measuring({"copies": {"ids": [["r", "both"]]}}))
    quality(replace(given, plan=plan))
    (kept,) = pq.read_table(tmp_path / SHOWN).to_pylist()
    assert kept == {"id": "both", "text": "x\nClaim: y", "labels": ["entailment", "neutral"]}


def test_an_index_lends_its_encoder_and_null_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, cluster = stage(tmp_path, PLAIN, seeds=0), Measuring({})
    monkeypatch.setattr(quality_module, "measure_all", cluster)
    assert quality(given) == {} == cluster.asked
    encoder = EncoderSettings(model="m", preset="e5")
    changes = {
        "metrics": metrics_settings().model_validate({"vendi": None}),
        "index": IndexSettings(encoder=encoder),
    }
    recipe = given.recipe.model_copy(update=changes)
    assert quality(replace(given, plan=replace(given.plan, recipe=recipe))) == {}
    assert "vendi" not in cluster.asked["metrics"]
    assert cluster.asked["metrics"]["nearest"].encoder == encoder
