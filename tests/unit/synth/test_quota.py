"""Quotas, and the planner's ceilings, over-draw and reasons, on hand-made plans."""

import cProfile
import gc
import weakref
from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from random import Random

import pytest

from cluster.errors import RunError
from synth.method import Slot
from synth.planner import Planner
from synth.quota import Candidate, Quota
from synth.records import Item, make_item
from synth.settled import Settled
from tests.unit.synth.plans import settled_of, slots_of


def row(text: int, *labels: str) -> Candidate:
    return Candidate(labels or ("a",), text)


def endless(*labels: str) -> Iterator[Slot]:
    """One label per item, in turn."""
    for position in count():
        mine = (labels[position % len(labels)],)
        yield Slot(position, mine, partial(make_item, "key", 0, position, mine, draw=position))


def first(items: int, *labels: str) -> list[Item]:
    return [slot.build() for slot in islice(endless(*labels), items)]


def drawn(planner: Planner, most: int = 1000) -> list[Item]:
    items: list[Item] = []
    while len(items) < most and (item := planner.next_item()) is not None:
        items.append(item)
    return items


def test_first_rows_fill_a_label_and_later_ones_are_over_its_target() -> None:
    quota = Quota({"a": 2, "b": 1})
    assert [quota.judge(row(n)) for n in range(3)] == ["kept", "kept", "over_target"]
    assert (quota.kept, quota.full("a"), quota.filled(["a", "b"])) == ({"a": 2, "b": 0}, True, False)


def test_the_first_of_two_equal_texts_is_kept_even_if_their_labels_differ() -> None:
    quota = Quota({"a": 2, "b": 2})
    rows = [row(7), row(7, "b"), row(8, "b")]
    assert [quota.judge(each) for each in rows] == ["kept", "duplicate", "kept"]


def test_of_near_rows_the_first_is_kept_and_rows_without_a_signature_are_near_to_none() -> None:
    first, near = (bytes([*range(1, 65 - n), *[0] * n]) for n in (0, 8))
    rows = [Candidate(("a",), n, signed) for n, signed in enumerate([first, near, None, None, first])]
    told = {}
    for limit in (0.7, 0.95, None):
        quota = Quota({"a": 9}, limit)
        told[limit] = [quota.judge(each) for each in rows]
        assert quota.kept == {"a": told[limit].count("kept")}
    assert told[0.7] == ["kept", "near_duplicate", "kept", "kept", "near_duplicate"]
    assert told[0.95] == ["kept", "kept", "kept", "kept", "near_duplicate"]
    assert told[None] == ["kept"] * 5


def test_a_near_row_of_a_full_label_is_over_its_target_and_makes_nothing_near() -> None:
    quota, signed = Quota({"a": 1, "b": 2}, 0.7), [bytes([n + 1] * 64) for n in range(2)]
    rows = [(0, "a", 0), (1, "a", 1), (2, "b", 1), (3, "b", 1), (2, "b", 0)]
    told = [quota.judge(Candidate((label,), text, signed[n])) for text, label, n in rows]
    assert told == ["kept", "over_target", "kept", "near_duplicate", "duplicate"]


def test_a_row_over_its_target_does_not_make_a_duplicate_of_another() -> None:
    quota = Quota({"a": 1, "b": 1})
    rows = [row(1), row(2), row(2, "b")]
    assert [quota.judge(each) for each in rows] == ["kept", "over_target", "kept"]


def test_a_row_of_two_labels_is_wanted_while_either_is_not_full_and_counts_for_both() -> None:
    quota = Quota({"a": 1, "b": 2})
    assert [quota.judge(row(n, "a", "b")) for n in range(3)] == ["kept", "kept", "over_target"]
    assert quota.kept == {"a": 2, "b": 2}


def test_where_every_row_is_accepted_nothing_is_overdrawn() -> None:
    planner = Planner(endless("a", "b"), {"a": 5, "b": 9}, Settled(), 10.0)
    items = drawn(planner)
    assert [item.labels[0] for item in items] == ["a", "b"] * 5 + ["b"] * 4
    for n, item in enumerate(reversed(items)):
        assert not planner.done()
        planner.settle(item.id, [row(n, *item.labels)])
        assert planner.next_item() is None
    assert (planner.done(), planner.short(), planner.drawn) == (True, {}, 14)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_items_are_drawn_only_up_to_the_rows_lacking_over_the_live_rate_and_one(share: float) -> None:
    random, target, flying, accepted, settled = Random(5), 40, list[Item](), 0, 0
    planner = Planner(endless("a"), {"a": target}, Settled(), 1e6)
    while not planner.done():
        flying += (more := drawn(planner, 64 - len(flying)))
        assert not more or len(flying) <= (target - accepted) * (settled + 1) / (accepted + 1) + 1
        item = flying.pop(random.randrange(len(flying)))
        good = random.random() < share
        accepted, settled = accepted + good, settled + 1
        planner.settle(item.id, [row(settled)] if good else [])
    # Measured over 60 random orders: 1.6 times at most with 64 under way, 5.5 times without that limit.
    assert planner.drawn <= 1.6 * target / share


def test_the_ceiling_closes_a_label_and_names_it_while_the_others_go_on() -> None:
    planner = Planner(endless("bad", "good"), {"bad": 4, "good": 6}, Settled(), 2.5)
    for n in range(100):
        for item in drawn(planner, 3):
            planner.settle(item.id, [row(n * 10 + item.position, "good")] if item.labels == ("good",) else [])
    assert planner.done()
    assert planner.short() == {"bad": "0 of 4 rows from 10 items; the ceiling is 10"}
    assert (planner.drawn, planner.in_flight) == (16, 0)


def test_a_closed_label_is_waited_for_while_items_of_it_are_under_way() -> None:
    planner = Planner(endless("a"), {"a": 2}, Settled(), 1.0)
    first, second = drawn(planner)
    planner.settle(second.id, [row(2)])
    assert (planner.done(), planner.quota.kept) == (False, {"a": 0})
    planner.settle(first.id, [])
    assert (planner.done(), planner.quota.kept) == (True, {"a": 1})


def test_slots_passed_over_are_drawn_first_once_their_label_is_wanted_again() -> None:
    planner = Planner(endless("a", "b", "c"), {"a": 1, "b": 4, "c": 1}, Settled(), 10.0)
    items = drawn(planner)
    assert [item.position for item in items] == [0, 1, 2, 4, 7, 10]
    for item in (items[2], items[0]):
        planner.settle(item.id, [])
    # One row of two items is lacking now; what was passed over at 3, 5 and so on comes before 12 and 14.
    assert [item.position for item in drawn(planner)] == [3, 5, 6, 8]
    assert planner.next_item() is None


def test_a_plan_that_ends_is_told_by_label() -> None:
    planner = Planner(islice(endless("a", "b"), 3), {"a": 2, "b": 2}, Settled(), 10.0)
    for item in drawn(planner):
        planner.settle(item.id, [row(item.position, *item.labels)])
    assert planner.next_item() is None
    assert planner.done()
    assert planner.short() == {"b": "1 of 2 rows from 1 items; the plan has no more items"}


def test_what_an_earlier_sitting_settled_is_recognised_and_not_drawn() -> None:
    plan = first(9, "a")
    settled = settled_of([(plan[3], [row(3)]), (plan[0], [row(0)]), (plan[1], [])])
    planner = Planner(slots_of(plan), {"a": 3}, settled, 10.0)
    planner.catch_up()
    assert [planner.quota.kept["a"], planner.recognised, planner.drawn] == [1, 3, 0]
    assert planner.filled() == {"a": 2}
    assert drawn(planner, 1) == [plan[2]]
    planner.settle(plan[2].id, [row(2)])
    assert (planner.next_item(), planner.done(), planner.recognised) == (None, True, 3)


def test_a_gap_that_a_crash_left_is_drawn_even_if_rows_behind_it_seem_to_be_enough() -> None:
    labels = ["a", "a", "a", "b"]
    plan = [make_item("key", 0, position, (label,), draw=position) for position, label in enumerate(labels)]
    settled = settled_of([(plan[2], [row(2)]), (plan[3], [row(3, "b")])])
    planner = Planner(slots_of(plan), {"a": 1, "b": 1}, settled, 10.0)
    assert drawn(planner) == [plan[0]]
    planner.settle(plan[0].id, [])
    assert (drawn(planner), planner.done()) == ([plan[1]], False)
    planner.settle(plan[1].id, [])
    assert (planner.done(), planner.quota.kept) == (True, {"a": 1, "b": 1})


def test_a_label_with_a_target_of_zero_wants_nothing() -> None:
    planner = Planner(endless("a", "b", "c"), {"a": 2, "b": 0, "c": 1}, Settled(), 3.0)
    items = drawn(planner)
    assert [item.labels for item in items] == [("a",), ("c",), ("a",)]
    for n, item in enumerate(items):
        planner.settle(item.id, [row(n, *item.labels)])
    assert (planner.done(), planner.short(), planner.quota.kept) == (True, {}, {"a": 2, "b": 0, "c": 1})
    nothing = Planner(endless("a", "b"), {"a": 0, "b": 0}, Settled(), 3.0)
    assert (nothing.done(), nothing.next_item(), nothing.short()) == (True, None, {})


def test_slots_are_built_when_they_are_drawn_and_not_when_they_are_recognised() -> None:
    built: list[int] = []

    def build(position: int) -> Item:
        built.append(position)
        return make_item("key", 0, position, ("a",), draw=position)

    settled = settled_of((item, [row(item.position)]) for item in first(2500, "a"))
    plan = (Slot(position, ("a",), partial(build, position)) for position in count())
    planner = Planner(plan, {"a": 2502}, settled, 10.0)
    planner.catch_up()
    # A few are compared with the ledger: the first, and one in a thousand.
    assert (planner.recognised, planner.quota.kept, built) == (2500, {"a": 2500}, [0, 1000, 2000])
    assert [item.position for item in drawn(planner)] == [2500, 2501]
    assert built == [0, 1000, 2000, 2500, 2501]


def test_a_ledger_of_another_plan_is_refused_with_both_ids() -> None:
    theirs = [make_item("other", 0, position, ("a",)) for position in range(2)]
    planner = Planner(endless("a"), {"a": 5}, settled_of([(theirs[0], [row(0)])]), 10.0)
    with pytest.raises(
        RunError, match=rf"{theirs[0].id} of a at position 0 is {first(1, 'a')[0].id} of a in"
    ):
        planner.catch_up()


def test_a_ledger_whose_labels_came_in_another_order_is_refused_at_once() -> None:
    theirs = [make_item("key", 0, place, (label,), draw=place) for place, label in enumerate("abbabaab")]
    planner = Planner(endless("a", "b"), {"a": 5, "b": 5}, settled_of((item, []) for item in theirs), 10.0)
    with pytest.raises(RunError, match=r"of b at position 2 is \w+ of a in the plan .* --set run=NAME"):
        planner.catch_up()


def test_rows_that_a_method_relabelled_are_no_other_plan() -> None:
    plan = first(4, "a", "b")
    settled = settled_of([(plan[0], [row(0, "b")]), (plan[1], [row(1, "b")])])
    planner = Planner(slots_of(plan), {"a": 1, "b": 2}, settled, 10.0)
    planner.catch_up()
    assert (planner.quota.kept, drawn(planner)) == ({"a": 0, "b": 2}, [plan[2]])


def test_slots_of_a_closed_label_are_not_kept_while_the_others_go_on() -> None:
    kept: list[weakref.ref[partial[Item]]] = []

    def plan() -> Iterator[Slot]:
        for position in count():
            mine = ("bad" if position % 2 else "good",)
            build = partial(make_item, "key", 0, position, mine, draw=position)
            kept.append(weakref.ref(build))
            yield Slot(position, mine, build)

    planner = Planner(plan(), {"bad": 2, "good": 500}, Settled(), 2.0)
    while not planner.done():
        for item in drawn(planner, 8):
            planner.settle(item.id, [row(item.position, "good")] if item.labels == ("good",) else [])
    gc.collect()
    assert planner.short() == {"bad": "0 of 2 rows from 4 items; the ceiling is 4"}
    assert sum(each() is not None for each in kept) < 20


def test_what_an_item_costs_does_not_grow_with_the_number_of_labels() -> None:
    def calls(labels: int) -> float:
        names = [f"label {n}" for n in range(labels)]
        planner, random = (
            Planner(endless(*names), dict.fromkeys(names, 1200 // labels), Settled(), 1e6),
            Random(0),
        )
        flying: list[Item] = []
        profile = cProfile.Profile()
        profile.enable()
        while not planner.done():
            flying += drawn(planner, 32 - len(flying))
            item = flying.pop(random.randrange(len(flying)))
            planner.settle(item.id, [row(item.position, *item.labels)] if random.random() < 0.5 else [])
        profile.disable()
        return sum(entry.callcount for entry in profile.getstats()) / planner.drawn

    assert calls(150) < 2 * calls(2)


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="planner.py: overdraw feeds a closed label")
def test_rows_of_a_label_that_stalled_do_not_depend_on_the_timing() -> None:
    labels, targets = ("stalled", "fine"), {"stalled": 1, "fine": 2}
    plan = [make_item("key", 0, position, labels, draw=position) for position in range(4)]
    replies = [[], [row(1, "fine")], [row(2, "fine")], [row(9, "stalled")]]
    kept: list[dict[str, int]] = []
    # One replica works item by item; another has items 2 and 3 under way at once, and 3 ends first.
    for width, order in ((1, [0, 1, 2]), (2, [0, 1, 3, 2])):
        planner, settled = Planner(slots_of(plan), targets, Settled(), 2.0), set[int]()
        while not planner.done():
            drawn(planner, width)
            settled.add(order[len(settled)])
            planner.settle(plan[order[len(settled) - 1]].id, replies[order[len(settled) - 1]])
        quota = Quota(targets)
        for position in sorted(settled):
            _ = [quota.judge(each) for each in replies[position]]
        kept.append(quota.kept)
    assert kept[0] == kept[1]
