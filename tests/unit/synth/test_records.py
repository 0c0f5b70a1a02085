"""Records: ids that outlive every version, and ledger rows that come back as they went in."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synth import records
from synth.records import Example, Rejection, make_item, prompt_hash
from synth.rows import TOKENS, failed_row, ledger_schema, prepared_row, settled_rows, text_hash
from synth.task import TaskSettings

AUTHOR = records.Author("fewgen", "scripted", "abc")
USES = [
    records.Usage("h1", records.Sampling(stop=("\nHeadline:",)), 30, 7),
    records.Usage("h2", records.Sampling(), 12, 3),
]
GROUNDING: dict[str, Any] = {
    "draw": 2,
    "seed_id": "seed",
    "documents": (records.Grounding("doc", "A river.", 0.5),),
    "shots": (records.Shot("shot", "Gold.", "A hill."),),
    "attributes": {"topic": "rain"},
}


def item(position: int = 4, **changes: Any) -> records.Item:
    return make_item("key", 0, position, ("sport",), **GROUNDING | changes)


def written(rows: Sequence[dict[str, Any]], fields: Sequence[str] = ("text",)) -> list[dict[str, Any]]:
    """Rows put into Parquet with the ledger's schema, and read back."""
    batch = pa.RecordBatch.from_pylist(list(rows), schema=ledger_schema(fields))
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_batches([batch]), sink)
    back: list[dict[str, Any]] = pq.read_table(io.BytesIO(sink.getvalue())).to_pylist()
    return back


def test_ids_and_hashes_are_what_they_always_were() -> None:
    # Ledgers hold these: a version that changes one makes every run it resumes start over, and pay again.
    assert item().id == "55155973d93cc0b1b13df8ba67ccc940"
    assert make_item("key", 0, 0, ("sport",)).id == "646f1e36ef9196120e11bd178ff743ad"
    assert make_item("key", 0, 7, ("sport", "trade"), attributes={"ü": "é", "a": '"\\'}).id == (
        "1ad9c46140ac27c28f75a115a4efb3c0"
    )
    assert prompt_hash("Write.") == "9d7ee80e9e024ae9c940a96e9d864105"
    assert prompt_hash((records.Message("user", "Write."),)) == "ebc9c464337e7e3b832d64467c3bd6d7"
    assert text_hash("A  Headline\n") == text_hash("a headline") == -6241320796059479793


def test_an_id_is_that_of_the_content_and_not_of_the_place_in_the_plan() -> None:
    assert item(position=0).id == item(position=99).id
    reworded: dict[str, Any] = {
        "documents": (records.Grounding("doc", "Cut elsewhere.", 0.1),),
        "shots": (records.Shot("shot", "Other."),),
    }
    assert item(**reworded).id == item().id


@pytest.mark.parametrize(
    "change",
    [
        {"draw": 3},
        {"seed_id": None},
        {"documents": ()},
        {"shots": (records.Shot("another", "Gold."),)},
        {"attributes": {"topic": "snow"}},
    ],
)
def test_an_id_changes_with_every_part_of_the_content(change: dict[str, Any]) -> None:
    assert item(**change).id != item().id
    keys = [("kez", 0, ("sport",)), ("key", 1, ("sport",)), ("key", 0, ("sport", "trade"))]
    ids = {make_item(key, round, 4, labels, **GROUNDING).id for key, round, labels in keys}
    assert len(ids | {item().id}) == 4


def test_rows_of_an_item_come_back_with_their_provenance() -> None:
    good, bad = Example({"text": "Rain."}, "sport", {"why": "wet"}), Rejection("run_on", "More.", "sport")
    first, second = written(settled_rows(item(), [good, bad], USES, AUTHOR, "text"))
    assert [first[name] for name in ("row_id", "item_id", "round", "position", "piece", "status")] == [
        f"{item().id}-0", item().id, 0, 4, 0, "accepted"]  # fmt: skip
    assert [second[name] for name in ("row_id", "piece", "status", "reason", "text", "text_hash")] == [
        f"{item().id}-1", 1, "rejected", "run_on", "More.", None]  # fmt: skip
    assert (first["text"], first["text_hash"], first["labels"]) == ("Rain.", text_hash("rain."), ["sport"])
    assert (first["extra"], first["attributes"]) == ([("why", "wet")], [("topic", "rain")])
    assert (first["document_ids"], first["document_scores"], first["shot_ids"]) == (["doc"], [0.5], ["shot"])
    assert [first[name] for name in ("method", "teacher", "revision", "seed_id")] == [
        *asdict(AUTHOR).values(),
        "seed",
    ]
    assert first["prompt_hashes"] == second["prompt_hashes"] == ["h1", "h2"]
    told = {k: v for k, v in asdict(USES[0].sampling).items() if k not in ("structure", "against")}
    assert json.loads(first["sampling"]) == json.loads(json.dumps(told))


def test_tokens_of_a_judge_with_a_teacher_of_its_own_are_apart() -> None:
    uses = [*USES, records.Usage("h3", records.Sampling(), 100, 2, judge=True)]
    rows = settled_rows(item(), [Rejection("empty", "", "sport")] * 2, uses, AUTHOR, "text")
    counts = [[row[name] for name in TOKENS] for row in rows]
    assert counts == [[42, 10, 100, 2], [0, 0, 0, 0]]


def test_the_form_of_a_reply_is_told_with_its_sampling() -> None:
    sampling = records.Sampling(structure=records.Structure(choices=("a", "b")))
    (row,) = settled_rows(
        item(), [Rejection("empty", "", "sport")], [records.Usage("h", sampling, 1, 1)], AUTHOR, "text"
    )
    assert json.loads(row["sampling"])["structure"] == {"json_schema": None, "choices": ["a", "b"]}


def test_tokens_of_all_calls_stand_on_the_first_row_alone() -> None:
    rows = settled_rows(item(), [Rejection("empty", "", "sport")] * 3, USES, AUTHOR, "text")
    assert [(row["prompt_tokens"], row["reply_tokens"]) for row in rows] == [(42, 10), (0, 0), (0, 0)]


def test_an_example_of_two_fields_and_two_labels_fills_two_columns_and_one_list() -> None:
    fields = {"text": "Rain stops play.", "title": "Wet"}
    rows = settled_rows(item(), [Example(fields, ("sport", "trade"))], [], AUTHOR, "text")
    (row,) = written(rows, ("text", "title"))
    assert (row["text"], row["title"], row["labels"]) == (*fields.values(), ["sport", "trade"])
    assert (row["text_hash"], row["sampling"]) == (text_hash("Rain stops play.\nWet"), None)


def test_one_row_settles_an_item_or_a_call_that_failed() -> None:
    call = records.Call("c1", "Write.", records.Sampling())
    ours, call_row = written([failed_row(item(), "it raised", AUTHOR), failed_row(call, "it raised", AUTHOR)])
    assert [ours[name] for name in ("status", "reason", "labels", "text")] == [
        "failed",
        "it raised",
        ["sport"],
        None,
    ]
    assert (call_row["item_id"], call_row["status"], call_row["labels"]) == ("c1", "failed", [])


def test_the_reply_to_a_call_comes_back_from_its_row() -> None:
    (row,) = written(
        [
            prepared_row(
                records.Call("c1", "Write.", records.Sampling()), records.Reply("Rain.", "stop", 5, 1), AUTHOR
            )
        ]
    )
    kept = [row[name] for name in ("item_id", "status", "text", "reason", "prompt_tokens", "reply_tokens")]
    assert kept == ["c1", "prepared", "Rain.", "stop", 5, 1]
    assert row["prompt_hashes"] == [prompt_hash("Write.")]


@given(st.text())
def test_case_and_spacing_make_no_other_text(text: str) -> None:
    assert text_hash(f"  {text.replace(' ', '  ')}\n") == text_hash(text) == text_hash(text.casefold())
    assert -(2**63) <= text_hash(text) < 2**63


def test_a_task_with_a_field_called_like_a_ledger_column_is_refused() -> None:
    task = {"name": "n", "instruction": "i", "labels": {"a": "one", "b": "two"}}
    with pytest.raises(ValueError, match="reason"):
        TaskSettings.model_validate(task | {"fields": ["text", "reason"]})


def test_the_prompts_a_text_was_held_against_stand_in_a_row_as_a_hash() -> None:
    held = records.Sampling(against=records.Against(('Sport: "', 'Trade: "'), 200, 0.01))
    use = replace(USES[0], sampling=held)
    (row,) = settled_rows(item(), [Example({"text": "x"}, "a")], [use], AUTHOR, "text")
    told = json.loads(row["sampling"])["against"]
    assert (told["decay"], told["floor"], len(told["prompts"])) == (200, 0.01, 32)
