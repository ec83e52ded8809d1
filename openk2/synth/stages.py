"""The stages from an agent to a verified conversation, each a function from rows to rows.

    domains → agents → tasks → users → trajectories → verified

Every row is plain data and every stage depends on nothing but its row, so stages run one by one
over files, or all at once over a part of the agents in another process, with the same result.

In: rows. Out: rows. Must not know: files, processes, which rows are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from openk2.envs.domain import Domain
from openk2.envs.oracle import Unsolvable
from openk2.envs.task import Task, read_task, task_json
from openk2.synth.agents import Agent, make_agent
from openk2.synth.config import SynthConfig
from openk2.synth.duplicates import Signature, signature
from openk2.synth.personas import with_user
from openk2.synth.sources import Source, open_source, read_source, source_json
from openk2.synth.tasks import Composer
from openk2.synth.trajectories import (
    Trajectory,
    read_messages,
    read_tools,
    solve,
    trajectory_json,
)
from openk2.synth.verify import spoken, verify

Row = dict[str, Any]
Stage = Callable[[Row, SynthConfig], Iterator[Row]]


def agents(row: Row, config: SynthConfig) -> Iterator[Row]:
    """Make the agent of a domain row's number."""
    source = read_source(row["source"])
    agent = make_agent(open_source(source), row["number"], config)
    if agent is not None:
        yield {**asdict(agent), "source": source_json(source)}


def tasks(row: Row, config: SynthConfig) -> Iterator[Row]:
    """Compose the tasks of an agent."""
    source = read_source(row["source"])
    names = ("id", "domain", "lang", "prompt", "confirm")
    agent = Agent(
        **{name: row[name] for name in names},
        tools=tuple(row["tools"]),
        intents=tuple(row["intents"]),
    )
    composer = Composer(agent, open_source(source), config, _strangers(source))
    for number in range(config.tasks_per_agent):
        task = composer.task(number)
        if task is not None:
            yield task_json(_marked(task, source))


def _marked(task: Task, source: Source) -> Task:
    return replace(task, key=source.key, meta={**task.meta, "source": source_json(source)})


def _strangers(source: Source) -> list[Domain]:
    return [open_source(other) for other in source.strangers()]


def users(row: Row, config: SynthConfig) -> Iterator[Row]:
    """Give a task its user."""
    task = read_task(row)
    yield task_json(with_user(task, domain_of(task), config))


def trajectories(row: Row, config: SynthConfig) -> Iterator[Row]:
    """Solve a task; one that cannot be solved gives a row that says why."""
    task = read_task(row)
    try:
        one = solve(task, domain_of(task), config)
    except Unsolvable as reason:
        yield {"id": task.id, "unsolvable": str(reason)}
        return
    yield {**trajectory_json(one), "task": row}


def verified(row: Row, config: SynthConfig) -> Iterator[Row]:
    """Replay a trajectory on a fresh world and add the verdict, or why it is rejected."""
    if "unsolvable" in row:
        yield {"id": row["id"], "rejected": f"unsolvable: {row['unsolvable']}"}
        return
    task = read_task(row["task"])
    one = Trajectory(task, row["manner"], read_tools(row["tools"]), read_messages(row["messages"]))
    checked = verify(one, domain_of(task))
    if checked.rejected or checked.verdict is None:
        yield {**row, "rejected": checked.rejected}
        return
    values = {name: value for name, (value, _) in checked.verdict.values.items()}
    yield {**{k: v for k, v in row.items() if k != "task"}, "verdict": values}


def read_trajectory(row: Row) -> Trajectory:
    """Read a row of the trajectories."""
    tools, messages = read_tools(row["tools"]), read_messages(row["messages"])
    return Trajectory(read_task(row["task"]), row["manner"], tools, messages)


STAGES: Mapping[str, Stage] = {
    "agents": agents,
    "tasks": tasks,
    "users": users,
    "trajectories": trajectories,
    "verified": verified,
}
"""In order. What comes before (specifications, domains) and after (duplicates, overlap with
evaluation packs) looks at all rows together."""


def domain_of(task: Task) -> Domain:
    """Open the domain that a task was made for."""
    return open_source(read_source(task.meta["source"]))


@dataclass(slots=True)
class Part:
    """What a part of the agents brings, stage by stage."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in STAGES})
    signatures: list[Signature | None] = field(default_factory=list[Signature | None])
    """Of the verified rows, in their order; None for a rejected one."""


def run_part(config: SynthConfig, starts: list[Row]) -> Part:
    """Run all stages over some domain rows.

    Args:
        config: The run.
        starts: Rows of a source and a number.
    """
    part = Part()
    rows = starts
    for name, stage in STAGES.items():
        rows = [made for row in rows for made in stage(row, config)]
        part.rows[name] = rows
    for row in rows:
        rejected = "rejected" in row
        part.signatures.append(
            None if rejected else signature(spoken(read_messages(row["messages"])))
        )
    return part
