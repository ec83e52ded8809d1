"""Where a task leads: its goals carried out on a fresh world, with nobody talking.

In: a domain, a seed, topics. Out: the final state and what the user must get to know.
Must not know: how an assistant gets there.
"""

from __future__ import annotations

from collections.abc import Sequence

from openk2.envs.domain import Domain, Goal, Intent
from openk2.envs.slots import Json, Lang
from openk2.envs.task import Expected, Topic
from openk2.envs.tool import perform
from openk2.envs.wording import must_tell
from openk2.envs.world import World


class NoSolution(Exception):
    """The goals do not do on this world what their topics say."""


def expected(domain: Domain, seed: int, topics: Sequence[Topic], lang: Lang) -> Expected:
    """Carry out every goal and say where that leads.

    Raises:
        NoSolution: A call is refused that should not be, or the other way round.
    """
    world = domain.world(seed)
    tells = [_topic(domain, world, topic, lang) for topic in topics]
    return Expected(world.state_hash(), tuple(tells))


def _topic(domain: Domain, world: World, topic: Topic, lang: Lang) -> tuple[tuple[str, ...], ...]:
    if topic.kind in ("irrelevant", "missing_tool"):
        return ()
    intent = domain.intents_by_name[topic.intent]
    told: list[tuple[str, ...]] = []
    for goal in topic.goals:
        result = carry_out(domain, world, goal, intent)
        told += must_tell(intent.reply[lang][0], result, domain, lang)
    return tuple(told)


def carry_out(domain: Domain, world: World, goal: Goal, intent: Intent) -> Json:
    """Make a goal's calls on a world and return the last result.

    Raises:
        NoSolution: As `expected`.
    """
    outcome = None
    for number, call in enumerate(goal.calls):
        outcome = perform(domain.by_name[call.tool], world, call.arguments)
        fails = intent.kind == "fails" and number == len(goal.calls) - 1
        if bool(outcome.error) != fails:
            raise NoSolution(f"{intent.name}: {call.tool} answered {outcome.text}")
    return outcome.value if outcome else None
