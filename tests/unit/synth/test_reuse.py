from hypothesis import given
from hypothesis import strategies as st

from synth.metrics.reuse import Reuse, document_reuse


def test_rows_are_counted_by_document() -> None:
    assert document_reuse([["a"], ["b"], ["a"], [], ["a", "c", "c"]]) == Reuse(4, 3, {1: 2, 3: 1})
    assert document_reuse([[], []]) is None


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=3)))
def test_the_histogram_covers_every_document_and_use(rows: list[list[str]]) -> None:
    found = document_reuse(rows)
    uses = sum(len(set(ids)) for ids in rows)
    if found is None:
        assert uses == 0
    else:
        assert sum(found.histogram.values()) == found.distinct == len({id for ids in rows for id in ids})
        assert sum(times * documents for times, documents in found.histogram.items()) == uses
