"""Agents: a domain, a set of its tools, an operator's system prompt.

The tools are those that some of the domain's goals need, found by solving them, and others that
none of them needs.

In: a domain and a number. Out: an agent as plain data. Must not know: tasks, trajectories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from openk2.envs.domain import Domain, Intent
from openk2.envs.env import Session
from openk2.envs.oracle import Oracle, Unsolvable
from openk2.envs.slots import Lang
from openk2.envs.solution import NoSolution, expected
from openk2.envs.task import Task, Topic
from openk2.synth.config import SynthConfig

_TRIED = 8
"""Intents that are solved to see which tools they take; an agent serves those that fit it."""
_WORLDS = 4
"""Worlds in which they are solved: few, for making one takes longer than solving."""
_ROLES: Mapping[Lang, tuple[str, ...]] = {
    "en": (
        "You are the assistant of {place}.",
        "You help the users of {place}.",
        "You work for {place} and act through tools.",
        "Assistant for {place}.",
    ),
    "zh": ("你是{place}的助手。", "你为{place}的用户服务。", "你通过工具为{place}办理事务。"),
}
_CLOCK: Mapping[Lang, tuple[str, ...]] = {
    "en": (" It is {now}.", " Current time: {now}."),
    "zh": ("现在是{now}。", "当前时间：{now}。"),
}
_CARE: Mapping[Lang, tuple[str, ...]] = {
    "en": (
        "",
        " Ask for what is missing and never make up ids.",
        " Use the tools; if none of them fits, say so.",
        " Be brief.",
    ),
    "zh": (
        "",
        "缺少信息时先询问，不要编造编号。",
        "使用工具；没有合适的工具就直说。",
        "回答简短。",
    ),
}
_CONFIRM: Mapping[Lang, str] = {
    "en": " Before every change, say what you will do and wait for the user's consent.",
    "zh": "每次修改之前，先说明将要做什么，得到用户同意后再执行。",
}


@dataclass(frozen=True, slots=True)
class Agent:
    """An operator's assistant."""

    id: str
    domain: str
    """The domain's name, that of a variant included."""
    lang: Lang
    prompt: str
    """The system turn; `{now}` stands for the world's clock."""
    tools: tuple[str, ...]
    intents: tuple[str, ...]
    """What its tools are known to be enough for."""
    confirm: bool


def make_agent(domain: Domain, number: int, config: SynthConfig) -> Agent | None:
    """Make an agent, or None where none of the goals that were drawn can be solved.

    Args:
        domain: Its world and tools.
        number: Which agent of the run.
        config: How agents are made.
    """
    rng = Random(f"agent/{config.seed}/{domain.name}/{number}")
    lang: Lang = "zh" if rng.random() < config.chinese else "en"
    most = min(rng.randint(*config.tools), len(domain.tools))
    needed: dict[str, None] = {}
    intents: list[str] = []
    for intent in rng.sample(domain.intents, min(_TRIED, len(domain.intents))):
        used = tools_used(domain, intent, rng.randrange(_WORLDS))
        if used is None or len({*needed, *used}) > max(most, 1 if needed else len(used)):
            continue
        needed |= dict.fromkeys(used)
        intents.append(intent.name)
    if not intents:
        return None
    others = [tool.name for tool in domain.tools if tool.name not in needed]
    extra = max(0, min(most, len(domain.tools)) - len(needed))
    tools = [*needed, *rng.sample(others, min(extra, len(others)))]
    rng.shuffle(tools)
    confirm = rng.random() < config.confirm
    prompt = _prompt(domain, lang, rng, confirm=confirm)
    return Agent(
        f"{domain.name}/{number}", domain.name, lang, prompt, tuple(tools), tuple(intents), confirm
    )


def _prompt(domain: Domain, lang: Lang, rng: Random, *, confirm: bool) -> str:
    place = domain.en if lang == "en" else domain.zh
    text = rng.choice(_ROLES[lang]).replace("{place}", place) + rng.choice(_CLOCK[lang])
    joint = " " if lang == "en" else ""
    text += "".join(joint + rule for rule in domain.policies[lang])
    text += _CONFIRM[lang] if confirm else ""
    return text + rng.choice(_CARE[lang])


def tools_used(domain: Domain, intent: Intent, seed: int) -> tuple[str, ...] | None:
    """Solve one goal of an intent with all tools, and name those that it took.

    Returns:
        None if there is no occasion in this world, or no way.
    """
    goal = intent.draw(domain.world(seed), Random(seed))
    if goal is None:
        return None
    topics = (Topic(intent.kind, intent.name, (goal,)),)
    tools = tuple(tool.name for tool in domain.tools)
    try:
        told = expected(domain, seed, topics, "en")
        task = Task(
            "trial", "", domain.name, seed, "en", "plain", "", tools, topics, told
        )  # fmt: skip
        session = Session(domain, task)
        Oracle(session).play()
    except (NoSolution, Unsolvable):
        return None
    return tuple(dict.fromkeys(done.call.name for done in session.calls))
