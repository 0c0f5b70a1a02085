"""Show the documents nearest to a query, or one document by its id.

nightshift search recipe.yaml "words to look for", or: python -m jobs.search recipe.yaml "words" --top 5
"""

import asyncio
import json
import re
import shutil
import textwrap
from dataclasses import asdict

import click

from cluster.errors import SettingsError
from jobs.index import build
from jobs.job import job
from jobs.stage import View
from retrieval.documents import Document, Hit
from retrieval.fetch import document_by_id
from retrieval.search import open_retriever

_INDENT = " " * 12


def run(view: View, query: str | None, top: int, id: str | None, as_json: bool) -> int:
    """Print the hits of one query, best first, or the whole of one document."""
    if (query is None) == (id is None):
        raise SettingsError("search: give either a query or --id")
    index = build(view)
    if id is not None:
        _show_document(document_by_id(index, id), as_json)
        return 0
    retriever = open_retriever(index, view.recipe.retriever)
    hits = asyncio.run(retriever.search([query or ""], top))[0]
    for hit in hits:
        click.echo(json.dumps(asdict(hit), ensure_ascii=False) if as_json else _readable(hit, query or ""))
    if not hits:
        click.echo(f"no document of {index.key} answers", err=True)
    return 0


def _readable(hit: Hit, query: str) -> str:
    document = hit.document
    title = f"{document.title} " if document.title else ""
    width = max(60, min(110, shutil.get_terminal_size((110, 24)).columns))
    shortened = _excerpt(document.text, query, 3 * (width - len(_INDENT)))
    text = textwrap.fill(shortened, width, initial_indent=_INDENT, subsequent_indent=_INDENT)
    return f"{hit.rank:>3}  {hit.score:6.3f}  {title}[{document.id}]{_about(document)}\n{text}"


def _excerpt(text: str, query: str, length: int) -> str:
    """Return at most length characters of a text: its beginning, or else where a word of the query is."""
    text = " ".join(text.split())
    words = [re.escape(word) for word in re.findall(r"\w{4,}", query)]
    found = re.search(rf"\b(?:{'|'.join(words)})", text, re.IGNORECASE) if words else None
    if len(text) > length and found is not None and found.start() > length // 2:
        text = "… " + text[text.rfind(" ", 0, found.start() - length // 3) + 1 :]
    return textwrap.shorten(text, length, placeholder=" …")


def _about(document: Document) -> str:
    values = [f"{document.tokens} tokens", *(f"{name} {value}" for name, value in document.metadata.items())]
    return f"  ({', '.join(values)})"


def _show_document(document: Document, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(document), ensure_ascii=False))
        return
    if document.title:
        click.echo(document.title)
    click.echo(f"[{document.id}]{_about(document)}\n\n{document.text}")


main = job(
    "search",
    run,
    click.Argument(["query"], required=False),
    click.Option(["--top"], type=click.IntRange(1), default=10, show_default=True, help="Hits shown."),
    click.Option(["--id"], help="Show the whole document of this id instead."),
    click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object a line."),
    owns=False,
)

if __name__ == "__main__":
    main()
