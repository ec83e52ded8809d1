"""`openk2 corpus`: the offline web of an agent.

In: a file of documents. Out: a corpus that `openk2 agent --corpus` searches and reads.
Must not know: how it is searched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from openk2.cli.tree import app, fail


@app.command()
def corpus(
    documents: Annotated[
        Path,
        typer.Argument(help="JSON Lines: each document's url, title, text and perhaps lang."),
    ],
    out: Annotated[Path, typer.Argument(help="The corpus to write.")],
) -> None:
    """Build an offline corpus for web_search and fetch from JSON Lines."""
    from openk2.agent.tools.corpus import CorpusError, build_corpus, read_documents

    try:
        count = build_corpus(read_documents(documents), out)
    except CorpusError as error:
        fail(f"{error}.")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}.")
    print(f"{count:,} documents in {out}: openk2 agent '…' --corpus {out}")
