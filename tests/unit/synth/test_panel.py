import io

import pytest
from rich.console import Console

from synth.panel import Panel, short
from synth.telling import Speed, Telling


def drawn(telling: Telling, width: int, height: int, **how: bool) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, height=height, highlight=False).print(Panel(telling, **how))
    return out.getvalue().splitlines()


def told(labels: int, **changes: object) -> Telling:
    names = [f"label {n:02d}" for n in range(labels)]
    known = {
        "kept": {name: 10 * n for n, name in enumerate(names)},
        "targets": dict.fromkeys(names, 1000),
        "rows": {"accepted": 900, "rejected": 100, "rejected:too_short": 60, "rejected:refusal": 40},
        "now": Speed(12, 3000, 1500),
        "average": Speed(10, 2500, 1200),
        "replicas": 4,
        "seats": 512,
        "running": 500,
        "waiting": 9,
        "gpu": 0.87,
        "eta_seconds": 3725.0,
        "costs": {
            "tokens": {"prompt": 2_000_000, "reply": 500_000},
            "money": {"total": 1.25},
            "limits": {"money": {"limit": 2.5, "spent": 1.25}, "deadline": {"limit": "07:00"}},
        },
    }
    return Telling(**known | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (60, 14), (240, 60)])
def test_eighty_labels_fit_and_those_that_lag_come_first(width: int, height: int) -> None:
    lines = drawn(told(80), width, height, fit=True)
    assert len(lines) < height and max(map(len, lines)) <= width
    assert any("label 00" in line for line in lines)
    more = [line for line in lines if "more labels" in line]
    assert bool(more) == (width < 240)
    if more:
        assert not any("label 79" in line for line in lines)


def test_all_labels_stand_in_the_order_of_the_task_where_height_is_no_matter() -> None:
    text = "\n".join(drawn(told(80), 50, 10))
    places = [text.index(f"label {n:02d}") for n in range(80)]
    assert places == sorted(places)


def test_the_facts_are_all_there() -> None:
    text = "\n".join(drawn(told(3), 110, 30))
    for fact in (
        "30 of 3,000 rows", "ETA 1:02:05", "12 rows/s (average 10)", "4 replicas alive",
        "500 of 512 seats busy, 9 waiting, GPU 87%, 0 restarts",
        "100 of 1,000 replies (10%): too short 60, refusal 40",
        "2.5M tokens, money 1.25", "money 1.25 of 2.5 (50%), deadline 07:00",
    ):  # fmt: skip
        assert fact in text


def test_a_finished_run_shows_no_teacher_and_what_was_left_over() -> None:
    text = "\n".join(drawn(told(2, surplus={"near_duplicate": 3}), 110, 30, live=False))
    assert "replicas" not in text and "ETA" not in text and "near duplicate 3" in text


def test_labels_in_wide_letters_and_with_control_characters_stay_in_their_columns() -> None:
    names = ["スポーツ" * 8, "a\x1b[2Jb\nc", "😀" * 3, "x" * 90]
    telling = told(0, kept=dict.fromkeys(names, 1), targets=dict.fromkeys(names, 2))
    lines = drawn(telling, 80, 30)
    assert not any("\x1b" in line for line in lines)
    assert "a\\x1b[2Jb c" in "\n".join(lines) and len([line for line in lines if "1/2" in line]) == 4


def test_nothing_known_yet_is_drawn_too() -> None:
    assert drawn(Telling({}), 80, 24, fit=True)[0] == "0 rows"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (9999, "9,999"), (25_000, "25k"), (1_234_567, "1.23M"), (0.5, "0.5"), (1234.5, "1.23e+03")],
)
def test_amounts_are_short(number: float, text: str) -> None:
    assert short(number) == text
