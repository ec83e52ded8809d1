"""The conversation as the model will see it, kept within a limit without losing what matters.

In: messages as they come, what a prompt really costs, a limit. Out: the messages to send.
The mildest means first: old outputs are hidden behind handles; older steps give way to a hand-off
note; the newest outputs are hidden, too; the conversation goes back to a checkpoint.
Pinned messages stay word for word, the newest turns stay, a call stays with its results.
Must not know: the loop, the journal, the clock, a tokenizer, or who writes the note.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from openk2.agent import handoff
from openk2.agent.digest import Action, actions
from openk2.agent.meter import Count, Meter
from openk2.types import HistoryError, Message, validate_history

Needs = Literal["nothing", "summary", "reset"]
Summarise = Callable[[Sequence[Message]], Awaitable[str]]
"""Asks the model for a hand-off note. An effect of the loop; "" when no answer came."""


class ContextFull(RuntimeError):
    """What must stay does not fit into the model's window."""


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """How a conversation is kept within its limit."""

    thinking: Literal["all", "current_task", "none"] = "current_task"
    """Whose thinking goes back to the model: within a task it thinks on from call to call."""
    keep_steps: int = 6
    """Outputs of this many last steps are never hidden; a hand-off note leaves as many whole."""
    hide_to: float = 0.6
    """What a batch aims at, as a part of the limit. Rare, large batches: each one changes the
    prompt's beginning, and the server must read on from there without its prefix cache."""
    hide_least: float = 0.1
    """A batch that frees less than this part of the limit is not worth a new prefix."""
    hide_over: int = 600
    """Outputs of fewer characters stay: the line in their place is text, too."""
    note_characters: int = 24_000
    """A longer hand-off note is not one; it is made from the calls instead."""

    def __post_init__(self) -> None:
        """Refuse what would never free anything.

        Raises:
            ValueError: A part of the limit is outside 0 to 1, or no step would be kept.
        """
        if not 0 < self.hide_to < 1 or not 0 <= self.hide_least < 1 or self.keep_steps < 1:
            raise ValueError("hide_to and hide_least are parts of 1, keep_steps is 1 or more")


@dataclass(frozen=True, slots=True)
class Change:
    """Something was taken out of view."""

    kind: Literal["hidden", "summary", "reset"]
    why: str
    tokens_before: int
    tokens_after: int


@dataclass(frozen=True, slots=True)
class ContextView:
    """What to send."""

    messages: tuple[Message, ...]
    hidden: tuple[str, ...]
    """Handles of the outputs that are not shown."""
    tokens: int
    needs: Needs
    """What must happen before these messages may be sent."""
    changes: tuple[Change, ...] = ()
    """What was done for this view: for the journal and for people."""


@dataclass(frozen=True, slots=True)
class _Turn:
    message: Message
    serial: int
    """Counts all turns ever: a checkpoint is a place between two."""
    task: int
    pin: str = ""
    handle: str = ""
    note: bool = False
    """Stands in the place of earlier steps."""


class Context:
    """A conversation in order: what is pinned, what is hidden, what has given way to a note."""

    def __init__(
        self, system: Sequence[Message] = (), settings: ContextSettings = ContextSettings()
    ) -> None:
        """Begin with messages that always come first, word for word."""
        validate_history(system)
        self.settings = settings
        self.meter = Meter()
        self._system = tuple(system)
        self._turns: list[_Turn] = []
        self._serial = 0
        self._task = 0
        self._open: set[str] = set()
        self._hidden: dict[str, None] = {}
        self._checkpoints: dict[str, int] = {}
        self._requests: list[Mapping[str, Any]] = []

    # What comes in

    def append(
        self, message: Message, *, pin: str = "", handle: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Add a message.

        Args:
            message: The next turn.
            pin: A name: of the user and tool messages of a name, the newest stays word for word.
            handle: Under which the whole result is kept; a result without one is never hidden.
            details: The result's: `{"context": …}` is what `compact` and `go_back` ask for.

        Raises:
            HistoryError: The message cannot follow what is there.
        """
        self._check(message)
        self._turns.append(_Turn(message, self._serial, self._task, pin, handle))
        self._serial += 1
        request = (details or {}).get("context")
        if isinstance(request, Mapping):
            self._requests.append(cast(Mapping[str, Any], request))

    def begin_task(self, goal: str) -> None:
        """Add a goal; older thinking is history from now on.

        The first goal and the newest stay pinned: "go on" means nothing without the first.
        """
        self._task += 1
        self.append(Message("user", goal), pin="goal" if self._task == 1 else "next goal")

    def observe(self, view: ContextView, prompt_tokens: int) -> None:
        """Take over what a view really cost, from the usage of the answer to it."""
        self.meter.observe(view.messages, prompt_tokens)

    async def weigh(self, count: Count) -> None:
        """Count what is there once: an estimate does not know what else a prompt holds (tools)."""
        messages = self._messages()
        self.meter.observe(messages, await count(messages))

    def checkpoint(self, name: str) -> None:
        """Remember this place under a name; the same name again moves it.

        Raises:
            HistoryError: Calls are open: going back here would leave them without results.
        """
        self._refuse_open_calls()
        self._checkpoints[name] = self._serial

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The names of places to go back to, oldest first."""
        return tuple(sorted(self._checkpoints, key=lambda name: self._checkpoints[name]))

    def actions(self) -> list[Action]:
        """Return calls with results that are still in the conversation, oldest first."""
        return self._actions(self._turns)

    def heard(self) -> Iterator[str]:
        """Yield what was said to the model: rules, goals, results, also those hidden by now."""
        for message in (*self._system, *(turn.message for turn in self._turns)):
            if message.role != "assistant":
                yield message.content

    # What goes out

    async def view(self, limit: int, count: Count) -> ContextView:
        """Return what to send, hiding old outputs if it is too much.

        Within the limit nothing changes but what `compact` or `go_back` asked for.

        Args:
            limit: Most tokens of the prompt; the answer needs room beside it.
            count: Counts a prompt's tokens; called twice at most, usually never.
        """
        self._refuse_open_calls()
        changes = self._obey(limit)
        tokens = await self.meter.settle(self._messages(), limit, count)
        if tokens > limit and (batch := self._batch(tokens, limit)):
            self._hidden |= dict.fromkeys(batch)
            after = await self.meter.settle(self._messages(), limit, count)
            changes.append(Change("hidden", f"{len(batch)} outputs", tokens, after))
            tokens = after
        needs: Needs = "nothing"
        if tokens > limit:
            needs = "summary" if self._cuts() else "reset"
        here = {turn.handle for turn in self._turns}
        hidden = tuple(handle for handle in self._hidden if handle in here)
        return ContextView(self._messages(), hidden, tokens, needs, tuple(changes))

    async def fit(self, limit: int, count: Count, summarise: Summarise) -> ContextView:
        """Return what to send, whatever it takes.

        Args:
            limit: Most tokens of the prompt.
            count: Counts a prompt's tokens.
            summarise: Asks the model for a hand-off note.

        Raises:
            ContextFull: The pinned messages alone exceed the limit.
        """
        view = await self.view(limit, count)
        if view.needs == "nothing":
            return view
        changes = list(view.changes)
        request = self.note_request(limit) if view.needs == "summary" else ()
        note = await summarise(request) if request else ""
        means: list[tuple[Literal["hidden", "summary", "reset"], Callable[[], str]]] = [
            ("summary", lambda: self.compact(note, limit)),
            ("summary", lambda: self.compact("", limit, keep_steps=1)),
            ("hidden", lambda: self._hide_newest(limit)),
            (
                "reset",
                lambda: self.go_back(self.checkpoints[-1] if self._checkpoints else "", limit),
            ),
            ("reset", lambda: self.go_back("", limit)),
        ]
        for kind, shrink in means:
            before = view.tokens
            why = shrink()
            if not why:
                continue
            view = await self.view(limit, count)
            changes += [Change(kind, why, before, view.tokens), *view.changes]
            if view.needs == "nothing":
                return dataclasses.replace(view, changes=tuple(changes))
        raise ContextFull(
            f"what must stay in the conversation has about {view.tokens:,} tokens and the limit is "
            f"{limit:,}; shorten the goal, offer fewer tools or take a model with a larger window"
        )

    def note_request(self, limit: int) -> tuple[Message, ...]:
        """Return the question for a hand-off note; empty if even that does not fit.

        As many old outputs are hidden for it as must be; if that is not enough, the oldest steps
        are told in a line each.
        """
        question = handoff.question([turn.message for turn in self._turns if turn.pin])
        room = limit - self.meter.of([question])
        tokens = self.meter.tokens(self._messages())[0]
        batch, freed = self._choose(self._candidates(keep_steps=0), tokens - room)
        hidden = self._hidden | dict.fromkeys(batch)
        if tokens - freed <= room:
            return (*self._messages(hidden), question)

        def told(cut: int) -> tuple[Message, ...]:
            return self._messages(hidden, self._with_note(cut, "", limit))

        cuts = self._cuts()
        first = bisect.bisect_left(
            cuts, True, key=lambda cut: self.meter.tokens(told(cut))[0] <= room
        )
        return (*told(cuts[first]), question) if first < len(cuts) else ()

    def compact(self, note: str, limit: int, *, keep_steps: int | None = None) -> str:
        """Put a hand-off note in the place of all but the newest steps; say what was done.

        Args:
            note: The model's; an empty or endless one is replaced by one made from the calls.
            limit: What the whole may have; as many steps stay whole as fit well below it.
            keep_steps: Most steps that stay whole; None is the setting.
        """
        candidates = self._cuts()[-(keep_steps or self.settings.keep_steps) :]
        aim = round(limit * self.settings.hide_to)
        for cut in candidates:
            turns = self._with_note(cut, note, limit)
            if self.meter.of(self._messages(turns=turns)) <= aim or cut == candidates[-1]:
                return self._replace(cut, turns)
        return ""

    def go_back(self, name: str, limit: int, message: str = "") -> str:
        """Drop all turns after a checkpoint, and leave a message from the dropped future.

        Args:
            name: A checkpoint; "" is the beginning.
            limit: What the whole may have: a message made from the calls is short beside it.
            message: What the model should know now; "" makes it from the dropped calls.
        """
        place = self._checkpoints[name] if name else 0
        dropped = [turn for turn in self._turns if turn.serial >= place]
        if not dropped:
            return ""
        text = message.strip() or self._from_calls(dropped, limit)
        future = Message("user", handoff.from_the_future(name, text))
        told = _Turn(future, self._serial, self._task, note=not name)
        kept = [turn for turn in self._turns if turn.serial < place]
        self._turns = [*kept, *self._pins(dropped), told]
        self._serial += 1
        self._checkpoints = {key: at for key, at in self._checkpoints.items() if at <= place}
        return f"{len(dropped)} messages after {name or 'the beginning'} were dropped"

    # How

    def _check(self, message: Message) -> None:
        """Refuse a message that cannot come next, without reading the whole history again."""
        if message.role == "tool":
            if message.tool_call_id not in self._open:
                raise HistoryError(
                    len(self._turns), "tool_call_id", f"{message.tool_call_id!r} is no open call"
                )
            self._open.discard(message.tool_call_id)
            return
        if self._open:
            raise HistoryError(
                len(self._turns), "role", f"the calls {sorted(self._open)} have no result yet"
            )
        validate_history([message])
        self._open = {call.id for call in message.tool_calls}

    def _refuse_open_calls(self) -> None:
        if self._open:
            problem = f"{sorted(self._open)} have no result yet"
            raise HistoryError(len(self._turns), "tool_calls", problem)

    def _obey(self, limit: int) -> list[Change]:
        """Do what the model asked for through tools, now that every call has its result."""
        changes: list[Change] = []
        requests, self._requests = self._requests, []
        for request in requests:
            before = self.meter.tokens(self._messages())[0]
            match request:
                case {"checkpoint": str(name)}:
                    self.checkpoint(name)
                    continue
                case {"compact": str(note)}:
                    kind, why = "summary", self._compact_all(note, limit)
                case {"go_back": str(name), "message": str(text)} if name in self._checkpoints:
                    kind, why = "reset", self.go_back(name, limit, text)
                case _:
                    continue
            if why:
                after = self.meter.tokens(self._messages())[0]
                changes.append(Change(kind, why, before, after))
        return changes

    def _compact_all(self, note: str, limit: int) -> str:
        """Compact as the model asked; its step stays only if it has more than the note in it."""
        steps = [i for i, turn in enumerate(self._turns) if turn.message.role == "assistant"]
        cut = steps[-1] if steps else 0
        if cut and len(self._turns[cut].message.tool_calls) == 1:
            cut += 2
        return self._replace(cut, self._with_note(cut, note, limit)) if cut else ""

    def _replace(self, cut: int, turns: list[_Turn]) -> str:
        steps = sum(turn.message.role == "assistant" for turn in self._turns[:cut])
        place = self._turns[cut - 1].serial + 1
        self._checkpoints = {key: max(at, place) for key, at in self._checkpoints.items()}
        self._turns = turns
        return f"{steps} steps gave way to a note"

    def _messages(
        self, hidden: Mapping[str, None] | None = None, turns: Sequence[_Turn] | None = None
    ) -> tuple[Message, ...]:
        hidden = self._hidden if hidden is None else hidden
        shown = [self._shown(turn, hidden) for turn in (self._turns if turns is None else turns)]
        return (*self._system, *shown)

    def _shown(self, turn: _Turn, hidden: Mapping[str, None]) -> Message:
        if turn.handle in hidden:
            return dataclasses.replace(turn.message, content=_placeholder(turn))
        thinking = self.settings.thinking
        old = thinking == "none" or (thinking == "current_task" and turn.task != self._task)
        if old and turn.message.reasoning:
            return dataclasses.replace(turn.message, reasoning="")
        return turn.message

    def _batch(self, tokens: int, limit: int) -> list[str]:
        """Choose outputs to hide together; none if hiding does not help enough."""
        candidates = self._candidates(self.settings.keep_steps)
        batch, freed = self._choose(candidates, tokens - round(limit * self.settings.hide_to))
        enough = tokens - freed <= limit and freed >= limit * self.settings.hide_least
        return batch if enough else []

    def _hide_newest(self, limit: int) -> str:
        """Hide outputs of the newest step, too: still better than to go back before it."""
        tokens = self.meter.tokens(self._messages())[0]
        aim = tokens - round(limit * self.settings.hide_to)
        batch, freed = self._choose(self._candidates(keep_steps=0), aim)
        if tokens - freed > limit:
            return ""
        self._hidden |= dict.fromkeys(batch)
        return f"{len(batch)} outputs of the newest step"

    def _choose(self, candidates: Sequence[_Turn], aim: int) -> tuple[list[str], int]:
        """Take candidates until so many tokens are free; return handles and the freed tokens."""
        freed = 0
        batch: list[str] = []
        for turn in candidates:
            if freed >= aim:
                break
            placeholder = dataclasses.replace(turn.message, content=_placeholder(turn))
            freed += self.meter.of([turn.message]) - self.meter.of([placeholder])
            batch.append(turn.handle)
        return batch, freed

    def _candidates(self, keep_steps: int) -> list[_Turn]:
        """Outputs that may be hidden, those first that are old and large."""
        starts = [i for i, turn in enumerate(self._turns) if turn.message.role == "assistant"]
        if keep_steps:
            end = starts[-keep_steps] if len(starts) >= keep_steps else 0
        else:
            end = len(self._turns)
        pinned = {turn.serial for turn in self._pinned(self._turns)}
        found = [
            turn
            for turn in self._turns[:end]
            if turn.handle
            and turn.handle not in self._hidden
            and turn.serial not in pinned
            and len(turn.message.content) > self.settings.hide_over
        ]
        # Age times size: a small old output and a large new one wait for each other.
        return sorted(
            found,
            key=lambda turn: (turn.serial - self._serial) * len(turn.message.content),
        )

    def _cuts(self) -> list[int]:
        """Places where a note may end: before a step, with something before it to give way."""
        starts = [i for i, turn in enumerate(self._turns) if turn.message.role == "assistant"]
        starts = starts or [len(self._turns) - 1]
        stays = {turn.serial for turn in self._pinned(self._turns)}
        free = [not turn.note and turn.serial not in stays for turn in self._turns]
        return [cut for cut in starts if any(free[: max(cut, 0)])]

    def _with_note(self, cut: int, note: str, limit: int) -> list[_Turn]:
        dropped, kept = self._turns[:cut], self._turns[cut:]
        newer = {turn.pin for turn in kept if turn.pin}
        pins = [turn for turn in self._pins(dropped) if turn.pin not in newer]
        # A character is a token at most, nearly: half the limit would leave no room to work in.
        usable = len(note) <= min(self.settings.note_characters, limit // 2) and note.strip()
        text = usable or self._from_calls(dropped, limit)
        message = Message("user", handoff.note(text, [t.handle for t in dropped if t.handle]))
        return [*pins, _Turn(message, dropped[-1].serial, self._task, note=True), *kept]

    def _from_calls(self, dropped: Sequence[_Turn], limit: int) -> str:
        earlier = "\n".join(turn.message.content for turn in dropped if turn.note)
        room = min(self.settings.note_characters, limit // 4)
        return handoff.from_calls(earlier, self._actions(dropped), room)

    def _pinned(self, turns: Sequence[_Turn]) -> list[_Turn]:
        newest = {turn.pin: turn.serial for turn in turns if turn.pin}
        return [turn for turn in turns if turn.pin and newest[turn.pin] == turn.serial]

    def _pins(self, dropped: Sequence[_Turn]) -> list[_Turn]:
        """Say pinned messages again without the calls that they answered."""
        return [
            dataclasses.replace(turn, message=Message("user", turn.message.content), handle="")
            for turn in self._pinned(dropped)
            if turn.message.content
        ]

    def _actions(self, turns: Sequence[_Turn]) -> list[Action]:
        paired = actions(turn.message for turn in turns)
        handles = [turn.handle for turn in turns if turn.message.role == "tool"]
        return [
            dataclasses.replace(action, handle=handle)
            for action, handle in zip(paired, handles, strict=True)
        ]


def _placeholder(turn: _Turn) -> str:
    size = f"{len(turn.message.content):,} characters"
    return f'[output {turn.handle} hidden: {size}; read_result(handle="{turn.handle}") shows it]'
