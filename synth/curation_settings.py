"""Settings of curation: what is looked at before accepted rows become the dataset."""

from pydantic import Field

from cluster.settings import Settings
from retrieval.settings import EncoderSettings


class SemanticSettings(Settings):
    """Leave rows out of the dataset that say the same in other words; the next ones take their places."""

    encoder: EncoderSettings
    """What turns texts into vectors, as in `index.encoder`, but one text at a time and in float32 unless it
    gives `batch_tokens` and `dtype`: in batches a text's vector depends a little on the texts beside it."""
    similarity: float = Field(0.95, gt=0, le=1)
    """Cosine from which on two rows are too much alike; each encoder has its own scale. Changing it, or
    turning all of this on or off, needs no new run."""
    across_labels: bool = False
    """Compare rows of all labels, not only of the same one."""


class CurationSettings(Settings):
    """How the dataset is put together from the accepted rows."""

    semantic: SemanticSettings | None = None
    """Leave out semantic near-duplicates; by default only texts that share their words are told apart."""
