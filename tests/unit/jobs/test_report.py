"""The report and the dataset card of a small run folder whose labels and texts try to break them."""

import json
import re
import shutil
from html import unescape as html_unescaped
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from cluster.errors import DataError
from cluster.storage import LocalStore
from jobs.report.card import write_card
from jobs.report.page import write_report
from jobs.report.samples import sample_rows
from jobs.report.student_card import write_student_card
from synth.rows import ledger_schema

NASTY = '<script>alert("x")</script>'
LABELS = {
    NASTY: 'a "quoted" | piped `label` --> $x$',
    "Film: 'noir'": "a film # no comment",
    "日本": "about Japan",
}
EVIL = "<img src=x onerror=alert(1)> &amp; {{ 7 * 7 }}"
GOLDEN = Path(__file__).parents[2] / "golden"


def per_label(names: list[str]) -> dict[str, Any]:
    return {name: {"precision": 0.9, "recall": 0.8, "f1": 0.85, "support": 10} for name in names}


def make_metrics() -> dict[str, Any]:
    names = list(LABELS)
    student = {"base": "minilm", "seconds": 12.0, "per_label": per_label(names), "extra_key": 1}
    return {
        "task": {"name": "films: and *more*", "instruction": EVIL, "text_type": "Abstract", "labels": LABELS},
        "dataset": {
            "rows": 6,
            "per_label": dict.fromkeys(names, 2),
            "target": 2,
            "mean_words": 41.5,
            "digest": "d1gest",
        },
        "synthesis": {
            "method": "synthesizrr",
            "teacher": "package:tiny/model.gguf",
            "revision": "abc123",
            "seconds": 83.0,
            "items": {"drawn": 12, "settled": 10, "failed": 1, "unfinished": 1},
            "rows": {
                "returned": 10,
                "accepted": 7,
                "rejected": {"refusal": 2, NASTY: 1},
                "surplus": {"over target": 1, "duplicate": 0},
                "per_label": {
                    names[0]: {"accepted": 3, "rejected": 3},
                    names[1]: {"accepted": 2},
                    names[2]: {"accepted": 2},
                },
            },
            "stages": [
                {"stage": NASTY, "asked": 4, "got": 3},
                {"stage": "generation", "asked": 10, "got": 7},
            ],
            "prompt_tokens": 12345,
            "reply_tokens": 4321,
            "stalled": {names[1]: "too few documents"},
            "fleet": {
                "replicas": 4,
                "seats": 256,
                "in_flight": 320,
                "facts": {"max_num_batched_tokens": 8192, "note": EVIL},
                "occupancy": 0.972,
            },
        },
        "costs": {
            "tokens": {"prompt": 12345, "reply": 4321},
            "gpu_hours": 1.5,
            "hours": 0.375,
            "money": {"tokens": 0.03, "gpus": 3.75, "total": 3.78},
            "limits": {
                "tokens": {"limit": 20000, "spent": 17000, "left": 3000},
                "deadline": {"limit": "07:00"},
            },
        },
        "documents": {"rows": 6, "distinct": 4, "histogram": {"1": 3, "3": 1, "12": 1}},
        "grounding": {"own": 0.812, "random": 0.213, "rows": 6},
        "test": {"rows": 30},
        "baselines": {"majority": {"accuracy": 0.333, "label": NASTY}},
        "students": {
            "seeds only": student
            | {
                "trained_on": "seeds",
                "rows": 30,
                "accuracy": 0.701,
                "accuracy_low": 0.62,
                "accuracy_high": 0.77,
            }
            | {"macro_f1": 0.69, "confusion": [[8, 1, 1], [0, 10, 0], [3, 0, 7]]},
            "minilm": student
            | {"trained_on": "synthetic", "rows": 6, "accuracy": 0.876, "accuracy_low": 0.81}
            | {"accuracy_high": 0.92, "macro_f1": 0.87, "confusion": [[9, 1, 0], [0, 10, 0], [2, 0, 8]]},
        },
    }


def write_ledger(folder: Path) -> None:
    rows = [
        {
            "row_id": f"r{n}-0",
            "item_id": f"r{n}",
            "status": "rejected",
            "labels": [NASTY],
            "text": EVIL + str(n),
        }
        | {"reason": "refusal" if n else NASTY}
        for n in range(3)
    ] + [{"row_id": "p-0", "item_id": "p", "status": "prepared", "reason": "stop", "text": "PREPARED"}]
    (folder / "ledger").mkdir()
    table = pa.Table.from_pylist(rows, schema=ledger_schema(("text",)))
    pq.write_table(table, folder / "ledger/part-000001-000001.parquet")


def write_dataset(folder: Path) -> None:
    (folder / "data").mkdir()
    label = {"names": list(LABELS), "_type": "ClassLabel"}
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": label,
        "id": {"dtype": "string", "_type": "Value"},
        "document_ids": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
        "document_scores": {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "List"},
        "prompt_tokens": {"dtype": "int64", "_type": "Value"},
    }
    table = pa.table(
        {
            "text": [f"row {n} {EVIL}" for n in range(6)],
            "label": pa.array([n % 3 for n in range(6)], pa.int64()),
            "id": [f"{n}{'ab' * 8}-0" for n in range(6)],
            "document_ids": [[f"d{n}"] for n in range(6)],
            "document_scores": pa.array([[0.5 + n / 100] for n in range(6)], pa.list_(pa.float32())),
            "prompt_tokens": list(range(6)),
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    for shard in range(2):
        pq.write_table(table.slice(3 * shard, 3), folder / f"data/train-{shard:05d}-of-00002.parquet")
    (folder / "sources").mkdir()
    documents = {
        "id": [f"d{n}" for n in range(6)],
        "title": ["T <b>"] * 6,
        "text": [f"doc {n}" for n in range(6)],
    }
    pq.write_table(pa.table(documents), folder / "sources/documents.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = tmp_path / "a_run"
    run.mkdir()
    record = {
        "run": "a_run",
        "created": "2025-01-02T03:04:05+00:00",
        "resolved": {"run": "a_run", "method": {"name": "synthesizrr", "rewrite": "Say\n`it` | <b>"}},
        "versions": {"torch": "2.13.0"},
        "revision": "c0ffee",
        "fingerprints": {},
    }
    (run / "run.json").write_text(json.dumps(record))
    (run / "metrics.json").write_text(json.dumps(make_metrics()))
    write_ledger(run)
    write_dataset(run)
    return run


class Page(HTMLParser):
    """Collects elements, attributes that load, and headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.outline: list[str] = []
        self._heading = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._heading = tag if tag in ("h1", "h2", "h3") else self._heading
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self._heading:
            self.outline.append(f"{self._heading} {' '.join(data.split())}")
            self._heading = ""


def report(folder: Path) -> str:
    place = write_report(LocalStore(folder))
    assert place == str(folder / "report.html")
    return Path(place).read_text(encoding="utf-8").replace("\u00a0", " ")


def card(folder: Path, **options: str) -> tuple[dict[str, Any], str]:
    text = Path(write_card(LocalStore(folder), **options)).read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_page_shows_the_numbers(folder: Path) -> None:
    html = report(folder)
    for number in ("87.6 %", "81.0–92.0 %", "70.1 %", "33.3 %", "70.0 %", "81.2 %", "21.3 %", "12,345"):
        assert number in html
    for words in (
        "17.5 points more than",
        "too few documents",
        "similarity 0.53",
        "c0ffee",
        "2.13.0",
        "d1gest",
        "doc 3",
    ):
        assert words in html
    assert html.count('<span class="good">balances</span>') == 3
    assert 'id="missing"' not in html
    assert "PREPARED" not in html


def test_the_page_runs_and_loads_nothing(folder: Path) -> None:
    html = report(folder)
    page = Page(html)
    assert not page.tags & {"script", "img", "link", "iframe", "object", "embed", "b:script"}
    assert page.tags >= {"svg", "table", "details"}
    assert all(target.startswith("#") for target in page.loads)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert len(page.ids) == len(set(page.ids))


def test_hostile_texts_are_shown_as_they_are(folder: Path) -> None:
    html = report(folder)
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;img src=x onerror=alert(1)&gt; &amp;amp; {{ 7 * 7 }}" in html
    assert "&lt;script&gt;alert(&#34;x&#34;)" in html
    assert "日本" in html


def test_the_page_and_the_card_are_the_same_every_time(folder: Path) -> None:
    first, first_card = report(folder), card(folder)
    assert report(folder) == first
    assert card(folder) == first_card


def test_the_outline_of_the_page_is_as_agreed(folder: Path) -> None:
    assert Page(report(folder)).outline == (GOLDEN / "report_outline.txt").read_text().splitlines()


def test_rounds_are_told_with_what_ended_them(folder: Path) -> None:
    rounds = [
        {"round": 0, "lessons": [], "rows": 20, "accuracy": 0.5},
        {"round": 1, "lessons": ["errors"], "left_out": 3, "rows": 1234, "ended": "no <b>errors</b>"},
    ]
    (folder / "metrics.json").write_text(json.dumps(make_metrics() | {"rounds": rounds}))
    html = report(folder)
    assert "h2 Round by round" in Page(html).outline
    assert "errors in gold rows" in html and "1,234" in html
    assert "The run ended in round 2: no &lt;b&gt;errors&lt;/b&gt;." in html


def test_a_causal_student_is_loaded_by_what_scores_labels(folder: Path) -> None:
    assert 'pipeline("text-classification"' in html_unescaped(report(folder))
    metrics = make_metrics()
    metrics["students"]["minilm"]["kind"] = "causal"
    (folder / "metrics.json").write_text(json.dumps(metrics))
    html = html_unescaped(report(folder))
    assert "pipeline(" not in html
    assert 'students/minilm"), ["A text to classify."])' in html


@pytest.mark.parametrize("left_out", list(make_metrics()))
def test_a_missing_section_is_left_out(folder: Path, left_out: str) -> None:
    metrics = make_metrics()
    del metrics[left_out]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    html = report(folder)
    card(folder)
    if left_out not in ("test", "documents", "costs"):
        assert 'id="missing"' in html
    if left_out == "students":
        assert "a student trained on the dataset" in html
        assert 'id="students"' not in html


def test_a_run_that_has_just_begun_has_a_page_and_a_card(tmp_path: Path) -> None:
    html = report(tmp_path)
    assert "has written no dataset yet" in html
    assert "run.json" in html
    front, body = card(tmp_path)
    assert "configs" not in front
    assert "no dataset yet" in body


def test_the_reuse_of_documents_is_shown_many_uses_together(folder: Path) -> None:
    html = report(folder)
    assert "6 rows were written from 4 documents" in html
    assert "<td>10 or more</td>" in html and "<td>12</td>" not in html
    (folder / "metrics.json").write_text(json.dumps(make_metrics() | {"documents": None}))
    assert "How often each document serves" not in report(folder)


def test_costs_and_limits_are_shown_for_all_rows_and_for_a_thousand(folder: Path) -> None:
    html = report(folder)
    for line in (
        '<td>Prompt tokens</td><td class="n">12,345</td><td class="n">2,057,500</td>',
        '<td>GPU-hours</td><td class="n">1.5</td><td class="n">250</td>',
        '<td>Hours of generation</td><td class="n">0.375</td><td class="n">62.5</td>',
        '<td>Money</td><td class="n">3.78</td><td class="n">630.00</td>',
        '<td>Tokens</td><td class="n">20,000</td><td class="n">17,000</td><td class="n">3,000</td>',
        '<td>Deadline</td><td class="n">07:00</td><td class="n">–</td>',
        "<td>Running requests / seats while work waited</td><td>97.2 %</td>",
        "<td>max_num_batched_tokens</td><td>8192</td>",
    ):
        assert line in html
    assert "| Money for GPUs | 3.75 | 625.00 |" in card(folder)[1]


def test_a_run_of_an_older_version_shows_no_costs(folder: Path) -> None:
    metrics = make_metrics()
    del metrics["costs"], metrics["synthesis"]["fleet"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert "What it cost" not in report(folder)
    assert "| cost |" not in card(folder)[1]


def test_costs_without_money_or_rows_are_shown(folder: Path) -> None:
    metrics = make_metrics() | {"costs": {"tokens": {"prompt": 5}, "gpu_hours": 0, "hours": 0.0001}}
    del metrics["dataset"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    html = report(folder)
    assert '<td>Prompt tokens</td><td class="n">5</td><td class="n">–</td>' in html
    assert '<td class="n">&lt; 0.001</td>' in html
    assert "<td>Money" not in html and 'id="limits"' not in html


def test_the_limit_that_stopped_the_run_is_said_first(folder: Path) -> None:
    metrics = make_metrics()
    assert 'id="stopped"' not in report(folder)
    metrics["synthesis"]["stopped"] = "limits.tokens: 20,000 is reached; the same command <goes> on."
    (folder / "metrics.json").write_text(json.dumps(metrics))
    html = report(folder)
    assert (
        "every target was met: limits.tokens: 20,000 is reached; the same command &lt;goes&gt; on.</p>"
        in html
    )
    assert "A limit ended the run before every target was met" in card(folder)[1]


@pytest.mark.parametrize(
    ("target", "note", "chart"),
    [
        (2, "2 a label wanted", ">target 2<"),
        (dict.fromkeys(LABELS, 2), "2 a label wanted", ">target 2<"),
        (dict(zip(LABELS, (2, 0, 4), strict=True)), "6 wanted", ">target<"),
        (None, "in the dataset", None),
        ({}, "in the dataset", None),
    ],
)
def test_targets_are_one_number_or_one_for_each_label(
    folder: Path, target: Any, note: str, chart: str | None
) -> None:
    metrics = make_metrics()
    metrics["dataset"]["target"] = target
    (folder / "metrics.json").write_text(json.dumps(metrics))
    html = report(folder)
    assert f'<div class="note">{note}</div>' in html
    assert chart in html if chart else ">target" not in html


def test_null_grounding_and_no_documents(folder: Path) -> None:
    (folder / "metrics.json").write_text(json.dumps(make_metrics() | {"grounding": None}))
    (folder / "sources/documents.parquet").unlink()
    html = report(folder)
    assert "a measure of grounding" in html
    assert "row 3" in html
    assert "similarity 0.5" not in html
    assert "No retrieved documents were used" in card(folder)[1]


def test_books_that_do_not_balance_are_said(folder: Path) -> None:
    metrics = make_metrics()
    metrics["synthesis"]["items"]["drawn"] = 13
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert "does not balance" in report(folder)


def test_the_front_matter_describes_the_dataset(folder: Path) -> None:
    front, _ = card(folder, license="cc-by-sa-4.0")
    assert front["license"] == "cc-by-sa-4.0"
    assert front["size_categories"] == ["n<1K"]
    assert front["tags"] == ["synthetic", "nightshift"]
    assert front["pretty_name"] == "films: and *more*"
    features = {feature["name"]: feature for feature in front["dataset_info"]["features"]}
    names = features["label"]["dtype"]["class_label"]["names"]
    assert list(names.values()) == list(LABELS)
    assert features["document_scores"] == {"name": "document_scores", "list": "float32"}


def test_the_card_is_honest_and_escaped(folder: Path) -> None:
    front, body = card(folder)
    assert front["license"] == "unknown"
    assert "No licence was given" in body
    for words in ("87.6 %", "33.3 %", "refusal", "nightshift run", "machine-written", "7 accepted (70.0 %)"):
        assert words in body
    assert "left out: over target 1, duplicate 0\n\n| rejected because | rows |\n| --- |" in body
    assert "<script" not in body
    assert "<img" not in body
    assert r"a " r'"quoted"' r" \| piped \`label\` --&gt; \$x\$" in body
    assert r"``Say `it` \| <b>``" in body


def test_a_column_that_cannot_be_loaded_is_refused(folder: Path) -> None:
    table = pa.table({"text": ["a"], "odd": pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string()))})
    pq.write_table(table, folder / "data/train-00000-of-00002.parquet")
    with pytest.raises(DataError, match="odd"):
        write_card(LocalStore(folder))


def test_datasets_loads_the_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    report(folder)
    card(folder)
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    rows = loaded["train"]
    assert list(loaded) == ["train"]
    assert rows.num_rows == 6
    assert rows.features["label"].names == list(LABELS)
    assert rows[4]["text"].startswith("row 4 ")
    assert rows.features["label"].int2str(rows[4]["label"]) == list(LABELS)[1]


def test_rows_of_several_fields_are_shown_whole(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    row = {"text": "It rains.", "hypothesis": "It is wet.", "label": "entailment", "id": "r1"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "data" / "train-00000-of-00001.parquet")
    (shown,) = sample_rows(LocalStore(tmp_path), 1)
    assert (shown.label, shown.text) == ("entailment", "text: It rains.\nhypothesis: It is wet.")


def with_runs(metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics of a student of several runs, with bins of confidence and a label that no gold row has."""
    name = "minilm"
    bins = [{"low": 0.8, "high": 0.9, "rows": 30, "confidence": 0.85, "accuracy": 0.8}]
    told = {
        "runs": {"accuracies": [0.8, 0.7], "mean": 0.75, "std": 0.05, "seeds": [2, 3], "first": [0.9, 0.5]},
        "reliability": bins,
        "calibration_error": 0.05,
        "absent_labels": [NASTY],
        "validation_accuracies": [0.5, 0.6, 0.4],
        "kept_epoch": 2,
    }
    return metrics | {"students": metrics["students"] | {name: metrics["students"][name] | told}}


def test_runs_and_calibration_are_shown(folder: Path) -> None:
    (folder / "metrics.json").write_text(json.dumps(with_runs(make_metrics())))
    write_report(LocalStore(folder))
    write_card(LocalStore(folder))
    page, card = (folder / "report.html").read_text(), (folder / "README.md").read_text()
    assert page.count("75.0\u00a0±\u00a05.0\u00a0% in 2 runs") == 3
    assert "90.0\u00a0%, 50.0\u00a0%, were too far apart" in page
    assert "60.0\u00a0% after epoch 2 of 3" in page
    assert 'aria-label="Reliability diagram of' in page
    assert "no gold test row has the label &lt;script&gt;" in page
    assert "75.0 ± 5.0 % in 2 runs. The first run is the one that is kept" in card
    assert "No gold test row has the label" in card


@pytest.fixture(scope="module")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of random weights, with labels that try to break its card."""
    from tests.tiny_encoder import save_tiny_encoder
    from training.classifier import new_classifier, save_classifier

    folder = tmp_path_factory.mktemp("tiny")
    base = save_tiny_encoder(folder / "base")
    model, tokenizer = new_classifier(base, list(LABELS), 0.0, 0)
    save_classifier(model, tokenizer, 64, folder / "student")
    return folder / "student"


@pytest.mark.parametrize("several", [False, True])
def test_the_example_of_a_students_card_runs_as_printed(
    folder: Path,
    tiny_classifier: Path,
    several: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    metrics = with_runs(make_metrics())
    name = "minilm"
    metrics["students"][name] |= {"labels": list(LABELS), "fields": ["text", "claim"]}
    metrics["students"][name] |= {"several_labels": several, "micro_f1": 0.5}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    place = folder / "students" / name
    shutil.copytree(tiny_classifier, place, dirs_exist_ok=True)
    report = {"base": "org/model", "revision": "r", "rows": 7}
    (place / "manifest.json").write_text(json.dumps({"report": report}))
    write_student_card(LocalStore(folder), name)
    card = (place / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(place)
    exec(compile(example, "card", "exec"), {})
    said = capsys.readouterr().out
    assert several or any(label in said for label in LABELS)
    assert r"A text to classify.\nClaim: Another text." in example
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "transformers"
    assert NASTY not in card
