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
    store = LocalStore(tmp_path)
    right, measured = held_out(rows(26), LABELS, 0.25, seed=0)
    flipped = [next(name for name in right["id"].to_pylist() if name.startswith(label)) for label in LABELS]
    wrong = pc.is_in(right["id"], value_set=pa.array(flipped))
    other = pc.if_else(pc.equal(right["label"], "sport"), "food", "sport")
    place = right.column_names.index("label")
    taught = right.set_column(place, "label", pc.if_else(wrong, other, right["label"]))

    pair = InformationSettings.model_validate({"student": MINILM | {"epochs": 3}})
    found, table = measure(taught, measured, LABELS, pair, store)
    assert found.rows == len(table) == len(measured)
    assert found.null_entropy == pytest.approx(1, abs=0.2)
    assert found.bits > 0.5
    assert set(table["predicted"].to_pylist()) == set(LABELS)

    # The student that read the texts has seen which rows do not go with the others.
    settings = CartographySettings.model_validate(
        {"student": MINILM, "axis": "confidence", "fraction": 1 - 2 / len(taught)}
    )
    mapped = data_map(pq.read_table(io.BytesIO(store.read("information/text/dynamics.parquet"))), settings)
    assert mapped["id"].to_pylist() == taught["id"].to_pylist()
    assert set(mapped.filter(pc.invert(mapped["kept"]))["id"].to_pylist()) == set(flipped)
    assert len(filtered(taught, mapped)) == len(taught) - 2
