"""The small recurrent classifier that weights are learned with, and the words it reads."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from training.dataset import TokenisedTexts, flattened

PAD, UNKNOWN = 0, 1
_FIRST = 2
# Of scripts that are written without spaces each character is a word.
_DENSE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_DENSE}]|[^\W{_DENSE}]+|[^\w\s]")


class LstmClassifier(torch.nn.Module):
    """Embedding, one LSTM layer in both directions, and a head on the last states of both.

    All weights begin evenly drawn between -1 and 1 over the root of `hidden`, the size of both states
    together; nothing is dropped out (SunGen's published code).
    """

    def __init__(self, words: int, classes: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(words, embedding)
        self.lstm = torch.nn.LSTM(embedding, hidden // 2, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(hidden, classes)
        for weights in self.parameters():
            torch.nn.init.uniform_(weights, -(hidden**-0.5), hidden**-0.5)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return logits, (texts, classes), of padded tokens, (texts, longest), of which so many count."""
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            self.embed(tokens), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        _, (last, _) = self.lstm(packed)
        logits: torch.Tensor = self.head(torch.cat([last[0], last[1]], dim=-1))
        return logits


def seeded_classifier(words: int, classes: int, embedding: int, hidden: int, seed: int) -> LstmClassifier:
    """Return the classifier with weights drawn by a seed, on the CPU, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LstmClassifier(words, classes, embedding, hidden)


def read_words(texts: Sequence[str], most: int, longest: int) -> tuple[TokenisedTexts, int]:
    """Return texts as numbers of words, and the size of the vocabulary, which is drawn from them.

    Words and marks, in small letters; the `most` most frequent ones have numbers of their own, of equally
    frequent ones the first by alphabet. Texts are cut after `longest` words.
    """
    counts = Counter(word for text in texts for word in _words(text, longest))
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:most]
    numbers = {word: number for number, (word, _) in enumerate(ranked, _FIRST)}
    pieces = [
        np.array([numbers.get(word, UNKNOWN) for word in _words(text, longest)] or [UNKNOWN], dtype=np.int32)
        for text in texts
    ]
    return flattened(pieces, PAD), _FIRST + len(numbers)


def _words(text: str, longest: int) -> list[str]:
    return _WORD.findall(text.lower())[:longest]
