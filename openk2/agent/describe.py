"""A journal's records as lines for people.

In: records, one at a time. Out: lines with a style; what a terminal, a log and a page show.
Must not know: terminals, colours, or who looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from openk2.agent.digest import one_line
from openk2.agent.journal import Record

Style = Literal["thinking", "text", "call", "output", "error", "note", "good", "budget"]

OUTPUT_LINES = 8
"""Lines of a result that are shown; the journal has them all."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line for people."""

    style: Style
    text: str


def describe(record: Record) -> Iterator[Line]:
    """Say what a record means; most begin-records mean nothing yet."""
    match record.kind, record.phase:
        case (("run" | "heavy"), _):
            yield Line("note", f"{record.data['model']} in {record.data['workspace']}")
        case (("model" | "summary" | "drift"), "end"):
            yield from _reply(record.kind, record.data)
        case "tool", "begin":
            yield Line("call", call_line(record.data))
        case "tool", "end":
            yield from _outcome(record.data)
        case "result", _:
            yield from _result(record.data)
        case (("step" | "more"), "end"):
            yield from (Line("text", f"you: {word}") for word in record.data["words"])
        case _:
            if note := _note(record):
                yield note


def _note(record: Record) -> Line | None:
    data = record.data
    match record.kind, record.phase:
        case "permission", "end" if data["verdict"] == "deny":
            return Line("error", f"forbidden: {data['reason']}")
        case "approval", "begin":
            call = call_line({"name": data["tool"], "arguments": data["arguments"]})
            return Line("note", f"asked about {call}: {data['reason']}")
        case "approval", "end":
            return Line("note", f"answered: {data}")
        case "retry", _:
            return Line("note", _retry(data))
        case "context", _:
            return Line("note", _change(data))
        case "rejected", _:
            return Line("error", f"{data['name'][:80]}: {one_line(data['content'], 300)}")
        case "breaker", _:
            return Line("error", f"{data['tool']} rests until step {data['until']}")
        case "reminder", _:
            return Line("note", f"told the model: {one_line(data, 300)}")
        case _:
            return None


def call_line(data: dict[str, Any]) -> str:
    """Write a call as one line: its name and the arguments that say most."""
    shown = ", ".join(
        f"{key}={one_line(str(value), 120)}" for key, value in sorted(data["arguments"].items())
    )
    return f"{data['name']}({one_line(shown, 300)})"


def _reply(kind: str, data: dict[str, Any]) -> Iterator[Line]:
    if "too_long" in data:
        yield Line("error", data["too_long"])
        return
    message = data["reply"]["message"]
    if kind != "model":
        yield Line("note", f"{kind}: {one_line(message.get('content', ''), 300)}")
        return
    for line in message.get("reasoning", "").strip().splitlines():
        yield Line("thinking", line)
    for line in message.get("content", "").strip().splitlines():
        yield Line("text", line)


def _outcome(data: dict[str, Any]) -> Iterator[Line]:
    if "finish" in data["result"].get("details", {}):
        return  # the result says it all
    failed = bool(data.get("error")) or data["result"].get("failed", False)
    style: Style = "error" if failed else "output"
    lines = data["content"].strip().splitlines() or ["(nothing)"]
    for line in lines[:OUTPUT_LINES]:
        yield Line(style, line[:400])
    if len(lines) > OUTPUT_LINES:
        yield Line(style, f"… {len(lines) - OUTPUT_LINES} more lines")
    for path in data["result"].get("artifacts", []):
        yield Line("good", f"made {path}")


def _retry(data: dict[str, Any]) -> str:
    why = {
        "busy": "the endpoint is busy (429)",
        "server": "the endpoint failed",
        "network": "the endpoint cannot be reached",
        "broken_stream": "the answer broke off",
    }.get(data["fault"], data["fault"])
    return f"{why}: asking again in {data['seconds']:.1f} s (attempt {data['attempt']})"


def _change(data: dict[str, Any]) -> str:
    before, after = data["tokens_before"], data["tokens_after"]
    return f"context {data['kind']}: {data['why']} ({before:,} to {after:,} tokens)"


def _result(data: dict[str, Any]) -> Iterator[Line]:
    good = data["status"] in ("complete", "answered")
    reason = f" ({data['reason']})" if data.get("reason") else ""
    if data["status"] != "answered":
        yield Line("good" if good else "error", f"{data['status']}{reason}")
        for line in data["summary"].strip().splitlines():
            yield Line("text", line)
    for path in data.get("artifacts", []):
        yield Line("good", f"artefact: {path}")


@dataclass(slots=True)
class Totals:
    """What a run used so far, as a projection of its records."""

    steps: int = 0
    calls: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    children_tokens: int = 0
    cost: int = 0
    retries: int = 0
    model_seconds: float = 0.0
    tool_seconds: float = 0.0
    _asked_at: float = 0.0

    def add(self, record: Record) -> None:
        """Count one record."""
        match record.kind, record.phase:
            case (("model" | "summary" | "drift"), "begin"):
                self._asked_at = record.at
            case (("model" | "summary" | "drift"), "end"):
                self.model_seconds += record.at - self._asked_at
                self.steps += record.kind == "model"
                self.cost += record.data.get("cost", 0)
                usage = record.data.get("reply", {}).get("usage", {})
                self.prompt_tokens += usage.get("prompt_tokens", 0)
                self.cached_tokens += usage.get("cached_tokens", 0)
                self.completion_tokens += usage.get("completion_tokens", 0)
            case "tool", "end":
                self.calls += 1
                self.failures += bool(record.data.get("error"))
                self.tool_seconds += record.data.get("seconds", 0.0)
                self._add_children(record.data["result"].get("details", {}).get("spent", {}))
            case "attempts", "end":
                self._add_children(record.data.get("spent", {}))
            case "retry", _:
                self.retries += 1
            case _:
                pass

    def _add_children(self, spent: dict[str, Any]) -> None:
        """Count what sub-agents used; their records are in journals of their own."""
        self.children_tokens += spent.get("tokens", 0)
        self.cost += spent.get("cost", 0)

    def line(self, currency: str = "USD") -> str:
        """Say it in one line."""
        tokens = self.prompt_tokens + self.completion_tokens + self.children_tokens
        parts = [f"step {self.steps}", f"{self.calls} calls", f"{tokens:,} tokens"]
        if self.cost:
            parts.append(f"{self.cost / 1e6:.4f} {currency}")
        return " · ".join(parts)

    def details(self) -> str:
        """Say in one line where the time went and what did not work."""
        cached = round(100 * self.cached_tokens / max(1, self.prompt_tokens))
        return (
            f"model {self.model_seconds:.1f} s · tools {self.tool_seconds:.1f} s · "
            f"{self.failures} failed calls · {self.retries} retries · {cached} % of prompts cached"
        )


def printable(text: str) -> str:
    """Take out what would move a terminal's cursor: outputs are not ours."""
    return "".join(char if char.isprintable() or char == "\t" else "�" for char in text)
