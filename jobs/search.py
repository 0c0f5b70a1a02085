"""Show the documents nearest to a query.

nightshift search recipe.yaml "words to look for", or: python -m jobs.search recipe.yaml "words" --top 5
"""

import asyncio
import textwrap

import click

from jobs.index import build
from jobs.job import job
from jobs.stage import Stage
from retrieval.search import open_retriever


def run(stage: Stage, query: str, top: int) -> int:
    """Print the hits of one query, best first."""
    retriever = open_retriever(build(stage), stage.recipe.retriever)
    hits = asyncio.run(retriever.search([query], top))[0]
    for hit in hits:
        title = f"{hit.document.title} " if hit.document.title else ""
        click.echo(f"{hit.rank:>3}  {hit.score:.3f}  {title}[{hit.document.id}]")
        click.echo(textwrap.indent(textwrap.shorten(hit.document.text, 300), " " * 12))
    return 0


main = job(
    "search",
    run,
    click.Argument(["query"]),
    click.Option(["--top"], type=click.IntRange(1), default=10, show_default=True, help="Hits shown."),
)

if __name__ == "__main__":
    main()
