"""A run as a timeline: what was waited for, and how long.

In: a journal's records. Out: a trace in the Trace Event Format that Perfetto and Chrome read.
Must not know: who looks at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from openk2.agent.describe import call_line
from openk2.agent.journal import Record


def chrome_trace(records: Sequence[Record]) -> dict[str, Any]:
    """Turn every effect into a span and every note into a mark, in microseconds."""
    begun: dict[str, Record] = {}
    events: list[dict[str, Any]] = []
    origin = records[0].at if records else 0.0
    for record in records:
        at = round((record.at - origin) * 1e6)
        if record.phase == "begin":
            begun[record.key] = record
        elif record.phase == "end" and record.key in begun:
            first = begun[record.key]
            start = round((first.at - origin) * 1e6)
            span = {"ph": "X", "ts": start, "dur": at - start}
            events.append(
                {**span, **_place(first.kind), "name": _name(first), "args": _args(record)}
            )
        else:
            name = f"{record.kind} {record.key}"
            events.append({"ph": "i", "ts": at, "s": "p", **_place(record.kind), "name": name})
    names = {1: "model", 2: "tools", 3: "loop"}
    events += [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": {"name": name}}
        for tid, name in names.items()
    ]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _place(kind: str) -> dict[str, int]:
    lanes = {"model": 1, "summary": 1, "drift": 1, "tool": 2, "approval": 2}
    return {"pid": 1, "tid": lanes.get(kind, 3)}


def _name(record: Record) -> str:
    return call_line(record.data) if record.kind == "tool" else record.key


def _args(record: Record) -> dict[str, Any]:
    value = record.data
    if not isinstance(value, dict):
        return {"value": value}
    data = cast("dict[str, Any]", value)
    usage: dict[str, Any] = data.get("reply", {}).get("usage", {})
    return {**usage, **{name: data[name] for name in ("error", "cost") if name in data}}
