import pytest

from cluster.errors import DataError
from cluster.models import resolve_model
from retrieval.rankers.dense import encode_texts
from retrieval.settings import EncoderSettings
from tests.tiny_encoder import MINILM

ENCODER = EncoderSettings(model=MINILM, preset="minilm")


def test_an_encoder_of_another_version_is_refused() -> None:
    revision = resolve_model(MINILM).revision
    with pytest.raises(
        DataError, match=rf"was built with revision 0123 of it, here is {revision}; build the"
    ):
        encode_texts(ENCODER, "0123", ["anything"])
