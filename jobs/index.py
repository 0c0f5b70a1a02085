"""Embed a corpus and build its index.

nightshift index recipe.yaml, or: ray job submit --working-dir . -- python -m jobs.index recipe.yaml
"""

import click

from cluster.errors import SettingsError
from jobs.job import job
from jobs.stage import Stage, View
from retrieval.index import build_index
from retrieval.manifest import Index, open_index


def build(stage: View, append: bool = False) -> Index:
    """Build the recipe's index, or find it complete; a recipe without a corpus opens the one it names."""
    recipe = stage.recipe
    if recipe.index is None:
        raise SettingsError("index: the recipe has none; there is nothing to index")

    def show(step: str, done: int, total: int) -> None:
        stage.progress.live("index", f"Index: {step} {done}/{total}", step=step, done=done, total=total)

    if recipe.corpus is None:
        index = open_index(stage.root, recipe.index.name)
    else:
        index = build_index(stage.root, recipe.corpus, recipe.index, show, append)
    if recipe.retriever.kind in ("bm25", "hybrid"):
        from retrieval.rankers.bm25 import ensure_bm25

        ensure_bm25(index, show)
    return index


def run(stage: Stage, append: bool = False) -> int:
    """Build the index and say where it is and what it left out."""
    index = build(stage, append)
    structure = index.manifest.structure
    how = f", {structure['kind']}, recall {structure['recall']:.3f}" if structure.get("lists") else ""
    stage.progress.step(
        "index_ready",
        f"Index: {index.rows} documents in {index.key}{how}",
        key=index.key,
        rows=index.rows,
        fingerprint=index.fingerprint,
    )
    if index.manifest.refused:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(index.manifest.refused.items()))
        stage.progress.step(
            "index_refused",
            f"Index: left out {counts} (refused rows are in {index.key}/refused)",
            refused=dict(index.manifest.refused),
        )
    return 0


main = job(
    "index",
    run,
    click.Option(["--append"], is_flag=True, help="Add the corpus files that the index of this name lacks."),
)

if __name__ == "__main__":
    main()
