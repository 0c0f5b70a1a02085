"""The shelf: rows of a ledger come in any order and leave in that of the plan, in groups."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import RunError
from synth import shelf
from synth.shelf import in_plan_order


def tables(total: int, size: int) -> list[pa.Table]:
    """A ledger whose row n holds the text n, in tables of a size."""
    return [
        pa.table({"text": [str(n) for n in range(start, min(start + size, total))]})
        for start in range(0, total, size)
    ]


def groups(ledger: Sequence[pa.Table], rows: Sequence[int], size: int, folder: Path) -> list[list[str]]:
    sizes = [min(size, len(rows) - start) for start in range(0, len(rows), size)]
    made = list(in_plan_order(ledger, np.array(rows, np.int64), sizes, folder))
    assert all(group["text"].num_chunks == 1 for group in made)
    return [group["text"].to_pylist() for group in made]


@settings(max_examples=40, deadline=None)
@given(
    order=st.permutations(range(30)),
    wanted=st.integers(1, 30),
    part=st.integers(1, 12),
    group=st.integers(1, 12),
    limit=st.sampled_from((0, 40, 10**6)),
)
def test_chosen_rows_leave_in_plan_order_and_no_file_stays(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], wanted: int, part: int, group: int, limit: int
) -> None:
    folder, rows = tmp_path_factory.mktemp("shelf"), order[:wanted]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelf, "WAITING_BYTES", limit)
        made = groups(tables(30, part), rows, group, folder)
    assert [text for texts in made for text in texts] == [str(row) for row in rows]
    assert not list(folder.iterdir())


def test_a_group_leaves_as_soon_as_it_is_complete(tmp_path: Path) -> None:
    read = 0

    def ledger() -> Iterator[pa.Table]:
        nonlocal read
        for table in tables(6, 2):
            read += 1
            yield table

    made = in_plan_order(ledger(), np.array([1, 0, 2, 5]), [2, 2], tmp_path)
    assert (next(made)["text"].to_pylist(), read) == (["1", "0"], 1)
    assert (next(made)["text"].to_pylist(), read) == (["2", "5"], 3)


def test_one_late_row_sends_what_waits_for_it_to_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "WAITING_BYTES", 100)
    made = in_plan_order(tables(100, 1), np.array([99, *range(99)]), [10] * 10, tmp_path)
    assert next(made)["text"].to_pylist() == ["99", *map(str, range(9))]
    assert list(tmp_path.iterdir())
    assert sum(group.num_rows for group in made) == 90
    assert not list(tmp_path.iterdir())


def test_a_ledger_that_lost_rows_meanwhile_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="lost rows"):
        groups(tables(4, 2), [0, 4], 2, tmp_path)
