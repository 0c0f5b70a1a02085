"""The page and the table of a comparison: methods and baselines of each task, with spread, cost and doubt."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from cluster.storage import Store
from jobs.report.drawing import ACCENT, INK, QUIET, WARM, drawn, shortened, to_svg
from jobs.report.page import environment
from jobs.report.wording import NONE, count, decimal, duration, money, percent, quantity

PAGE = "comparison.html"
SIGNIFICANT = 0.05
"""Largest corrected p of a difference that is called more than luck."""
_WIDTH = 8.2
_SELF_BLEU = "5"
_KINDS = ("method", "gold", "seeds", "teacher", "majority")


@dataclass(frozen=True, slots=True)
class Line:
    """An entry with one student: what the table shows of it."""

    name: str
    kind: str
    student: str
    mean: float | None
    std: float | None
    accuracies: tuple[float, ...]
    macro_f1: float | None
    facts: Mapping[str, Any]
    failed: str | None

    @property
    def accuracy(self) -> str:
        """Mean and spread in words."""
        if self.mean is None:
            return NONE
        return percent(self.mean) if self.std is None else f"{100 * self.mean:.1f} ± {100 * self.std:.1f} %"

    @property
    def rows(self) -> str:
        """Rows, and how many were wanted where these are more."""
        rows, target = self.facts.get("rows"), self.facts.get("target")
        if not rows:
            return NONE
        return f"{count(rows)} of {count(target)}" if target and rows < target else count(rows)

    def columns(self) -> list[str]:
        """Return the cells of the table after the name, as `HEADINGS` names them."""
        facts, quality = self.facts, self.facts.get("quality") or {}
        returned, accepted = facts.get("returned"), facts.get("accepted")
        return [
            self.rows,
            self.accuracy,
            decimal(self.macro_f1),
            percent(accepted / returned) if returned and accepted is not None else NONE,
            count(facts.get("tokens_per_row")),
            money(facts.get("money")),
            duration(facts.get("seconds")),
            decimal(_figure(quality, "self_bleu", "self_bleu", _SELF_BLEU)),
            decimal(_figure(quality, "mauve", "mean")),
            quantity(_figure(quality, "vendi", "vendi")),
        ]


HEADINGS = (
    "Rows",
    "Accuracy",
    "Macro F1",
    "Accepted",
    "Tokens a row",
    "Money",
    "Time",
    f"Self-BLEU-{_SELF_BLEU}",
    "MAUVE",
    "Vendi",
)


def _figure(quality: Mapping[str, Any], metric: str, *path: str) -> float | None:
    """Return a figure of a metric; None where it was not computed."""
    found: Any = quality.get(metric)
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) else None


def lines_of(task: Mapping[str, Any]) -> list[Line]:
    """Return the lines of a task's table: methods, the best first, then what they are held against."""
    lines = [line for entry in task["entries"] for line in _lines(entry)]
    return sorted(lines, key=lambda line: (line.student or "~", _KINDS.index(line.kind), -(line.mean or 0.0)))


def table_of(lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Return the headings of the columns that hold anything, and the cells of each line under them."""
    cells = [line.columns() for line in lines]
    kept = [place for place in range(len(HEADINGS)) if any(row[place] != NONE for row in cells)]
    return [HEADINGS[place] for place in kept], [[row[place] for place in kept] for row in cells]


def _lines(entry: Mapping[str, Any]) -> Iterator[Line]:
    students = entry["students"] or {"": {}}
    for student, scores in students.items():
        yield Line(
            name=entry["name"],
            kind=entry["kind"],
            student=student,
            mean=scores.get("mean"),
            std=scores.get("std"),
            accuracies=tuple(scores.get("accuracies") or ()),
            macro_f1=scores.get("macro_f1"),
            facts=entry["facts"],
            failed=entry["failed"],
        )


def write_comparison(folder: Store, result: Mapping[str, Any]) -> str:
    """Write `comparison.html`, which loads nothing and needs no script, and return where it is."""
    tasks = [_section(name, task) for name, task in _tasks(result).items()]
    page = environment().get_template("comparison.html.j2")
    context = {
        "name": result["comparison"],
        "equal": equal(result["equal"]),
        "tasks": tasks,
        "significant": SIGNIFICANT,
    }
    folder.write(PAGE, page.render(context).encode())
    return f"{folder.url}/{PAGE}"


def _tasks(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the tasks; for equal tokens no number of rows was wanted, so that none is told."""
    if not result["equal"].get("tokens"):
        return dict(result["tasks"])
    return {
        name: {
            **task,
            "entries": [each | {"facts": each["facts"] | {"target": None}} for each in task["entries"]],
        }
        for name, task in result["tasks"].items()
    }


def _section(name: str, task: Mapping[str, Any]) -> dict[str, Any]:
    lines = lines_of(task)
    made = [line for line in lines if not line.failed]
    headings, cells = table_of(made)
    return {
        "name": name,
        "test_rows": task["test_rows"],
        "headings": headings,
        "lines": list(zip(made, cells, strict=True)),
        "failed": [line for line in lines if line.failed],
        "short": _short(lines),
        "chart": chart(name, lines),
        "pairs": {student: _sorted(pairs) for student, pairs in task["significance"].items()},
    }


def equal(measure: Mapping[str, Any]) -> str:
    """Say what all methods were given alike."""
    if measure.get("tokens"):
        return f"{count(measure['tokens'])} tokens of the teacher for each method"
    return f"{count(measure['rows_per_label'])} accepted rows of each label for each method"


def _short(lines: Sequence[Line]) -> list[str]:
    """Name the methods that made fewer rows than the others were given."""
    found = {line.name for line in lines if "of" in line.rows and line.kind == "method"}
    return sorted(found)


def _sorted(pairs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return pairs with the better one first, the largest difference first."""
    turned = [dict(pair) if pair["points"] >= 0 else _turned(pair) for pair in pairs]
    return sorted(turned, key=lambda pair: -pair["points"])


def _turned(pair: Mapping[str, Any]) -> dict[str, Any]:
    sides = {"one": pair["other"], "other": pair["one"]}
    return {**pair, **sides, "points": -pair["points"], "low": -pair["high"], "high": -pair["low"]}


def chart(task: str, lines: Sequence[Line]) -> Markup | None:
    """Draw the accuracy of every line, with its runs as dots; None when none has any."""
    shown = [line for line in lines if line.mean is not None]
    if not shown:
        return None
    with drawn(_WIDTH, 0.55 + 0.36 * len(shown)) as (figure, axes):
        for place, line in enumerate(shown):
            colour = {"method": ACCENT, "teacher": WARM}.get(line.kind, QUIET)
            axes.barh(place, line.mean, color=colour, height=0.62)
            others = line.accuracies if len(line.accuracies) > 1 else ()
            axes.plot(others, [place] * len(others), "o", color=INK, markersize=3, alpha=0.7)
            end = max([line.mean or 0.0, *line.accuracies])
            axes.annotate(line.accuracy, (end, place), (6, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(shown)), [shortened(_called(line)) for line in shown])
        axes.set_xlim(0, 1.16)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.set_xlabel("accuracy on gold test rows")
        axes.grid(axis="x")
        axes.invert_yaxis()
        return to_svg(figure, f"compare-{task}", f"Accuracy of every method and baseline on {task}")


def _called(line: Line) -> str:
    return f"{line.name} ({line.student})" if line.student else line.name


def worded(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables as lines of text."""
    yield f"Comparison {result['comparison']}: {equal(result['equal'])}"
    for name, task in _tasks(result).items():
        lines = lines_of(task)
        made = [line for line in lines if not line.failed]
        wide = max(len(_called(line)) for line in lines)
        headings, cells = table_of(made)
        yield f"{name}, {count(task['test_rows'])} gold test rows:"
        yield f"  {'':<{wide}}" + "".join(f"{heading:>15}" for heading in headings)
        for line, row in zip(made, cells, strict=True):
            yield f"  {_called(line):<{wide}}" + "".join(f"{cell:>15}" for cell in row)
        yield from (f"  {_called(line):<{wide}}  failed: {line.failed}" for line in lines if line.failed)
        for student, pairs in task["significance"].items():
            sure = [pair for pair in _sorted(pairs) if pair["p_corrected"] <= SIGNIFICANT]
            yield f"  {student}: {len(sure)} of {len(pairs)} differences more than luck (p ≤ {SIGNIFICANT})"
