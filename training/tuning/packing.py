"""Windows: several lessons one after the other in what would else be padding, none of which sees another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from training.dataset import Indices
from training.tuning.rendering import TokenisedLessons

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""Target of a token that is not learnt, as torch's cross-entropy skips it."""


def packed(lengths: Indices, room: int, seed: int) -> list[Indices]:
    """Share lessons out among windows of `room` tokens: the longest first, each where it leaves least over.

    (Best fit decreasing: at most 11/9 of the fewest windows possible.) Lessons of one length change places by
    seed. No length exceeds room.
    """
    shuffled = np.random.default_rng(seed).permutation(len(lengths))
    order = shuffled[np.argsort(-lengths[shuffled], kind="stable")]
    windows: list[list[int]] = []
    open_with: list[list[int]] = [[] for _ in range(room + 1)]
    spaces = 0  # Bit s is set while a window has just s tokens left.
    for lesson in order.tolist():
        length = int(lengths[lesson])
        fitting = spaces >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            number = open_with[space].pop()
            if not open_with[space]:
                spaces ^= 1 << space
        else:
            space, number = room, len(windows)
            windows.append([])
        windows[number].append(lesson)
        open_with[space - length].append(number)
        spaces |= 1 << (space - length)
    return [np.array(window, dtype=np.int64) for window in windows]


@dataclass(frozen=True, slots=True)
class Windows:
    """What a model reads: lessons in windows; window i holds `order[bounds[i]:bounds[i + 1]]`."""

    lessons: TokenisedLessons
    order: Indices
    bounds: Indices
    pad_id: int

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def shared(self) -> bool:
        """Whether some window holds several lessons."""
        return len(self) < len(self.order)

    def lengths(self) -> Indices:
        """Return the number of tokens of every window."""
        return np.add.reduceat(self.lessons.lengths()[self.order], self.bounds[:-1])

    def taught(self) -> Indices:
        """Return the number of reply tokens of every window."""
        return np.add.reduceat(self.lessons.reply_tokens()[self.order], self.bounds[:-1])

    def padded(self, indices: Indices, left: bool = False) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Return token ids and a mask, as the texts of a student; `batch` gives what a teacher needs."""
        import torch

        if left:
            raise NotImplementedError("windows are filled from their start")
        tokens = self.batch(indices).tokens
        lengths = torch.from_numpy(self.lengths()[indices])
        return tokens, (torch.arange(tokens.shape[1]) < lengths[:, None]).long()

    def batch(self, chosen: Indices, flat: bool = False) -> "Batch":
        """Return the chosen windows as tensors, each padded to the longest; or, flat, all of them as one row.

        Positions start again with every lesson, by which transformers keeps attention within a lesson.
        """
        rows = [self._window(number, index) for number, index in enumerate(chosen.tolist())]
        if flat:
            rows = [tuple(np.concatenate(parts) for parts in zip(*rows, strict=True))]
        longest = max(len(parts[0]) for parts in rows)
        # Padding has position 0 throughout: each of its tokens is a text of its own.
        filling = (self.pad_id, 0, IGNORED, 0)
        whole = [np.full((len(rows), longest), value, dtype=np.int64) for value in filling]
        for row, parts in enumerate(rows):
            for array, part in zip(whole, parts, strict=True):
                array[row, : len(part)] = part
        return Batch.of(whole)

    def _window(self, number: int, index: int) -> tuple[Indices, ...]:
        """Return tokens, positions, as target of each token the next one if it is learnt, and the number."""
        parts: list[tuple[Indices, ...]] = []
        for lesson in self.order[self.bounds[index] : self.bounds[index + 1]].tolist():
            tokens = self.lessons.tokens[self.lessons.starts[lesson] : self.lessons.starts[lesson + 1]]
            prompt = int(self.lessons.prompts[lesson])
            targets = np.full(len(tokens), IGNORED, dtype=np.int64)
            targets[prompt - 1 : -1] = tokens[prompt:]
            parts.append((tokens.astype(np.int64), np.arange(len(tokens)), targets))
        tokens, positions, targets = (np.concatenate(part) for part in zip(*parts, strict=True))
        return tokens, positions, targets, np.full(len(tokens), number, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows as tensors, each (rows, tokens) int64; a target of IGNORED is not learnt."""

    tokens: "torch.Tensor"
    positions: "torch.Tensor"
    targets: "torch.Tensor"
    owners: "torch.Tensor"
    """To which of the chosen windows a token belongs."""

    @staticmethod
    def of(arrays: Sequence[Indices]) -> "Batch":
        """Return arrays as tensors."""
        import torch

        return Batch(*(torch.from_numpy(array) for array in arrays))


def windows(lessons: TokenisedLessons, room: int, packing: bool, seed: int, pad_id: int) -> Windows:
    """Return lessons in windows of `room` tokens; without packing each is a window by itself."""
    if not packing:
        return Windows(lessons, np.arange(len(lessons)), np.arange(len(lessons) + 1), pad_id)
    contents = packed(lessons.lengths(), room, seed)
    bounds = np.concatenate([[0], np.cumsum([len(window) for window in contents])]).astype(np.int64)
    return Windows(lessons, np.concatenate(contents), bounds, pad_id)
