"""Rows with a wrong label stand out on a real student's data map, and texts are worth bits to it."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cluster.storage import LocalStore
from training.cartography import data_map, filtered
from training.knowledge_settings import CartographySettings, InformationSettings
from training.metrics.information import measure
from training.metrics.split import held_out
from training.student import train_student

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

LABELS = ("sport", "food")
WORDS = {
    "sport": ["football", "goal", "match", "league", "coach", "striker", "stadium", "referee"],
    "food": ["soup", "butter", "recipe", "oven", "garlic", "dessert", "flavour", "kitchen"],
}
MINILM = {"preset": "minilm", "max_tokens": 16, "batch_size": 8}


def rows(per_label: int) -> pa.Table:
    random = np.random.default_rng(0)
    told = [
        {
            "id": f"{label}-{number:02d}",
            "text": " ".join(random.choice(words, 3, replace=False)),
            "label": label,
        }
        for label, words in WORDS.items()
        for number in range(per_label)
    ]
    return pa.Table.from_pylist([told[place] for place in random.permutation(len(told))])


def test_wrong_labels_are_found_and_texts_inform(ray_local: str, tmp_path: Path) -> None:
    store, right = LocalStore(tmp_path), rows(20)
    wrong = pc.is_in(right["id"], value_set=pa.array(["sport-03", "food-07"]))
    other = pc.if_else(pc.equal(right["label"], "sport"), "food", "sport")
    taught = right.set_column(2, "label", pc.if_else(wrong, other, right["label"]))
    settings = CartographySettings.model_validate(
        {"student": MINILM | {"epochs": 3}, "axis": "confidence", "fraction": 0.95}
    )
    train_student(taught, LABELS, settings.student, store, "cartography/student")
    dynamics = pq.read_table(io.BytesIO(store.read("cartography/student/dynamics.parquet")))
    mapped = data_map(dynamics, settings)
    assert mapped["id"].to_pylist() == taught["id"].to_pylist()
    assert set(mapped.filter(pc.invert(mapped["kept"]))["id"].to_pylist()) == {"sport-03", "food-07"}
    assert len(filtered(taught, mapped)) == 38

    pair = InformationSettings.model_validate({"student": MINILM | {"epochs": 2}})
    learned, measured = held_out(right, LABELS, 0.3, seed=0)
    found, table = measure(learned, measured, LABELS, pair, store)
    assert found.rows == len(table) == 12
    assert found.null_entropy == pytest.approx(1, abs=0.2)
    assert found.bits > 0.5
    assert set(table["predicted"].to_pylist()) == set(LABELS)
