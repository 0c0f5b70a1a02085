"""Who is tried again, where, and when an item is set aside."""

from dataclasses import dataclass
from random import Random

import pytest

from synth.suspects import ATTEMPTS, Suspects


@dataclass(frozen=True)
class Piece:
    id: str


A, B, C = (Piece(name) for name in "abc")


def queue(*pieces: Piece, deaths: int = 1) -> Suspects[Piece]:
    suspects = Suspects[Piece]()
    for piece in pieces:
        for _ in range(deaths):
            assert not suspects.died(piece, innocent=False)
    return suspects


def test_suspects_are_handed_out_one_at_a_time_to_a_replica_and_in_parallel_to_several() -> None:
    suspects = queue(A, B, C)
    assert (suspects.next("1", ()), suspects.next("1", {"a"}), suspects.next("2", ())) == (A, None, B)
    suspects.settled("a")
    assert (suspects.next("1", {"a"}), len(suspects)) == (C, 0)


def test_what_was_aboard_a_lost_node_is_no_suspect_and_is_handed_out_at_once() -> None:
    suspects = Suspects[Piece]()
    for piece in (A, B):
        assert not suspects.died(piece, innocent=True)
    assert (suspects.next("1", ()), suspects.next("1", {"a"})) == (A, B)
    for _ in range(10):
        assert not suspects.died(A, innocent=True), "however often it happens"


def test_a_second_death_is_tried_alone_on_a_replica_that_is_emptied_first() -> None:
    suspects = queue(A)
    suspects.next("1", ())
    assert not suspects.died(A, innocent=False)
    assert suspects.closed("2", {"x", "y"}), "emptied for the trial"
    assert not suspects.closed("1", {"z"}) and suspects.next("1", {"z"}) is None, "the others go on"
    assert not suspects.closed("2", ()) and suspects.next("2", ()) == A
    assert suspects.closed("2", {"a"}), "nothing goes aboard with it"
    assert not suspects.died(A, innocent=False), "it may have been something else"
    assert suspects.closed("3", {"x"}) and suspects.next("3", ()) == A
    assert suspects.died(A, innocent=False) and len(suspects) == 0
    assert not suspects.closed("3", ())


@pytest.mark.parametrize("end", ["settled", "raised", "node lost"])
def test_a_trial_that_does_not_end_in_death_clears_the_way(end: str) -> None:
    suspects = queue(A, deaths=2)
    suspects.closed("1", ())
    assert suspects.next("1", ()) == A
    if end == "settled":
        suspects.settled("a")
    elif end == "raised":
        assert not suspects.raised(A)
    else:
        assert not suspects.died(A, innocent=True)
        assert suspects.closed("2", {"x"}), "it is tried alone again, elsewhere"
        assert suspects.next("2", ()) == A
        return
    assert not suspects.closed("1", {"x"})


def test_a_replica_that_dies_while_it_is_emptied_leaves_the_trial_to_another() -> None:
    suspects = queue(A, deaths=2)
    assert suspects.closed("1", {"x"})
    suspects.left("1")
    assert suspects.closed("2", {"y"}) and not suspects.closed("1", {"x"})


def test_several_trials_use_the_emptied_replica_one_after_the_other() -> None:
    suspects = queue(A, B, deaths=2)
    suspects.closed("1", ())
    assert suspects.next("1", ()) == A
    suspects.settled("a")
    assert not suspects.closed("2", {"x"}) and suspects.next("1", ()) == B


def test_an_item_that_raises_every_time_is_set_aside_and_one_that_raises_now_and_then_is_not() -> None:
    suspects = Suspects[Piece]()
    for _ in range(ATTEMPTS - 1):
        assert not suspects.raised(A)
        assert suspects.next("1", {"b"}) == A
    assert suspects.raised(A)
    assert not suspects.raised(B)
    suspects.settled("b")
    assert not suspects.raised(B), "what ended well counts no more"


@pytest.mark.parametrize("seed", range(20))
def test_in_a_storm_the_killers_are_set_aside_and_nobody_else(seed: int) -> None:
    random, suspects = Random(seed), Suspects[Piece]()
    pieces = [Piece(str(number)) for number in range(60)]
    killers = {piece.id for piece in random.sample(pieces, 3)}
    fresh, aside, done = list(pieces), set[str](), set[str]()
    held: dict[str, dict[str, Piece]] = {"1": {}, "2": {}}
    for turn in range(20_000):
        name = random.choice(list(held))
        aboard = held[name]
        if len(aboard) < 5 and not suspects.closed(name, aboard):
            piece = suspects.next(name, aboard) or (fresh.pop() if fresh else None)
            if piece is not None:
                aboard[piece.id] = piece
        accident = random.random() < 0.05 and turn < 5000 and not suspects.closed(name, aboard)
        if accident or (killers & aboard.keys() and random.random() < 0.3):
            del held[name]
            held[f"{name}'"] = {}
            aside |= {piece.id for piece in aboard.values() if suspects.died(piece, innocent=False)}
            suspects.left(name)
        elif aboard:
            piece = random.choice(list(aboard.values()))
            if piece.id not in killers:
                del aboard[piece.id]
                suspects.settled(piece.id)
                done.add(piece.id)
    assert aside == killers
    assert done == {piece.id for piece in pieces} - killers
