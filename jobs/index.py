"""Embed a corpus and build its index.

nightshift index recipe.yaml, or: ray job submit --working-dir . -- python -m jobs.index recipe.yaml
"""

from cluster.errors import SettingsError
from jobs.job import job
from jobs.stage import Stage
from retrieval.index import build_index
from retrieval.manifest import Index


def build(stage: Stage) -> Index:
    """Build the recipe's index, or find it complete."""
    recipe = stage.recipe
    if recipe.corpus is None or recipe.index is None:
        raise SettingsError("corpus: the recipe names none; there is nothing to index")

    def show(step: str, done: int, total: int) -> None:
        stage.progress.live("index", f"Index: {step} {done}/{total}", step=step, done=done, total=total)

    return build_index(stage.root, recipe.corpus, recipe.index, show)


def run(stage: Stage) -> int:
    """Build the index and say where it is."""
    index = build(stage)
    stage.progress.step("index_ready", f"Index: {index.rows} documents in {index.key}", key=index.key)
    return 0


main = job("index", run)

if __name__ == "__main__":
    main()
