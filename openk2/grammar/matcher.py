"""One answer while it is written: what may come next, and what has to.

In: accepted tokens. Out: masks and forced tokens, so that the answer ends within its budget.
Must not know: schemas, tools, who samples.

The matcher never allows a token after which the budget could not hold the shortest end. Where that
leaves no choice but the shortest end itself, it is written to its last token.

Shapes: W = ceil(V / 32) mask words of a vocabulary of V.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from openk2.grammar.automaton import State
from openk2.grammar.dfa import FAR
from openk2.grammar.masks import Masks
from openk2.grammar.nodes import Region, Special, Words

_FREE_STEPS = 64
"""So many tokens may be written after `until` was last asked for."""
_LONGEST_JUMP = 1 << 16


class BudgetError(ValueError):
    """An answer may have fewer tokens than the shortest one that obeys its rule."""

    def __init__(self, budget: int, least: int) -> None:
        """Remember how many tokens are needed."""
        super().__init__(
            f"an answer of {budget} tokens cannot hold what is asked for: allow at least {least}"
        )
        self.least = least


class GrammarViolationError(ValueError):
    """A token was accepted that the grammar does not allow."""


class _Phase(Enum):
    BEFORE = auto()  # nothing is written, and the answer may begin with reasoning
    THINKING = auto()
    TEXT = auto()
    STRICT = auto()
    COMPLETE = auto()


@dataclass(frozen=True, slots=True)
class Plan:
    """What an answer is made of: the ids and states that a matcher starts from."""

    text: bool
    """Whether the answer may be free text, until its end or a tool section."""
    strict: State
    """Tool section or JSON; empty: neither."""
    think: int
    think_end: int
    """Ids, -1 where there is no thinking."""
    end: int
    begins: str
    """`answer`, `maybe` (thinking may come first), `thinking` (must), or `inside` of it."""
    thinking_budget: int | None


class Matcher:
    """One answer; not for several threads at once."""

    def __init__(self, masks: Masks, plan: Plan, budget: int) -> None:
        """Start an answer of at most `budget` tokens.

        Raises:
            BudgetError: The budget does not hold the shortest answer.
        """
        self._masks, self._plan = masks, plan
        self._vocabulary = masks.vocabulary
        self._left = budget
        self._state: State = ()
        self._forced: list[int] = []
        self._thought = 0
        self._least_section = masks.least(plan.strict) if plan.strict else 0
        least = 1 if plan.text else self._least_section
        extra = {"thinking": 2, "inside": 1}.get(plan.begins, 0)
        if not plan.text and budget < least + extra:
            raise BudgetError(budget, least + extra)
        self._rest = least
        if plan.begins == "answer":
            self._answer()
        elif plan.begins == "inside":
            self._phase = _Phase.THINKING
        else:
            self._phase = _Phase.BEFORE

    @property
    def complete(self) -> bool:
        """Whether the answer has ended and nothing can follow."""
        return self._phase is _Phase.COMPLETE

    @property
    def until(self) -> frozenset[int] | None:
        """The ids before which what is allowed stays as it is now; None: any may change it."""
        plan = self._plan
        if self._phase is _Phase.TEXT:
            if plan.strict and self._left <= self._least_section + 1 + _FREE_STEPS:
                return None
            ids = {plan.end, *(c.node.id for c in plan.strict if isinstance(c.node, Special))}
            return frozenset(ids)
        if self._phase is _Phase.THINKING and self._thinking_left() > _FREE_STEPS:
            return frozenset((plan.think_end,))
        if self._phase is _Phase.STRICT and not self._forced and self._in_string():
            after = self._left - 1 - _FREE_STEPS
            mask = self._masks.get(self._state)
            if after >= mask.worst or after >= self._masks.worst(self._state):
                return self._vocabulary.leaving
        return None

    def _in_string(self) -> bool:
        """Whether any string is being written, and nothing else can be."""
        if len(self._state) != 1:
            return False
        node = self._state[0].node
        if not isinstance(node, Region) or node.dfa is not self._vocabulary.any_body:
            return False
        return node.state == 0 and node.fewest == 0 and node.most >= FAR

    def fill(self, bits_W: np.ndarray) -> None:
        """Set bit v % 32 of uint32 word v // 32 where token v is allowed, clear all others."""
        plan = self._plan
        if self._forced:
            self._write(bits_W, [self._forced[0]])
        elif self._phase is _Phase.STRICT:
            self._fill_strict(bits_W, self._state)
        elif self._phase is _Phase.THINKING:
            if self._thinking_left() > 0:
                self._ordinary(bits_W)
                self._set(bits_W, plan.think_end)
            else:
                self._write(bits_W, [plan.think_end])
        elif self._phase is _Phase.BEFORE:
            self._fill_before(bits_W)
        elif self._phase is _Phase.TEXT:
            self._fill_text(bits_W)
        else:
            self._write(bits_W, [plan.end])

    def accept(self, token_id: int) -> None:
        """Move on by one token of the answer.

        Raises:
            GrammarViolationError: The token is not allowed here.
        """
        self._left -= 1
        plan = self._plan
        if self._forced:
            self._require(token_id == self._forced.pop(0), token_id)
            if not self._forced:
                self._phase = _Phase.COMPLETE
        elif self._phase is _Phase.STRICT:
            self._accept_strict(token_id)
        elif self._phase is _Phase.THINKING:
            self._accept_thinking(token_id)
        elif self._phase is _Phase.BEFORE and token_id == plan.think:
            self._phase = _Phase.THINKING
        elif self._phase is _Phase.BEFORE:
            self._require(plan.begins == "maybe", token_id)
            self._left += 1
            self._answer()
            self.accept(token_id)
        elif self._phase is _Phase.TEXT:
            self._accept_text(token_id)
        else:
            raise GrammarViolationError("the answer has ended and takes no more tokens")

    def jump(self) -> list[int]:
        """Return tokens that have to come next, and move on past them."""
        jumped: list[int] = []
        while True:
            found = self._certain()
            if not found:
                return jumped
            ending = bool(self._forced)
            for token in found:
                self.accept(token)
                if not ending:
                    self._forced = []  # all of it fits: no shorter end is wanted on the way
            jumped += found

    def _certain(self) -> list[int]:
        plan = self._plan
        if self._forced:
            return list(self._forced)
        if self._phase is _Phase.BEFORE and plan.begins == "thinking":
            return [plan.think]
        if self._phase is _Phase.THINKING and self._thinking_left() <= 0:
            return [plan.think_end]
        if self._phase is not _Phase.STRICT:
            return []
        tokens, state = forced(self._masks, self._state)
        if tokens and self._masks.least(state) > self._left - len(tokens):
            return []
        return tokens

    # What each phase allows ----------------------------------------------------------------------

    def _write(self, bits_W: np.ndarray, ids: Sequence[int]) -> None:
        bits_W[:] = 0
        for id in ids:
            self._set(bits_W, id)

    def _set(self, bits_W: np.ndarray, id: int) -> None:
        bits_W[id // 32] |= np.uint32(1 << id % 32)

    def _ordinary(self, bits_W: np.ndarray) -> None:
        words = self._vocabulary.ordinary_W
        bits_W[: len(words)] = words
        bits_W[len(words) :] = 0

    def _thinking_left(self) -> int:
        """Count the tokens of reasoning that may still come."""
        left = self._left - 1 - self._rest
        budget = self._plan.thinking_budget
        return left if budget is None else min(left, budget - self._thought)

    def _fill_before(self, bits_W: np.ndarray) -> None:
        plan = self._plan
        if plan.begins == "thinking":
            self._write(bits_W, [plan.think])
            return
        if plan.text:
            self._fill_text(bits_W)
        else:
            self._fill_strict(bits_W, plan.strict)
        if self._left >= 2 + self._rest:
            self._set(bits_W, plan.think)

    def _fill_text(self, bits_W: np.ndarray) -> None:
        self._ordinary(bits_W)
        self._set(bits_W, self._plan.end)
        for cell in self._plan.strict:
            if isinstance(cell.node, Special) and self._masks.cost(cell) <= self._left:
                self._set(bits_W, cell.node.id)

    def _fill_strict(self, bits_W: np.ndarray, state: State) -> None:
        mask = self._masks.get(state)
        most = self._left - 1
        if most < mask.worst and most < self._masks.worst(state):
            mask = self._masks.within(state, most)
            mask.write(bits_W)
            self._set(bits_W, self._masks.plan(state)[0])
        else:
            mask.write(bits_W)

    # What each phase becomes ---------------------------------------------------------------------

    def _require(self, allowed: bool, token: int) -> None:
        if not allowed:
            raise GrammarViolationError(f"token {token} is not allowed here")

    def _answer(self) -> None:
        self._phase = _Phase.TEXT if self._plan.text else _Phase.STRICT
        self._state = () if self._plan.text else self._plan.strict

    def _accept_thinking(self, token: int) -> None:
        if token == self._plan.think_end:
            self._answer()
            return
        self._require(self._is_ordinary(token), token)
        self._thought += 1

    def _accept_text(self, token: int) -> None:
        if token == self._plan.end:
            self._phase = _Phase.COMPLETE
        elif not self._is_ordinary(token):
            self._phase, self._state = _Phase.STRICT, self._plan.strict
            self._accept_strict(token)

    def _is_ordinary(self, token: int) -> bool:
        return 0 <= token < self._vocabulary.size and bool(self._vocabulary.token_bytes[token])

    def _accept_strict(self, token: int) -> None:
        stays = 0 <= token < self._vocabulary.size and self._vocabulary.stays[token]
        if stays and self._in_string() and self._bound(self._state) <= self._left:
            return
        after = move(self._masks, self._state, token)
        if not after:
            last = any(
                c.rest is None and isinstance(c.node, Special) and c.node.id == token
                for c in self._state
            )
            self._require(last, token)
            self._phase, self._state = _Phase.COMPLETE, ()
            return
        if self._bound(after) > self._left and self._masks.least(after) > self._left:
            plan = self._masks.plan(self._state)
            self._forced = plan[1:] if plan[0] == token else self._masks.plan(after)
        self._state = after

    def _bound(self, state: State) -> int:
        return min(cell.bound for cell in state)


def move(masks: Masks, state: State, token: int) -> State:
    """Return the state after one token; empty if it is not allowed, or the last one."""
    vocabulary = masks.vocabulary
    data = vocabulary.token_bytes[token] if 0 <= token < vocabulary.size else None
    if data is None:
        return masks.arena.advance_special(state, token)
    return masks.arena.advance(state, data) if data else ()


def forced(masks: Masks, state: State) -> tuple[list[int], State]:
    """Return the tokens that must come next, and the state after them.

    Bytes are tokenised together; the last token before a choice is left to the model, because
    what follows may belong to it.
    """
    arena, encode = masks.arena, masks.vocabulary.encode
    tokens: list[int] = []
    while True:
        run = bytearray()
        ahead = state
        while len(run) < _LONGEST_JUMP and (more := _only_bytes(ahead)):
            run += more
            ahead = arena.advance(ahead, more)
        special = _only_special(ahead)
        if run:
            found = encode(bytes(run))
            if special is None:
                found.pop()
                for token in found:
                    state = move(masks, state, token)
                return tokens + found, state
            tokens += found
        if special is None:
            return tokens, state
        tokens.append(special)
        state = arena.advance_special(ahead, special)
        if not state:
            return tokens, state


def _only_special(state: State) -> int | None:
    ids = {cell.node.id if isinstance(cell.node, Special) else -1 for cell in state}
    return ids.pop() if len(ids) == 1 and -1 not in ids else None


def _only_bytes(state: State) -> bytes:
    """Return bytes that must come next, b"" if there is a choice."""
    if len(state) == 1:
        node = state[0].node
        if isinstance(node, Words) and node.high == node.low + 1:
            return node.texts[node.low][node.place :]
    found: set[int] = set()
    for cell in state:
        node = cell.node
        if isinstance(node, Words):
            first, last = node.texts[node.low], node.texts[node.high - 1]
            found |= {first[node.place], last[node.place]}
        elif isinstance(node, Region):
            found |= set(_region_bytes(node))
        else:
            return b""
        if len(found) > 1:
            return b""
    return bytes(found)


def _region_bytes(node: Region) -> list[int]:
    if len(set(node.dfa.rows[node.state])) > 4:
        return [0, 1]
    nexts = node.dfa.nexts(node.state)
    return [byte for byte in nexts if node.step(byte, node.state, 0)[0] >= 0]
