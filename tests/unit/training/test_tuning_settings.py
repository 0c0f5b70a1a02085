from typing import Any

import pytest

from cluster.errors import SettingsError
from cluster.settings import validate
from training.tuning.settings import TuningSettings


def test_lora_learns_faster_unless_told_otherwise() -> None:
    assert TuningSettings().learning_rate == 2e-5
    assert TuningSettings.model_validate({"lora": {}}).learning_rate == 2e-4
    assert TuningSettings.model_validate({"lora": {"rank": 4}, "learning_rate": 1e-3}).learning_rate == 1e-3
    assert TuningSettings(lora=None).learning_rate == 2e-5


def test_identity_is_what_the_weights_depend_on() -> None:
    here = TuningSettings(rows="a.jsonl", name="one", workers=2, zero=3, micro_batch=1, checkpoint_seconds=5)
    there = TuningSettings(rows="b.jsonl", name="two")
    assert here.identity() == there.identity()
    changes: list[dict[str, Any]] = [{"seed": 1}, {"max_tokens": 99}, {"packing": False}, {"lora": {}}]
    for change in changes:
        assert TuningSettings(**change).identity() != there.identity()


def test_a_wrong_key_is_named() -> None:
    with pytest.raises(SettingsError, match=r"lora.ranks: unknown key; did you mean rank\?"):
        validate(TuningSettings, {"lora": {"ranks": 4}}, "recipe")
