"""What `nightshift explain` tells of rows in run folders made by hand; prompts are built and compared."""

import io
import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from cluster.lease import acquire
from cluster.ledger import Ledger
from cluster.rundir import check_fingerprint, record_run, update_metrics
from cluster.settings import validate
from cluster.storage import LocalStore
from jobs.cli import main
from jobs.recipe import Recipe
from synth.method import Generate
from synth.methods.fewgen import FewGen
from synth.preparation import commit_sources
from synth.records import Author, Call, Example, Item, Rejection, Reply, Sampling, Usage, prompt_hash
from synth.rows import failed_row, ledger_schema, prepared_row, settled_rows
from synth.task import load_task

LABELS = {"sport": "a sports event", "food": "a dish"}
SAMPLING = Sampling(stop=("\nText:",))
SIGNATURE = bytes(range(64))


class Night:
    """A run folder with a plan that was worked by hand."""

    def __init__(self, folder: Path, method: Mapping[str, Any], sources: Mapping[str, pa.Table]) -> None:
        self.store = LocalStore(folder / "runs" / "night")
        self.seeds = folder / "seeds.jsonl"
        lines = [{"text": f"seed {n} of {label}", "label": label} for label in LABELS for n in range(4)]
        self.seeds.write_text("".join(json.dumps(line) + "\n" for line in lines))
        task = {"name": "t", "instruction": "Sort.", "labels": LABELS, "seeds": str(self.seeds)}
        recipe = {
            "run": "night",
            "task": task,
            "method": dict(method),
            "index": {"partition_rows": 16},
            "teacher": {"backend": "scripted"},
            "targets": {"rows_per_label": 2},
        }
        self.recipe = validate(Recipe, recipe, "recipe")
        self.task = load_task(self.recipe.task, folder)
        self.method: Any = self.recipe.method.build(self.task)
        record_run(self.store, "night", self.recipe.model_dump(mode="json"))
        content = {"task": self.task.identity(), "method": self.recipe.method.model_dump(mode="json")}
        check_fingerprint(self.store, "synthesize", content)
        commit_sources(self.store, sources)
        self.items = [slot.build() for slot in islice(self.method.plan(sources, 0, {}), 12)]
        self._author = Author("fewgen", "a/teacher", "rev7")
        self._lease = acquire(self.store)
        self._ledger = Ledger(self.store, self._lease, ledger_schema(("text",)))

    def settle(self, number: int, *outcomes: Example | Rejection, calls: int = 1) -> Item:
        item = self.items[number]
        hashes = [prompt_hash(self.method.prompt(item)), *(f"{n}" * 32 for n in range(1, calls))]
        usages = [Usage(each, SAMPLING, 20, 5) for each in hashes]
        self.commit(settled_rows(item, outcomes, usages, self._author, "text"))
        return item

    def fail(self, number: int) -> Item:
        self.commit([failed_row(self.items[number], "no reply within 600 s", self._author)])
        return self.items[number]

    def prepare(self, call: Call) -> None:
        self.commit([prepared_row(call, Reply("a topic", "stop", 3, 2), self._author)])

    def commit(self, rows: list[dict[str, Any]]) -> None:
        schema = ledger_schema(("text",))
        self._ledger.commit([pa.RecordBatch.from_pylist(rows, schema=schema)])

    def end(self, kept: list[str], accepted: int, *reasons: str) -> None:
        """Write a dataset of some rows, as curation does, and let go of the run."""
        sink = io.BytesIO()
        pq.write_table(pa.table({"id": pa.array(kept, pa.string())}), sink)
        self.store.write("data/train-00000-of-00001.parquet", sink.getvalue())
        rows = {"rows": {"accepted": accepted}}
        target = dict.fromkeys(LABELS, 2)
        surplus = dict.fromkeys(("duplicate", *reasons), 1)
        update_metrics(self.store, synthesis=rows, dataset={"target": target, "surplus": surplus})
        self._lease.release()


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    monkeypatch.chdir(tmp_path)
    return Night(tmp_path, {"name": "fewgen", "shots": 2}, {})


def example(text: str, label: str, **more: Any) -> Example:
    return Example({"text": text}, label, **more)


def explain(*words: str) -> Result:
    return CliRunner().invoke(main, ["explain", "night", *words])


def told(row: str) -> str:
    """What is printed of a row, on one line."""
    result = explain(row)
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def facts(row: str) -> dict[str, Any]:
    result = explain(row, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_an_accepted_row_is_told_with_its_prompt_whose_hash_is_checked(night: Night) -> None:
    item = night.settle(0, example("A match.", "sport", verdicts={"judge": "fits"}, extra={"topic": "a cup"}))
    night.end([f"{item.id}-0"], 1)
    story = told(f"{item.id}-0")
    for part in (
        "accepted, in the dataset: data/train-00000-of-00001.parquet, row 0",
        "Label sport",
        "Judged judge fits",
        "Text A match.",
        "Topic a cup",
        "round 0, position 0 of the plan",
        "a/teacher (revision rev7) with fewgen",
        "temperature 0.95",
        "20 prompt, 5 reply",
        "part-000001-000001.parquet, in sitting 1",
        "Shot 2:",
        "Prompt (hash checked) Write a text about a sports event.",
    ):
        assert part in story, part
    known = facts(item.id)
    assert known["checked"] is True and known["prompt"] == night.method.prompt(item) and not known["doubts"]
    assert [shot["text"] for shot in known["shots"]] == [shot.text for shot in item.shots]


def test_a_row_is_found_by_the_beginning_of_its_id_and_case_is_no_matter(night: Night) -> None:
    first, other = (night.settle(n, example(f"Text {n}.", LABEL)) for n, LABEL in ((0, "sport"), (1, "food")))
    assert facts(first.id[:8].upper())["rows"][0]["item_id"] == first.id
    assert facts(f"{other.id[:10]}-0")["rows"][0]["item_id"] == other.id


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("abc", "abc: is no id; give a row's id"),
        ("../../etc", "is no id"),
        ("0" * 32, "is in none of the 1 parts"),
        ("{id}-7", "has no piece 7, only 0, 1"),
    ],
)
def test_what_is_no_row_is_refused(night: Night, row: str, message: str) -> None:
    item = night.settle(0, example("A match.", "sport"), Rejection("run_on", "And", "sport"))
    result = explain(row.format(id=item.id))
    assert result.exit_code == 2 and message in result.stderr and result.stdout == ""


def test_two_items_that_begin_alike_are_both_named(night: Night) -> None:
    rows = [{"row_id": f"{end * 12:a<32}-0", "item_id": f"{'a' * 20}{end * 12}", "piece": 0} for end in "bc"]
    night.commit([row | {"status": "accepted", "labels": ["sport"]} for row in rows])
    result = explain("aaaaaaaa")
    assert result.exit_code == 2 and f"2 items begin so, for example {'a' * 20}{'b' * 12}" in result.stderr


def test_the_pieces_of_an_item_are_told_together_or_alone(night: Night) -> None:
    item = night.settle(0, example("A match.", "sport"), Rejection("run_on", "And so on", "sport"))
    night.end([f"{item.id}-0"], 1)
    alone = told(f"{item.id}-1")
    assert "rejected: run_on" in alone and f"Beside {item.id}-0 accepted, in the dataset" in alone
    both = told(item.id)
    assert "And so on" in both and "A match." in both


def test_a_failed_item_has_a_prompt_that_nothing_can_be_checked_against(night: Night) -> None:
    item = night.fail(1)
    story = told(item.id)
    assert "failed: no reply within 600 s" in story and "Prompt (not checked" in story and "a dish" in story


def test_surplus_rows_are_told_why(night: Night) -> None:
    near = bytes(63) + SIGNATURE[63:]
    texts = {
        0: ("One.", SIGNATURE),
        2: ("ONE. ", None),
        4: ("Won.", SIGNATURE[:60] + bytes(4)),
        6: ("Two.", near),
    }
    ids = {}
    for number, (text, signature) in texts.items():
        ids[number] = f"{night.settle(number, example(text, 'sport', signature=signature)).id}-0"
    late = night.settle(8, example("Late.", "sport")).id
    night.end([ids[0], ids[6]], 5, "near_duplicate")
    assert "in the dataset" in told(ids[0])
    assert f"accepted, surplus: duplicate of {ids[0]}" in told(ids[2])
    assert f"accepted, surplus: near duplicate of {ids[0]}, 94% alike" in told(ids[4])
    assert "accepted, surplus: over target, sport was full before its turn" in told(late)


def test_a_row_that_only_says_the_same_is_told_by_what_the_run_looked_for(night: Night) -> None:
    kept = night.settle(0, example("One.", "sport", signature=SIGNATURE)).id
    other = night.settle(2, example("The first.", "sport", signature=bytes(32) + SIGNATURE[32:])).id
    night.end([f"{kept}-0"], 2, "near_duplicate", "semantic_duplicate")
    assert "surplus: semantic duplicate, its embedding is too near" in told(other)


def test_before_the_dataset_is_made_nothing_is_judged(night: Night) -> None:
    item = night.settle(0, example("One.", "sport"))
    assert "not in the dataset yet: it is put together when the run ends" in told(item.id)
    night._lease.release()
    assert "not in the dataset, which is not made yet" in told(item.id)


def test_a_dataset_that_is_older_than_the_row_is_said_to_be(night: Night) -> None:
    first = night.settle(0, example("One.", "sport"))
    night.end([f"{first.id}-0"], 1)
    later = night.settle(2, example("Two.", "sport"))
    assert "which was made before this row" in told(later.id)


def test_later_calls_of_a_chain_are_told_by_their_hashes(night: Night) -> None:
    story = told(night.settle(0, example("One.", "sport"), calls=3).id)
    assert "hash checked" in story and f"Later calls {'1' * 32}, {'2' * 32} (they depend on replies" in story


def test_a_prompt_that_the_code_renders_otherwise_now_is_told_apart(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = night.settle(0, example("One.", "sport"))
    monkeypatch.setattr(FewGen, "prompt", lambda self, item: "Another prompt.")
    story = told(item.id)
    assert "HASH DIFFERS" in story and "Another prompt." in story and "Built now" in story
    assert "differs from the one that was sent: the code of the method" in story


def test_seeds_that_changed_or_went_cost_the_prompt_alone(night: Night) -> None:
    item = night.settle(0, example("A match.", "sport"))
    night.seeds.write_text(night.seeds.read_text() + '{"text": "one more", "label": "food"}\n')
    story = told(item.id)
    assert (
        "cannot be built again: task.seeds changed since the run was begun" in story and "A match." in story
    )
    assert "seed" in story and "Prompt" not in story
    night.seeds.unlink()
    story = told(item.id)
    assert "cannot be built again" in story and "A match." in story
    # A long path is broken wherever the line ends.
    assert "seeds.jsonl" in "".join(story.split())
    assert facts(item.id)["shots"][0] == dict.fromkeys(
        ("id", "text", "label", "score", "rank", "document")
    ) | {"id": item.shots[0].id}


def test_a_method_that_raises_does_not_hide_the_rest(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    item = night.settle(0, example("A match.", "sport"))

    async def examples(self: FewGen, item: Item, generate: Generate) -> list[Example | Rejection]:
        raise KeyError("gone")

    monkeypatch.setattr(FewGen, "examples", examples)
    assert "cannot be built again: KeyError: 'gone'" in told(item.id) and "A match." in told(item.id)


def test_settings_that_this_version_does_not_know_are_said(night: Night) -> None:
    item = night.settle(0, example("A match.", "sport"))
    record = json.loads(night.store.read("run.json"))
    record["resolved"]["method"]["later"] = 1
    night.store.write("run.json", json.dumps(record).encode())
    assert "method.fewgen.later: unknown key" in told(item.id) or "later: unknown key" in told(item.id)


def test_a_reply_that_was_prepared_is_told_as_one(night: Night) -> None:
    call = Call("c" * 32, "Name topics.", SAMPLING)
    night.prepare(call)
    story = told(call.id)
    assert "prepared: a reply that the method asked for before it planned" in story and "a topic" in story
    assert "call of prepare and no item of the plan" in story


def test_control_characters_and_markup_are_shown_and_do_nothing(night: Night) -> None:
    text = "a\x1b[2J\x1b]0;title\x07[red]b[/red] <b>\r\u202ec"
    item = night.settle(0, Example({"text": text}, "sport", {"topic\x1b[1m": "x\x00"}))
    out = explain(item.id).stdout
    assert not set(out) & {"\x1b", "\x07", "\r", "\x00", "\u202e"}
    assert "a\\x1b[2J\\x1b]0;title\\x07[red]b[/red] <b>\\x0d\\u202ec" in out
    assert facts(item.id)["rows"][0]["text"] == text


def test_documents_come_with_rank_score_and_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    gold = [
        json.dumps({"text": f"seed {n} of {label}", "label": label}) for label in LABELS for n in range(4)
    ]
    (tmp_path / "seeds.jsonl").write_text("\n".join(gold))
    task = {"name": "t", "instruction": "Sort.", "labels": LABELS, "seeds": str(tmp_path / "seeds.jsonl")}
    seeds = load_task(task, tmp_path).seeds
    hits = [
        (seed.id, rank, f"doc-{n}-{rank}", 0.9 - rank / 100)
        for n, seed in enumerate(seeds)
        for rank in range(1, 6)
    ]
    columns = zip(("seed_id", "rank", "document_id", "score"), zip(*hits, strict=True), strict=True)
    ids = [hit[2] for hit in hits]
    sources = {
        "hits": pa.table({name: list(values) for name, values in columns}),
        "documents": pa.table({"id": ids, "title": ids, "text": [f"The text of {each}." for each in ids]}),
        "band": pa.table({"low": [-1.0], "high": [1.0]}),
    }
    night = Night(tmp_path, {"name": "synthesizrr", "shots": 1, "min_document_tokens": 8}, sources)
    item = night.settle(3, example("Rewritten.", "food"))
    document = item.documents[0]
    known = facts(item.id)
    assert known["checked"] is True and known["seed"]["text"].endswith("of food")
    assert known["documents"][0]["text"] == document.text and known["documents"][0]["rank"] >= 3
    assert known["documents"][0]["score"] == pytest.approx(document.score or 0)
    assert known["shots"][0]["document"].startswith("The text of doc-")
    story = told(item.id)
    assert f"Document {document.id}, rank {known['documents'][0]['rank']}, score 0.8" in story
    assert "(written from: The text of doc-" in story and "Seed" in story
    # Without the task the texts of documents still come from sources/.
    night.seeds.unlink()
    known = facts(item.id)
    assert known["documents"][0]["text"] == document.text and known["prompt"] is None and known["doubts"]
