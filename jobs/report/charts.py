"""The charts of the report, as SVG elements."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from jobs.report.counts import LabelRows
from jobs.report.drawing import ACCENT, GOOD, INK, QUIET, WARM, drawn, shortened, to_svg
from jobs.report.scores import Score
from jobs.report.wording import percent

WIDTH = 8.2
MOST_BARS = 60
MOST_CELLS = 40
"""Labels beyond which a confusion matrix is unreadable."""
_NUMBERS_FIT = 20
_WHITE_FROM = 0.62


def accuracy_chart(scores: Sequence[Score], majority: float | None) -> Markup | None:
    """Draw accuracy of every student with its interval, and of the majority class; None without any."""
    scored = [score for score in scores if score.accuracy is not None]
    if not scored:
        return None
    count = len(scored) + (majority is not None)
    with drawn(WIDTH, 0.55 + 0.42 * count) as (figure, axes):
        for place, score in enumerate(scored):
            colour = ACCENT if score.on_dataset else QUIET
            _accuracy_bar(axes, place, score.accuracy or 0.0, colour, score)
        if majority is not None:
            _accuracy_bar(axes, len(scored), majority, QUIET, None)
        names = [shortened(score.name) for score in scored] + ["majority class"] * (majority is not None)
        axes.set_yticks(range(count), names)
        axes.set_xlim(0, 1.09)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.grid(axis="x")
        axes.invert_yaxis()
        return to_svg(figure, "accuracy", "Accuracy of each student on the gold test rows")


def _accuracy_bar(axes: Axes, place: int, accuracy: float, colour: str, score: Score | None) -> None:
    axes.barh(place, accuracy, color=colour, height=0.62, alpha=1 if score else 0.5)
    end = accuracy
    if score is not None and score.low is not None and score.high is not None:
        reach = [[max(0.0, accuracy - score.low)], [max(0.0, score.high - accuracy)]]
        axes.errorbar(accuracy, place, xerr=reach, color=INK, capsize=4, linewidth=1.2)
        end = max(end, score.high)
    if score is not None and score.runs is not None:
        others = score.runs.accuracies[1:]
        axes.plot(others, [place] * len(others), "o", color=INK, markersize=3, alpha=0.7)
        end = max(end, *others)
    axes.annotate(percent(accuracy), (end, place), (6, 0), textcoords="offset points", va="center")


def fill_chart(rows: Sequence[LabelRows], targets: Mapping[str, int]) -> Markup | None:
    """Draw rows kept, surplus and rejected for every label; beyond 60 labels, the emptiest 60."""
    if not rows:
        return None
    shown = rows if len(rows) <= MOST_BARS else sorted(rows, key=lambda row: row.kept)[:MOST_BARS]
    with drawn(WIDTH, 0.9 + 0.26 * len(shown)) as (figure, axes):
        start = [0] * len(shown)
        parts = (
            ("in the dataset", GOOD, "kept"),
            ("surplus", QUIET, "surplus"),
            ("rejected", WARM, "rejected"),
        )
        for name, colour, attribute in parts:
            widths = [int(getattr(row, attribute)) for row in shown]
            axes.barh(range(len(shown)), widths, left=start, color=colour, height=0.7, label=name)
            start = [left + width for left, width in zip(start, widths, strict=True)]
        _target_lines(axes, [targets.get(row.label, 0) for row in shown])
        axes.set_yticks(range(len(shown)), [shortened(row.label) for row in shown])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(axis="x")
        figure.legend(loc="outside upper left", ncols=4, frameon=False)
        return to_svg(figure, "fill", "Rows in the dataset, surplus and rejected, for every label")


def _target_lines(axes: Axes, targets: Sequence[int]) -> None:
    """Mark targets: by one line where all are the same, else by a tick on each bar; 0 means none."""
    dashes = (0, (4, 3))
    if len(set(targets)) == 1 and targets[0]:
        axes.axvline(targets[0], color=INK, linestyle=dashes, linewidth=1, label=f"target {targets[0]:,}")
    elif any(targets):
        marked = [(target, place) for place, target in enumerate(targets) if target]
        ends, places = [target for target, _ in marked], [place for _, place in marked]
        axes.vlines(ends, [p - 0.45 for p in places], [p + 0.45 for p in places], INK, label="target")


def reliability_chart(score: Score) -> Markup | None:
    """Draw what share of predictions of each confidence was right, more of them larger; None if unknown."""
    if not score.reliability:
        return None
    most = max(rows for _, _, rows in score.reliability)
    with drawn(4.6, 4.2) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=QUIET, linestyle=(0, (4, 3)), linewidth=1)
        confidence, accuracy, rows = zip(*score.reliability, strict=True)
        axes.plot(confidence, accuracy, color=ACCENT, linewidth=1)
        axes.scatter(
            confidence, accuracy, s=[12 + 140 * each / most for each in rows], color=ACCENT, alpha=0.8
        )
        axes.set_xlim(-0.02, 1.03)
        axes.set_ylim(-0.02, 1.03)
        axes.set_aspect("equal")
        axes.grid()
        axes.set_xlabel("confidence")
        axes.set_ylabel("share that was right")
        return to_svg(figure, "reliability", f"Reliability diagram of {score.name}")


def confusion_chart(score: Score, labels: Sequence[str]) -> Markup | None:
    """Draw a student's confusion matrix, shaded by share of the gold label; None if missing or too large."""
    size = len(score.confusion)
    if not size or size > MOST_CELLS or size != len(labels):
        return None
    side = max(2.4, 0.36 * size)
    with drawn(min(WIDTH + 1, side + 2.2), min(WIDTH, side + 1.6)) as (figure, axes):
        for gold, line in enumerate(score.confusion):
            for predicted, count in enumerate(line):
                _cell(axes, gold, predicted, count, count / max(1, sum(line)), size)
        axes.set_xlim(-0.5, size - 0.5)
        axes.set_ylim(size - 0.5, -0.5)
        axes.set_aspect("equal")
        names = [shortened(label) for label in labels]
        axes.set_xticks(range(size), names, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(size), names)
        axes.set_xlabel("predicted")
        axes.set_ylabel("gold")
        axes.spines["bottom"].set_visible(False)
        return to_svg(figure, "confusion", f"Confusion matrix of {score.name}")


def _cell(axes: Axes, gold: int, predicted: int, count: int, share: float, size: int) -> None:
    colour = ACCENT if gold == predicted else WARM
    # A wrong cell deepens faster: one in five going astray should be seen.
    depth = share if gold == predicted else min(1.0, 2.5 * share)
    corner = (predicted - 0.46, gold - 0.46)
    axes.add_patch(Rectangle(corner, 0.92, 0.92, facecolor=colour, alpha=0.06 + 0.86 * depth, linewidth=0))
    if count and size <= _NUMBERS_FIT:
        ink = "#ffffff" if depth > _WHITE_FROM else INK
        axes.text(predicted, gold, f"{count:,}", ha="center", va="center", color=ink, fontsize=8.5)
