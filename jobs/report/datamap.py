"""What a student makes of the rows: the data map, its hardest rows, label preservation, V-information."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D

from cluster.storage import Store
from jobs.report.charts import WIDTH
from jobs.report.drawing import ACCENT, INK, QUIET, WARM, drawn, to_svg

MAP = "data_map.parquet"
MOST_POINTS = 1500
"""Points drawn: those with the smallest ids, which are hashes and so a fair sample."""
HARDEST = 6
_COLOURS = LinearSegmentedColormap.from_list("correctness", [WARM, QUIET, ACCENT])
_MOST_VARIABLE = 0.5
_FEW = 400
"""Points up to which there is room for larger ones."""


@dataclass(frozen=True, slots=True)
class HardRow:
    """A row that the student did not learn: its label, the mean probability of that, and the text."""

    id: str
    label: str
    confidence: float
    text: str


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What there is to show; an answer is figures, or a sentence that says why there are none."""

    chart: Markup | None
    drawn: int
    hardest: tuple[HardRow, ...]
    cartography: Mapping[str, Any]
    answers: tuple[tuple[str, str], ...]
    """Question and reason of what was asked but not computed."""
    oracle: Mapping[str, Any]
    information: Mapping[str, Any]

    @property
    def shown(self) -> bool:
        """Whether there is anything."""
        return self.chart is not None or bool(self.answers or self.oracle or self.information)


def read_knowledge(run: Store, metrics: Mapping[str, Any]) -> Knowledge:
    """Return what the run folder tells of what a student knows."""
    told = metrics.get("knowledge") or {}
    figures = {name: answer for name, answer in told.items() if isinstance(answer, Mapping)}
    mapped = pq.read_table(run.fetch(MAP)) if run.exists(MAP) else None
    points = _sample(mapped) if mapped is not None else None
    return Knowledge(
        chart=map_chart(points) if points is not None else None,
        drawn=len(points) if points is not None else 0,
        hardest=_hardest(run, mapped) if mapped is not None else (),
        cartography=figures.get("cartography", {}),
        answers=tuple((_QUESTIONS[name], answer) for name, answer in told.items() if isinstance(answer, str)),
        oracle=figures.get("oracle", {}),
        information=figures.get("information", {}),
    )


_QUESTIONS = {
    "cartography": "Data map",
    "oracle": "Label preservation",
    "information": "V-information",
}


def map_chart(points: pa.Table) -> Markup | None:
    """Draw rows (variability, confidence, correctness, kept) as points; None without any."""
    if not len(points):
        return None
    variability, confidence = points["variability"].to_numpy(), points["confidence"].to_numpy()
    kept, colours = points["kept"].to_numpy(), _COLOURS(points["correctness"].to_numpy())
    size = 26 if len(points) <= _FEW else 13
    with drawn(WIDTH, 5.2) as (figure, axes):
        axes.scatter(variability[kept], confidence[kept], s=size, c=colours[kept], alpha=0.75, linewidths=0)
        axes.scatter(
            variability[~kept],
            confidence[~kept],
            s=size,
            facecolors="none",
            edgecolors=colours[~kept],
            linewidths=0.8,
        )
        _regions(axes)
        axes.set_xlim(-0.01, max(_MOST_VARIABLE, float(variability.max())) + 0.01)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("variability: standard deviation of the probability of the row's label")
        axes.set_ylabel("confidence: mean probability of the row's label")
        axes.grid()
        figure.legend(
            handles=_legend(dropped=not kept.all()), loc="outside upper left", ncols=4, frameon=False
        )
        return to_svg(figure, "datamap", "Every row by variability and confidence, coloured by correctness")


def _regions(axes: Axes) -> None:
    for where, text, across in (
        ((0.01, 0.97), "easy to learn", "left"),
        ((0.99, 0.5), "ambiguous", "right"),
        ((0.01, 0.03), "hard to learn", "left"),
    ):
        axes.annotate(text, where, xycoords="axes fraction", ha=across, va="center", color=INK, alpha=0.75)


def _legend(dropped: bool) -> list[Line2D]:
    words = ((0.0, "never right"), (0.5, "right in half of the epochs"), (1.0, "always right"))
    style: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 5}
    handles = [
        Line2D([], [], color=_COLOURS(share), markeredgewidth=0, label=text, **style) for share, text in words
    ]
    if dropped:
        handles.append(Line2D([], [], color=QUIET, markerfacecolor="none", label="dropped", **style))
    return handles


def _sample(mapped: pa.Table) -> pa.Table:
    if len(mapped) <= MOST_POINTS:
        return mapped
    return mapped.take(pc.select_k_unstable(mapped, k=MOST_POINTS, sort_keys=[("id", "ascending")]))


def _hardest(run: Store, mapped: pa.Table) -> tuple[HardRow, ...]:
    """Return the rows of lowest confidence among those that were never right."""
    never = mapped.filter(pc.equal(mapped["correctness"], 0))
    order = [("confidence", "ascending"), ("id", "ascending")]
    rows = never.sort_by(order).slice(0, HARDEST).to_pylist()
    texts = _texts(run, [row["id"] for row in rows])
    return tuple(
        HardRow(row["id"], _joined(row["label"]), row["confidence"], texts.get(row["id"], "")) for row in rows
    )


def _texts(run: Store, ids: Sequence[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for key in run.list("data"):
        if key.endswith(".parquet"):
            table = pq.read_table(
                run.fetch(key), columns=["id", "text"], filters=pc.field("id").isin(list(ids))
            )
            texts |= dict(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
    return texts


def _joined(label: str | list[str]) -> str:
    return label if isinstance(label, str) else ", ".join(label)
