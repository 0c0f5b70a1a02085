"""Charts of the dataset's metrics: repetition, lengths, entities, and the map of meanings."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from jobs.report.drawing import ACCENT, INK, QUIET, drawn, shortened, to_svg
from jobs.report.quality import ORDERS, answer

_MOST_ROWS, _MOST_GOLD = 1200, 600
"""Points drawn of rows and of gold rows, at most: more hide one another."""
_COLOURS = (
    "#3f7fd9",
    "#d9824a",
    "#3c9a6b",
    "#b45bb0",
    "#b59a1f",
    "#4aa7b5",
    "#d2557a",
    "#7a74d6",
    "#8b8f3a",
    "#8f98a3",
)
"""Apart from each other on light and on dark pages; beyond ten labels they come again."""


def repetition_chart(metrics: Mapping[str, Any]) -> Markup | None:
    """Draw Self-BLEU of each order for the rows and for as many gold rows."""
    told = answer(metrics, "self_bleu")
    if not told:
        return None
    same = told.get("gold_same_n") or {}
    rows, gold = same.get("rows") or told["self_bleu"], same.get("gold") or {}
    orders = [order for order in ORDERS if order in rows]
    with drawn(4.6, 3.2) as (figure, axes):
        axes.plot(orders, [rows[order] for order in orders], "o-", color=ACCENT, label="rows")
        if gold:
            axes.plot(orders, [gold[order] for order in orders], "s--", color=QUIET, label="gold rows")
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("n")
        axes.set_ylabel("Self-BLEU-n")
        axes.grid(axis="y")
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
        return to_svg(figure, "repetition", "Self-BLEU of rows and of gold rows, for n-grams of each length")


def length_chart(metrics: Mapping[str, Any]) -> Markup | None:
    """Draw how many tokens rows and gold rows have, as shares."""
    told = answer(metrics, "profile").get("histogram") or {}
    if not told.get("edges"):
        return None
    edges = told["edges"]
    with drawn(4.6, 3.2) as (figure, axes):
        for side, colour, name in (("rows", ACCENT, "rows"), ("gold", QUIET, "gold rows")):
            counts = told.get(side) or []
            if total := sum(counts):
                axes.stairs(
                    [each / total for each in counts],
                    edges,
                    color=colour,
                    label=name,
                    fill=side == "gold",
                    alpha=0.45 if side == "gold" else 1,
                    linewidth=1.6,
                )
        axes.set_xlabel("tokens of a row")
        axes.set_ylabel("share of rows")
        axes.grid(axis="y")
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
        return to_svg(figure, "lengths", "Lengths of rows and of gold rows, in tokens")


def entity_chart(metrics: Mapping[str, Any]) -> Markup | None:
    """Draw the entropy of each type of named entity, for rows and gold rows."""
    told = answer(metrics, "entities")
    of_rows, of_gold = told.get("types") or {}, (told.get("gold") or {}).get("types") or {}
    names = sorted(of_rows.keys() | of_gold.keys(), key=lambda name: -_entropy(of_rows, name))
    if not names:
        return None
    with drawn(8.2, 0.9 + 0.3 * len(names)) as (figure, axes):
        for shift, types, colour, name in (
            (-0.19, of_rows, ACCENT, "rows"),
            (0.19, of_gold, QUIET, "gold rows"),
        ):
            if types:
                places = [place + shift for place in range(len(names))]
                axes.barh(
                    places, [_entropy(types, each) for each in names], color=colour, height=0.36, label=name
                )
        axes.set_yticks(range(len(names)), [shortened(name) for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel("entropy in bits")
        axes.grid(axis="x")
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
        return to_svg(figure, "entities", "Entropy of named entities by type, for rows and gold rows")


def _entropy(types: Mapping[str, Any], name: str) -> float:
    return float((types.get(name) or {}).get("entropy") or 0.0)


def map_chart(metrics: Mapping[str, Any]) -> Markup | None:
    """Draw rows as dots and gold rows as crosses where their meaning is, in the colours of their labels."""
    told = answer(metrics, "map")
    if not told:
        return None
    labels, points = told["labels"], told["points"]
    rows = [each for each in points if each[3] == 0][:_MOST_ROWS]
    gold = [each for each in points if each[3] == 1][:_MOST_GOLD]
    with drawn(8.2, 5.4) as (figure, axes):
        for place, label in enumerate(labels):
            colour = _COLOURS[place % len(_COLOURS)]
            made = [each for each in rows if each[2] == place]
            real = [each for each in gold if each[2] == place]
            axes.plot(
                [each[0] for each in made],
                [each[1] for each in made],
                "o",
                color=colour,
                markersize=3.2,
                alpha=0.55,
                markeredgewidth=0,
                label=shortened(label),
            )
            axes.plot(
                [each[0] for each in real],
                [each[1] for each in real],
                "x",
                color=colour,
                markersize=4.5,
                markeredgewidth=1.1,
            )
        if gold:
            axes.plot([], [], "x", color=INK, markersize=5, label="gold rows")
        shares = told.get("explained") or (0.0, 0.0)
        axes.set_xlabel(f"first principal component ({100 * shares[0]:.0f} % of the variance)")
        axes.set_ylabel(f"second ({100 * shares[1]:.0f} %)")
        axes.set_xticks([])
        axes.set_yticks([])
        figure.legend(loc="outside upper left", ncols=5, frameon=False, markerscale=2)
        return to_svg(figure, "map", "Rows and gold rows by meaning, in two dimensions")
