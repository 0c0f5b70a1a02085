"""Acceptance stage by stage: every rejection is counted once, at the stage it happened in."""

import inspect
import re
from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from synth.filters import sieve
from synth.metrics.acceptance import FILTERS, Passed, acceptance

STAGES = ("generation", "correction")


def test_stages_follow_one_another() -> None:
    prepared = pa.table({"stage": ["contexts"], "asked": [3], "got": [2]})
    rejected = {
        "generation: misfit": 4,
        "cut_off": 1,
        "correction: no_choice": 2,
        "label_leak in hypothesis": 3,
        "judge_score": 5,
    }
    assert acceptance(prepared, rejected, 10, STAGES) == [
        Passed("contexts", 3, 2),
        Passed("generation", 25, 20),
        Passed("correction", 20, 18),
        Passed("filters", 18, 15),
        Passed("judge", 15, 10),
    ]


def test_where_nothing_is_refused_the_methods_own_stages_are_shown() -> None:
    assert acceptance(None, {}, 7, ("generation",)) == [Passed("generation", 7, 7)]


reasons = st.one_of(st.sampled_from(sorted(FILTERS)), st.sampled_from([*STAGES, "judge_label"]), st.text())


@given(st.dictionaries(reasons, st.integers(1, 99)), st.integers(0, 99))
def test_what_goes_in_comes_out_or_is_refused(rejected: dict[str, int], accepted: int) -> None:
    passed = acceptance(None, rejected, accepted, STAGES)
    assert passed[0].asked == accepted + sum(rejected.values())
    assert passed[-1].got == accepted
    assert all(after.asked == before.got for before, after in pairwise(passed))


def test_the_filters_reasons_are_known() -> None:
    written = set(
        re.findall(r'"([a-z]+_?[a-z]+)"', inspect.getsource(sieve.Sieve) + inspect.getsource(sieve._limits))
    )
    assert written >= FILTERS
    assert not {reason for reason in written if reason.startswith(("copies_", "too_"))} - FILTERS
