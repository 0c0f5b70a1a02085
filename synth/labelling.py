"""The teacher as a classifier: which label has a text, asked with no example or with some of each label.

The reply is one of the labels' names, decoded as a choice where the teacher can be held to one.
"""

import random
from collections.abc import Mapping, Sequence

from synth.method import Generate
from synth.prompting import chat, render, task_values
from synth.records import Prompt, Sampling
from synth.structured import Unparsed, ask, choice_structure
from synth.task import Gold, Task

LABEL = """\
{{ instruction }}

The labels:
{% for name, phrase in labels.items() %}- {{ name }}: {{ phrase }}
{% endfor %}
{% for name, text in fields.items() %}{{ name }}:
{{ text }}

{% endfor %}Which label does it have? Answer with the name of one label and nothing else."""
_LABEL_TOKENS = 40


class Labeller:
    """Asks for the label of texts, always with the same examples before them."""

    def __init__(self, task: Task, shots_per_label: int, draw_seed: int) -> None:
        self._task = task
        self._shots = _drawn(task, shots_per_label, draw_seed)
        self._sampling = Sampling(temperature=0.0, top_p=1.0, max_tokens=_LABEL_TOKENS)
        self._labels = choice_structure(task.labels)

    @property
    def shots(self) -> Sequence[Gold]:
        """The seeds that are shown as examples, in their order."""
        return self._shots

    async def label(self, fields: Mapping[str, str], generate: Generate) -> str | None:
        """Return the label that the teacher gives a text; None when its reply names none, or several."""
        answer = await ask(generate, self._prompt(fields), self._sampling, self._labels, attempts=1)
        return None if isinstance(answer.value, Unparsed) else str(answer.value)

    def _prompt(self, fields: Mapping[str, str]) -> Prompt:
        return chat([(self._asked(shot.fields), shot.label) for shot in self._shots], self._asked(fields))

    def _asked(self, fields: Mapping[str, str]) -> str:
        settings = self._task.settings
        return render(LABEL, labels=dict(settings.labels), fields=fields, **task_values(settings, ""))


def _drawn(task: Task, each: int, draw_seed: int) -> list[Gold]:
    """Draw so many seeds of each label and mix them, so that no label is always the last."""
    rng = random.Random(draw_seed)
    shots = list[Gold]()
    for label in task.labels:
        seeds = task.seeds_of(label)
        shots += rng.sample(seeds, min(each, len(seeds)))
    rng.shuffle(shots)
    return shots
