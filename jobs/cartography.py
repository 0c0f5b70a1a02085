"""The data map of a run: a student is trained on the whole dataset, and its epochs say what is kept."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.stage import Stage
from training.cartography import MAP, data_map
from training.knowledge_settings import CartographySettings
from training.student import train_student

STUDENT = "cartography/student"
"""Folder of the student that draws the map."""


def drawn_map(stage: Stage, dataset: pa.Table, settings: CartographySettings) -> pa.Table:
    """Return the data map of the dataset (id, text, label), and write it to `data_map.parquet`.

    The student is trained the first time, and whenever rows or settings have changed; the filter alone may
    change at no cost. Give the map to `training.cartography.filtered` to get the rows that are kept.
    """
    stage.lease.renew(force=True)
    stage.progress.say(f"Data map: student {settings.student.name} on {len(dataset)} rows")
    train_student(dataset, stage.task.labels, settings.student, stage.run, STUDENT)
    dynamics = pq.read_table(io.BytesIO(stage.run.read(f"{STUDENT}/dynamics.parquet")))
    mapped = data_map(dynamics, settings)
    sink = io.BytesIO()
    pq.write_table(mapped, sink)
    stage.run.write(MAP, sink.getvalue())
    return mapped
