"""An explicit plan: items with acceptance checks, ticked off with evidence, rewritten for a reason.

In: a plan and what should change. Out: the new plan, or an error that says what to do instead.
A plan is a value: it is rebuilt from what `update_plan` recorded, never from memory.
Must not know: the loop, how a check is run, or when the model is reminded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from openk2.agent.digest import one_line

Status = Literal["open", "doing", "done", "failed", "dropped"]
STATUSES: tuple[Status, ...] = get_args(Status)
MARKS: dict[Status, str] = {
    "open": "[ ]",
    "doing": "[>]",
    "done": "[x]",
    "failed": "[!]",
    "dropped": "[-]",
}
MOST_ITEMS = 40
"""A longer list is no plan: what a step does in detail belongs into the step."""


class PlanError(ValueError):
    """The plan cannot be changed so; the message says what to do instead."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something to achieve, and how anybody sees that it is achieved."""

    id: str
    text: str
    acceptance: str
    """What holds when it is done, in words."""
    file: str = ""
    """A path or pattern in the workspace that must match a file that is not empty."""
    command: str = ""
    """A shell command that must end with status 0."""
    status: Status = "open"
    evidence: str = ""
    """Why it is done, failed or dropped."""

    @property
    def settled(self) -> bool:
        """Whether nothing remains to be done for it."""
        return self.status in ("done", "dropped")


@dataclass(frozen=True, slots=True)
class Revision:
    """A plan that was given up, and why."""

    version: int
    why: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be achieved for a goal, in order."""

    goal: str
    items: tuple[Item, ...]
    version: int = 1
    history: tuple[Revision, ...] = ()
    """Earlier versions, oldest first."""

    @property
    def unsettled(self) -> tuple[Item, ...]:
        """Items that are neither done nor dropped."""
        return tuple(item for item in self.items if not item.settled)

    def item(self, id: str) -> Item:
        """Return the item with this id.

        Raises:
            PlanError: There is none.
        """
        for item in self.items:
            if item.id == id:
                return item
        raise PlanError(
            f"the plan has no item {id!r}; its items are {', '.join(i.id for i in self.items)}"
        )


def write(goal: str, items: Sequence[Mapping[str, Any]]) -> Plan:
    """Write the first plan.

    Args:
        goal: What it is for.
        items: Text, acceptance, and if wanted id, file, command of each.

    Raises:
        PlanError: There are no items, too many, or one of them is unclear.
    """
    return Plan(goal, _items(items, {}))


def rewrite(plan: Plan, items: Sequence[Mapping[str, Any]], why: str) -> Plan:
    """Put a new version in the plan's place; an item with a known id and text keeps its status.

    Args:
        plan: What is given up; it stays in the history.
        items: All items of the new version.
        why: What was learned.

    Raises:
        PlanError: There is no reason, or an item is unclear.
    """
    if not why.strip():
        raise PlanError(
            "there is a plan already: say in `why` what you learned that makes a new one "
            "necessary, or use `marks` to tick items off"
        )
    known = {item.id: item for item in plan.items}
    revision = Revision(plan.version, why.strip(), plan.items)
    return Plan(plan.goal, _items(items, known), plan.version + 1, (*plan.history, revision))


def mark(plan: Plan, id: str, status: Status, evidence: str = "") -> Plan:
    """Change an item's status.

    Args:
        plan: The plan.
        id: Which item.
        status: What it is from now on; starting one takes back another that was under way.
        evidence: What shows it; needed for all but `open` and `doing`.

    Raises:
        PlanError: There is no such item, or no evidence.
    """
    item = plan.item(id)
    if status in ("done", "failed", "dropped") and not evidence.strip():
        wanted = {
            "done": f"what shows that it holds: {item.acceptance}",
            "failed": "what went wrong",
            "dropped": "why it is not needed any more",
        }[status]
        raise PlanError(f"item {id} cannot be {status} without `evidence`: say {wanted}")

    def changed(other: Item) -> Item:
        if other.id == id:
            return dataclasses.replace(other, status=status, evidence=evidence.strip())
        if status == "doing" and other.status == "doing":
            return dataclasses.replace(other, status="open")
        return other

    return dataclasses.replace(plan, items=tuple(changed(other) for other in plan.items))


def progress(plan: Plan) -> str:
    """Say on one line how far the plan is.

    >>> progress(write("g", [{"text": "Load", "acceptance": "rows are there"}]))
    'plan: 0 of 1 done'
    """
    done = sum(item.status == "done" for item in plan.items)
    parts = [f"plan: {done} of {len(plan.items)} done"]
    parts += [f"doing {item.id} ({item.text})" for item in plan.items if item.status == "doing"]
    failed = [item.id for item in plan.items if item.status == "failed"]
    parts += [f"failed {', '.join(failed)}"] if failed else []
    parts += [f"version {plan.version}"] if plan.version > 1 else []
    return ", ".join(parts)


def render(plan: Plan) -> str:
    """Write the plan as the model reads it."""
    lines = [f"Plan, version {plan.version}, for: {one_line(plan.goal, 160)}"]
    for item in plan.items:
        lines.append(f"{MARKS[item.status]} {item.id} {item.text}")
        checks = [item.acceptance]
        checks += [f"file {item.file}"] if item.file else []
        checks += [f"command `{item.command}`"] if item.command else []
        lines.append(f"      accepted when: {'; '.join(checks)}")
        if item.evidence:
            lines.append(f"      {item.status}: {item.evidence}")
    if plan.history:
        lines.append(f"Rewritten because: {plan.history[-1].why}")
    return "\n".join(lines)


def to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON."""
    return dataclasses.asdict(plan)


def from_json(value: Mapping[str, Any]) -> Plan:
    """Read a plan back from JSON.

    Raises:
        PlanError: It is not one.
    """
    try:
        history = tuple(
            Revision(old["version"], old["why"], tuple(Item(**item) for item in old["items"]))
            for old in value["history"]
        )
        items = tuple(Item(**item) for item in value["items"])
        return Plan(value["goal"], items, value["version"], history)
    except (KeyError, TypeError) as error:
        raise PlanError(f"this is no plan: {error}") from error


def _items(given: Sequence[Mapping[str, Any]], known: Mapping[str, Item]) -> tuple[Item, ...]:
    if not given:
        raise PlanError("a plan needs at least one item")
    if len(given) > MOST_ITEMS:
        raise PlanError(f"{len(given)} items are too many: plan at most {MOST_ITEMS} larger ones")
    taken = {str(item["id"]) for item in given if item.get("id")}
    items: list[Item] = []
    for value in given:
        fields = {name: str(value.get(name) or "").strip() for name in _WRITTEN}
        if not fields["text"] or not fields["acceptance"]:
            place = f"item {len(items) + 1}"
            raise PlanError(f"{place} needs `text` and `acceptance`: what, and how it is checked")
        fields["id"] = fields["id"] or _free_id(taken)
        item = Item(**cast(dict[str, Any], fields))
        old = known.get(item.id)
        # A reworded item is another promise: what was shown for the old words does not hold for it.
        if old is not None and (old.text, old.acceptance) == (item.text, item.acceptance):
            item = dataclasses.replace(item, status=old.status, evidence=old.evidence)
        items.append(item)
    ids = [item.id for item in items]
    twice = sorted({id for id in ids if ids.count(id) > 1})
    if twice:
        raise PlanError(f"two items have the id {twice[0]!r}: give each its own, or none")
    return tuple(items)


_WRITTEN = ("id", "text", "acceptance", "file", "command")


def _free_id(taken: set[str]) -> str:
    number = 1
    while f"p{number}" in taken:
        number += 1
    taken.add(f"p{number}")
    return f"p{number}"
