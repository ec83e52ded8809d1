"""Several streams of one request read as one, and several pieces of one text made one.

In: async generators, events. Out: items as they come, each with the number of its stream.
Must not know: who writes them, or how they are written down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TypeVar, cast

from openk2.types import Event, ReasoningDelta, TextDelta, ToolCallArguments

T = TypeVar("T")


async def merge(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """Yield (stream, item) as items come; the first error, or leaving, closes all streams."""
    queue: asyncio.Queue[tuple[int, T] | Exception | None] = asyncio.Queue()

    async def read(index: int, stream: AsyncGenerator[T, None]) -> None:
        try:
            async with aclosing(stream):
                async for item in stream:
                    queue.put_nowait((index, item))
            queue.put_nowait(None)
        except Exception as error:  # noqa: BLE001 raised again where the streams are read
            queue.put_nowait(error)

    tasks = [asyncio.ensure_future(read(index, stream)) for index, stream in enumerate(streams)]
    left = len(tasks)
    try:
        while left:
            found = await queue.get()
            if isinstance(found, Exception):
                raise found
            if found is None:
                left -= 1
            else:
                yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def merge_pieces(items: Sequence[tuple[int, Event]]) -> list[tuple[int, Event]]:
    """Put neighbouring pieces of the same text into one: each costs its reader time."""
    merged: list[tuple[int, Event]] = []
    pieces: list[str] = []
    last: tuple[int, Event] | None = None
    for item in items:
        if last is not None and _continues(last, item):
            pieces.append(cast("TextDelta", item[1]).text)
            continue
        if last is not None:
            merged.append(_joined(last, pieces))
        last, pieces = item, []
    if last is not None:
        merged.append(_joined(last, pieces))
    return merged


def _continues(first: tuple[int, Event], second: tuple[int, Event]) -> bool:
    (choice, one), (other, two) = first, second
    if choice != other or type(one) is not type(two):
        return False
    if isinstance(one, ToolCallArguments):
        return one.index == cast("ToolCallArguments", two).index
    return isinstance(one, TextDelta | ReasoningDelta)


def _joined(item: tuple[int, Event], pieces: list[str]) -> tuple[int, Event]:
    choice, event = item
    if pieces and isinstance(event, TextDelta | ReasoningDelta | ToolCallArguments):
        return choice, replace(event, text="".join((event.text, *pieces)))
    return item
