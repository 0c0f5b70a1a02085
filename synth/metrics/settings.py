"""A recipe's key `metrics`: one key for each metric there is a file for, each with its settings or null."""

import importlib
import pkgutil
from typing import Any

from pydantic import create_model

from cluster.settings import Settings
from retrieval.settings import EncoderSettings
from synth.metrics.metric import MetricSettings


class MetricsBase(Settings):
    """What all metrics share."""

    encoder: EncoderSettings | None = None
    """The model of every metric by vectors that names none; by default the index's, if the recipe has one."""

    def chosen(self, encoder: EncoderSettings | None = None) -> dict[str, MetricSettings]:
        """Return the metrics that are on, by name; encoder stands in where neither they nor this name one."""
        shared = self.encoder or encoder
        found = {}
        for name in sorted(metric.name for metric in all_metrics()):
            settings = getattr(self, name)
            if settings is not None:
                needs = "encoder" in type(settings).model_fields and settings.encoder is None
                found[name] = settings.model_copy(update={"encoder": shared}) if needs else settings
        return found


def all_metrics() -> list[type[MetricSettings]]:
    """Return every metric in `synth.metrics`: adding a file adds one."""
    package = importlib.import_module("synth.metrics")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"synth.metrics.{module.name}")
    return sorted(MetricSettings.__subclasses__(), key=lambda metric: metric.name)


def metrics_settings() -> type[MetricsBase]:
    """Return the class of a recipe's `metrics`: all metrics on with their defaults, each off with null."""
    keys: dict[str, Any] = {metric.name: (metric | None, metric()) for metric in all_metrics()}
    return create_model("MetricsSettings", __base__=MetricsBase, **keys)
