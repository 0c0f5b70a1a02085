"""Ways to word an instruction, where no stronger teacher rewords them.

They are this project's; the paper has GPT-4 do it.
"""

import random

from synth.task import TaskSettings

FRAMES = (
    "{instruction} Each text is {what}.",
    "{instruction} What the classes mean: {meanings}.",
    "Sort texts, each of them {what}, into these kinds: {phrases}.",
    "I have many texts, each of them {what}, and need to know which of these fits: {phrases}.",
    "Tell of {what} which of these it is: {phrases}.",
)
"""Templates beside the task's own words; names: instruction, what (a text), meanings, phrases (of labels)."""
OWN = 0.5
"""Share of pairs with the task's own words: they are what most users write."""


def worded(task: TaskSettings, rng: random.Random) -> str:
    """Return an instruction of a task in one of several wordings, drawn from rng."""
    own = rng.random() < OWN
    frame = rng.choice(FRAMES)
    if own:
        return task.instruction
    text_type = task.text_type.lower()
    return frame.format(
        instruction=task.instruction,
        what=f"{'an' if text_type[:1] in 'aeiou' else 'a'} {text_type}",
        meanings="; ".join(f"{label}: {phrase}" for label, phrase in task.labels.items()),
        phrases="; ".join(task.labels.values()),
    )
