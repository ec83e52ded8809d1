"""A support desk: tickets, the customers who wrote them, the agents and teams who answer."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from random import Random
from typing import Annotated, Literal, get_args

from openk2.envs.authoring import has, same, told
from openk2.envs.domain import Call, Fact, Goal, domain_of, intent
from openk2.envs.slots import Slot
from openk2.envs.tool import tool
from openk2.envs.world import World, check, find, new_id

TicketId = Annotated[str, Slot("ticket_id", "ticket number", "工单号", "id", entity="tickets")]
IntoId = Annotated[
    str, Slot("into_id", "ticket that stays", "保留的工单号", "id", entity="tickets")
]
CustomerId = Annotated[
    str, Slot("customer_id", "customer id", "客户编号", "id", entity="customers")
]
AgentId = Annotated[str, Slot("agent_id", "agent id", "客服编号", "id", entity="agents")]
Subject = Annotated[str, Slot("subject", "subject of the ticket", "工单主题")]
Urgency = Literal["low", "normal", "high", "urgent"]
Priority = Annotated[Urgency, Slot("priority", "priority", "优先级")]
NewPriority = Annotated[Urgency, Slot("new_priority", "new priority", "新的优先级")]
State = Annotated[Literal["open", "solved", "merged"], Slot("state", "state", "工单状态")]
TeamName = Literal["front", "technical", "billing", "security"]
Team = Annotated[TeamName, Slot("team", "team", "团队")]
NewTeam = Annotated[TeamName, Slot("new_team", "team that takes over", "接手的团队")]
Changed = Annotated[str, Slot("changed", "day of the last change", "最后变动日期", "date")]
Outcome = Annotated[
    Literal["fixed", "explained", "no_reply"], Slot("outcome", "outcome", "处理结果")
]
Name = Annotated[str, Slot("name", "name of the customer", "客户姓名")]
Email = Annotated[str, Slot("email", "e-mail address", "邮箱地址", "email")]
AgentName = Annotated[str, Slot("agent", "name of the agent", "客服姓名")]

MOST_TICKETS = 4
"""Open tickets that one agent can have."""
REOPEN_DAYS = 14


@dataclass(frozen=True, slots=True)
class Customer:
    """Somebody who writes to the desk."""

    id: CustomerId
    name: Name
    email: Email


@dataclass(frozen=True, slots=True)
class Agent:
    """Somebody who answers."""

    id: AgentId
    name: AgentName
    team: Team


@dataclass(frozen=True, slots=True)
class Ticket:
    """Something that a customer wants settled."""

    id: TicketId
    customer_id: CustomerId
    subject: Subject
    priority: Priority
    state: State
    team: Team
    changed: Changed
    agent_id: AgentId = ""
    outcome: Outcome | None = None


@dataclass(slots=True)
class Desk(World):
    """Everything there is."""

    customers: dict[str, Customer] = field(default_factory=dict[str, Customer])
    agents: dict[str, Agent] = field(default_factory=dict[str, Agent])
    tickets: dict[str, Ticket] = field(default_factory=dict[str, Ticket])


FIRST = (
    "Abena", "Boris", "Clara", "Dewi", "Elio", "Fenna", "Gael", "Hanne", "Iker", "Jasmin", "Kofi",
    "Lucia", "Marek", "Nkechi", "Oskar", "Pilar", "Reza", "Signe", "Tadeo", "Valerie",
)  # fmt: skip
LAST = (
    "Amador", "Bakker", "Conti", "Duarte", "Elmas", "Friis", "Gomez", "Holm", "Ivanova", "Jain",
    "Koch", "Lund", "Mwangi", "Nair", "Olsen", "Pires", "Rossi", "Suzuki", "Toth",
)  # fmt: skip
AGENTS = (
    "Robin Ash", "Sky Adeleke", "Jules Marin", "Kit Sorensen", "Noa Peretz", "Alex Tran",
    "Charlie Voss", "Remy Obi", "Toni Basso", "Lou Grant", "Mika Laine",
)  # fmt: skip
PLACES = ("login", "export", "invoice", "dashboard", "calendar sync", "mobile app", "report",
          "password reset", "file upload", "search", "license", "printer link")  # fmt: skip
TROUBLES = ("fails", "is slow", "shows nothing", "is wrong", "crashes", "asks twice")
URGENCIES = {"low": ("low", "低"), "normal": ("normal", "普通"), "high": ("high", "高"),
             "urgent": ("urgent", "紧急")}  # fmt: skip
TEAMS = {"technical": ("the technical team", "技术组"), "billing": ("billing", "账务组"),
         "security": ("security", "安全组"), "front": ("the front desk", "前台组")}  # fmt: skip
OUTCOMES = {"fixed": ("it is fixed", "已修复"), "explained": ("I explained it", "已解释清楚"),
            "no_reply": ("nobody answered", "客户没有回复")}  # fmt: skip


def seed(rng: Random) -> Desk:
    """Make a month of tickets; two customers share a name, one agent has enough to do."""
    today = date(2026, 2, 5) + timedelta(days=rng.randrange(300))
    world = Desk(f"{today} 09:20")
    for number, name in enumerate(rng.sample(AGENTS, 6)):
        key = new_id(world.agents, "A", name)
        world.agents[key] = Agent(key, name, get_args(TeamName)[number % 4])
    names = [f"{a} {b}" for a, b in zip(rng.sample(FIRST, 7), rng.sample(LAST, 7), strict=True)]
    for number, name in enumerate((*names, rng.choice(names))):
        email = f"{name.split()[0].lower()}{number + 40}@client.example"
        key = new_id(world.customers, "C", email)
        world.customers[key] = Customer(key, name, email)
    agents, customers = list(world.agents.values()), list(world.customers)
    subjects = [f"{place} {rng.choice(TROUBLES)}" for place in PLACES]
    subjects += [f"New {place}" for place in rng.sample(PLACES, 6)]
    rng.shuffle(subjects)
    for number, subject in enumerate(subjects):
        agent = agents[0] if number < MOST_TICKETS else rng.choice(agents)
        state = "solved" if number > 11 else "open"
        changed = str(today - timedelta(rng.randint(0, 12) + 30 * (number > 14)))
        ticket = _add(world, customers[number % 8], subject, rng.choice(get_args(Urgency)), changed)
        assigned = agent.id if number % 5 != 4 else ""
        changes = replace(ticket, state=state, team=agent.team, agent_id=assigned)
        world.tickets[ticket.id] = changes
    return world


def _add(world: Desk, customer: str, subject: str, priority: Urgency, day: str) -> Ticket:
    key = new_id(world.tickets, "T", customer, subject)
    world.tickets[key] = Ticket(key, customer, subject, priority, "open", "front", day)
    return world.tickets[key]


def _load(world: Desk, agent_id: str) -> int:
    tickets = world.tickets.values()
    return sum(one.agent_id == agent_id and one.state == "open" for one in tickets)


def _open(world: Desk, ticket_id: str) -> Ticket:
    ticket = find(world.tickets, ticket_id, "ticket")
    check(ticket.state == "open", "not_open", f"The ticket is {ticket.state}.")
    return ticket


def _store(world: Desk, ticket: Ticket) -> Ticket:
    world.tickets[ticket.id] = replace(ticket, changed=world.today)
    return world.tickets[ticket.id]


# --- tools ---------------------------------------------------------------------------------------


@tool("Find tickets by words of the subject, priority or team, the latest change first.",
      "按主题、优先级或团队查找工单，最近变动的在前。")  # fmt: skip
def find_tickets(
    world: Desk, subject: Subject | None = None, priority: Priority | None = None,
    team: Team | None = None,
) -> list[Ticket]:  # fmt: skip
    """Return at most five."""
    found = [one for one in world.tickets.values() if has(subject, one.subject)]
    found = [one for one in found if same(priority, one.priority) and same(team, one.team)]
    return sorted(found, key=lambda one: one.changed, reverse=True)[:5]


@tool("Show one ticket.", "查看一个工单。", errors=("not_found",))
def show_ticket(world: Desk, ticket_id: TicketId) -> Ticket:
    """Return the ticket."""
    return find(world.tickets, ticket_id, "ticket")


@tool("Find customers by name, e-mail address, or both.",
      "按姓名、邮箱或两者查找客户。")  # fmt: skip
def find_customers(
    world: Desk, name: Name | None = None, email: Email | None = None
) -> list[Customer]:
    """Return at most five."""
    found = [one for one in world.customers.values() if has(name, one.name)]
    return [one for one in found if same(email, one.email)][:5]


@tool("List the tickets of a customer, all or those in a state.", "列出客户的工单，可按状态筛选。",
      errors=("not_found",))  # fmt: skip
def customer_tickets(
    world: Desk, customer_id: CustomerId, state: State | None = None
) -> list[Ticket]:
    """Return at most five."""
    find(world.customers, customer_id, "customer")
    found = [one for one in world.tickets.values() if one.customer_id == customer_id]
    return [one for one in found if same(state, one.state)][:5]


@tool("Find agents by name or team.", "按姓名或团队查找客服。")
def find_agents(
    world: Desk, name: AgentName | None = None, team: Team | None = None
) -> list[Agent]:
    """Return at most five."""
    found = [one for one in world.agents.values() if has(name, one.name)]
    return [one for one in found if same(team, one.team)][:5]


@tool("Open a ticket for a customer. Returns it.", "为客户新建工单，返回该工单。", writes=True,
      errors=("not_found", "repeated"))  # fmt: skip
def open_ticket(
    world: Desk, customer_id: CustomerId, subject: Subject, priority: Priority = "normal"
) -> Ticket:
    """Add a ticket for the front team."""
    find(world.customers, customer_id, "customer")
    theirs = [one for one in world.tickets.values() if one.customer_id == customer_id]
    known = any(one.subject == subject and one.state == "open" for one in theirs)
    check(not known, "repeated", "The customer has an open ticket with this subject.")
    return _add(world, customer_id, subject, priority, world.today)


@tool("Give a ticket to an agent of its team.", "把工单分给所属团队的客服。", writes=True,
      errors=("not_found", "not_open", "wrong_team", "overloaded"))  # fmt: skip
def assign(world: Desk, ticket_id: TicketId, agent_id: AgentId) -> Ticket:
    """Say who deals with a ticket."""
    ticket, agent = _open(world, ticket_id), find(world.agents, agent_id, "agent")
    check(agent.team == ticket.team, "wrong_team", f"The agent is in the team {agent.team}.")
    busy = _load(world, agent_id) >= MOST_TICKETS
    check(not busy, "overloaded", f"The agent has {MOST_TICKETS} open tickets.")
    return _store(world, replace(ticket, agent_id=agent_id))


@tool("Hand a ticket over to another team; nobody is assigned then.",
      "把工单升级到其他团队，原负责人清空。", writes=True,
      errors=("not_found", "not_open", "already_there"))  # fmt: skip
def escalate(world: Desk, ticket_id: TicketId, new_team: NewTeam) -> Ticket:
    """Change the team."""
    ticket = _open(world, ticket_id)
    check(ticket.team != new_team, "already_there", "The ticket is with this team.")
    return _store(world, replace(ticket, team=new_team, agent_id=""))


@tool("Change the priority of a ticket.", "修改工单优先级。", writes=True,
      errors=("not_found", "not_open"))  # fmt: skip
def set_priority(world: Desk, ticket_id: TicketId, new_priority: NewPriority) -> Ticket:
    """Say how much a ticket matters."""
    return _store(world, replace(_open(world, ticket_id), priority=new_priority))


@tool("Close a ticket as solved.", "把工单标为已解决。", writes=True,
      errors=("not_found", "not_open"))  # fmt: skip
def solve(world: Desk, ticket_id: TicketId, outcome: Outcome) -> Ticket:
    """Close a ticket and remember how it went."""
    return _store(world, replace(_open(world, ticket_id), state="solved", outcome=outcome))


@tool("Open a ticket again that was solved in the last 14 days.", "重新打开14天内解决的工单。",
      writes=True, errors=("not_found", "not_solved", "too_old"))  # fmt: skip
def reopen(world: Desk, ticket_id: TicketId) -> Ticket:
    """Go on with a ticket."""
    ticket = find(world.tickets, ticket_id, "ticket")
    check(ticket.state == "solved", "not_solved", "The ticket is not solved.")
    age = date.fromisoformat(world.today) - date.fromisoformat(ticket.changed)
    check(age.days <= REOPEN_DAYS, "too_old", f"It was solved {age.days} days ago.")
    return _store(world, replace(ticket, state="open"))


@tool("Merge a ticket into another one of the same customer.", "把工单并入同一客户的另一工单。",
      writes=True, errors=("not_found", "not_open", "same_ticket", "other_customer"))  # fmt: skip
def merge(world: Desk, ticket_id: TicketId, into_id: IntoId) -> Ticket:
    """Close a ticket in favour of another."""
    ticket, other = _open(world, ticket_id), _open(world, into_id)
    check(ticket_id != into_id, "same_ticket", "These are the same ticket.")
    check(ticket.customer_id == other.customer_id, "other_customer", "The customers differ.")
    return _store(world, replace(ticket, state="merged"))


# --- what users want -----------------------------------------------------------------------------


def _of(world: Desk, ticket: Ticket) -> tuple[dict[str, Fact], dict[str, Fact]]:
    """Return how staff name a ticket, and what tells apart customers of the same name."""
    customer = world.customers[ticket.customer_id]
    return told(name=customer.name, subject=ticket.subject), told(email=customer.email)


def _tickets(world: Desk, state: str = "open") -> list[Ticket]:
    return [one for one in world.tickets.values() if one.state == state]


@intent(
    en=("How far is {ticket_id}?", "Can you look up {ticket_id}? Who has it, what's the state?",
        "Status of ticket {ticket_id}, please."),
    zh=("{ticket_id}处理得怎么样了？", "查一下工单{ticket_id}的状态。"),
    reply_en=("{ticket_id} is {result.state}, priority {result.priority}, with the team"
              " {result.team}.",),
    reply_zh=("{ticket_id}的状态是{result.state}，优先级{result.priority}，在{result.team}团队。",),
)  # fmt: skip
def ask_state(world: Desk, rng: Random) -> Goal:
    """Learn how far a ticket is."""
    ticket_id = rng.choice(list(world.tickets))
    return Goal((Call("show_ticket", {"ticket_id": ticket_id}),), told(ticket_id=ticket_id))


@intent(
    en=("What has {name} still open with us?", "{name} is on the phone: which tickets are open?",
        "List the unsolved tickets of {name}."),
    zh=("{name}还有哪些未解决的工单？", "{name}来电询问，还有哪些工单开着？"),
    reply_en=("{name} has {count} open: {rows.subject}.",),
    reply_zh=("{name}有{count}个未解决的工单：{rows.subject}。",),
)  # fmt: skip
def ask_open(world: Desk, rng: Random) -> Goal:
    """Learn what a customer waits for."""
    customer = world.customers[rng.choice(_tickets(world)).customer_id]
    call = Call("customer_tickets", {"customer_id": customer.id, "state": "open"})
    facts = told(name=customer.name, state=Fact("state", "open", ("open", "未解决")))
    return Goal((call,), facts, told(email=customer.email))


@intent(
    en=("New ticket for {name}: {subject}, {priority} priority.",
        "{name} writes: {subject}. Open a ticket[, priority {priority}].",
        "Please note for {name}[ with {priority} priority]: {subject}."),
    zh=("给{name}建工单：{subject}，优先级{priority}。",
        "{name}反映{subject}，请开工单[，优先级{priority}]。"),
    reply_en=("The ticket of {name} is {result.id}.",),
    reply_zh=("{name}的工单号是{result.id}。",),
)  # fmt: skip
def report(world: Desk, rng: Random) -> Goal:
    """Open a ticket."""
    customer, priority = rng.choice(list(world.customers.values())), rng.choice(list(URGENCIES))
    subject = f"{rng.choice(PLACES)} {rng.choice(TROUBLES)} again"
    values = {"customer_id": customer.id, "subject": subject, "priority": priority}
    facts = told(name=customer.name, subject=subject)
    facts["priority"] = Fact("priority", priority, URGENCIES[priority])
    return Goal((Call("open_ticket", values),), facts, told(email=customer.email))


def _assign(world: Desk, rng: Random, *, busy: bool) -> Goal | None:
    pairs = [
        (ticket, agent)
        for ticket in _tickets(world)
        for agent in world.agents.values()
        if (agent.team, _load(world, agent.id) >= MOST_TICKETS) == (ticket.team, busy)
        and agent.id != ticket.agent_id
    ]
    if not pairs:
        return None
    ticket, agent = rng.choice(pairs)
    facts, clues = _of(world, ticket)
    call = Call("assign", {"ticket_id": ticket.id, "agent_id": agent.id})
    return Goal((call,), {**facts, **told(agent=agent.name)}, clues)


@intent(
    en=("Give \"{subject}\" of {name} to {agent}.", "{agent} can take {subject} ({name}).",
        "Who does {subject} for {name}? Make it {agent}."),
    zh=("把{name}的“{subject}”分给{agent}。", "{name}那个{subject}让{agent}来处理。"),
    reply_en=("{agent} now has \"{subject}\".",),
    reply_zh=("“{subject}”已分给{agent}。",),
)  # fmt: skip
def give(world: Desk, rng: Random) -> Goal | None:
    """Assign a ticket to somebody with time."""
    return _assign(world, rng, busy=False)


@intent(
    en=("Let {agent} deal with \"{subject}\" from {name}.", "{name}, {subject}: assign to {agent}.",
        "I'd like {agent} to have {name}'s ticket {subject}."),
    zh=("{name}的“{subject}”请{agent}处理。", "把{subject}（{name}）交给{agent}。"),
    reply_en=("{agent} has too many open tickets already to take \"{subject}\".",),
    reply_zh=("{agent}手上的工单太多，不能再接“{subject}”。",),
    kind="fails",
)  # fmt: skip
def give_busy(world: Desk, rng: Random) -> Goal | None:
    """Assign a ticket to somebody without time."""
    return _assign(world, rng, busy=True)


@intent(
    en=("This is too hard for us: hand \"{subject}\" of {name} over to {new_team}, {new_priority}.",
        "Escalate {subject} ({name})[ to {new_team}] and set it to {new_priority}.",
        "{name}'s {subject} has to go to {new_team}[, with priority {new_priority}]."),
    zh=("{name}的“{subject}”升级给{new_team}，优先级改为{new_priority}。",
        "{name}那个{subject}要升级[给{new_team}]，优先级改成{new_priority}。"),
    reply_en=("\"{subject}\" is with {new_team} now, priority {new_priority}.",),
    reply_zh=("“{subject}”已转给{new_team}，优先级{new_priority}。",),
)  # fmt: skip
def hand_over(world: Desk, rng: Random) -> Goal:
    """Escalate a ticket and raise its priority."""
    ticket = rng.choice(_tickets(world))
    team = rng.choice([team for team in TEAMS if team != ticket.team])
    priority = rng.choice([one for one in URGENCIES if one != ticket.priority])
    facts, clues = _of(world, ticket)
    facts["new_team"] = Fact("new_team", team, TEAMS[team])
    facts["new_priority"] = Fact("new_priority", priority, URGENCIES[priority])
    first = Call("escalate", {"ticket_id": ticket.id, "new_team": team})
    second = Call("set_priority", {"ticket_id": ticket.id, "new_priority": priority})
    return Goal((first, second), facts, clues)


def _solve(world: Desk, rng: Random, tickets: list[Ticket]) -> Goal | None:
    if not tickets:
        return None
    ticket, outcome = rng.choice(tickets), rng.choice(list(OUTCOMES))
    facts = told(ticket_id=ticket.id, outcome=Fact("outcome", outcome, OUTCOMES[outcome]))
    return Goal((Call("solve", {"ticket_id": ticket.id, "outcome": outcome}),), facts)


@intent(
    en=("Close {ticket_id}, {outcome}.", "{ticket_id} is done[: {outcome}].",
        "You can mark {ticket_id} as solved[, {outcome}]."),
    zh=("关闭{ticket_id}，{outcome}。", "{ticket_id}可以结了[，{outcome}]。"),
    reply_en=("{ticket_id} is closed.", "Ticket {ticket_id} is solved now."),
    reply_zh=("{ticket_id}已关闭。",),
)  # fmt: skip
def close(world: Desk, rng: Random) -> Goal | None:
    """Close a ticket that is not urgent."""
    return _solve(world, rng, [one for one in _tickets(world) if one.priority != "urgent"])


@intent(
    en=("Please close {ticket_id}, {outcome}.", "Done with {ticket_id}[, {outcome}], shut it.",
        "{ticket_id} can be closed: {outcome}."),
    zh=("请把{ticket_id}关掉，{outcome}。", "{ticket_id}处理完了[，{outcome}]，关闭吧。"),
    reply_en=("{ticket_id} is {result.priority}; only the team lead may close it.",),
    reply_zh=("{ticket_id}的优先级是{result.priority}，只有组长可以关闭。",),
    kind="policy",
)  # fmt: skip
def close_urgent(world: Desk, rng: Random) -> Goal | None:
    """Ask to close an urgent ticket."""
    goal = _solve(world, rng, [one for one in _tickets(world) if one.priority == "urgent"])
    if goal is None:
        return None
    ticket_id = goal.facts["ticket_id"].value
    return Goal((Call("show_ticket", {"ticket_id": ticket_id}),), goal.facts)


def _reopen(world: Desk, rng: Random, *, old: bool) -> Goal:
    last = str(date.fromisoformat(world.today) - timedelta(REOPEN_DAYS))
    ticket = rng.choice([one for one in _tickets(world, "solved") if (one.changed < last) == old])
    return Goal((Call("reopen", {"ticket_id": ticket.id}),), *_of(world, ticket))


@intent(
    en=("{name} says it's back: {subject}. Reopen the ticket.",
        "The ticket \"{subject}\" of {name} was closed too soon, open it again.",
        "Not solved after all, so reopen {subject} ({name})."),
    zh=("{name}说{subject}又出现了，重新打开工单。", "{name}的“{subject}”没解决，请重开。"),
    reply_en=("\"{subject}\" is open again as {result.id}.",),
    reply_zh=("“{subject}”已重新打开，工单号{result.id}。",),
)  # fmt: skip
def go_on(world: Desk, rng: Random) -> Goal:
    """Open a ticket again in time."""
    return _reopen(world, rng, old=False)


@intent(
    en=("Can we reopen \"{subject}\" for {name}?", "{name} wants {subject} opened again.",
        "Take up {subject} again, {name} asked for it."),
    zh=("能重开{name}的“{subject}”吗？", "{name}要求重新处理{subject}。"),
    reply_en=("\"{subject}\" was solved more than 14 days ago, so it cannot be reopened.",),
    reply_zh=("“{subject}”解决已超过14天，不能重开。",),
    kind="fails",
)  # fmt: skip
def go_on_late(world: Desk, rng: Random) -> Goal:
    """Open a ticket again too late."""
    return _reopen(world, rng, old=True)


@intent(
    en=("{ticket_id} and {into_id} are the same thing, keep {into_id}.",
        "Merge {ticket_id} into {into_id}.", "Put {ticket_id} together with {into_id}, please."),
    zh=("{ticket_id}和{into_id}重复了，保留{into_id}。", "把{ticket_id}并入{into_id}。"),
    reply_en=("{ticket_id} is merged into {into_id}.",),
    reply_zh=("{ticket_id}已并入{into_id}。",),
)  # fmt: skip
def put_together(world: Desk, rng: Random) -> Goal | None:
    """Merge two tickets of a customer."""
    first = rng.choice(_tickets(world))
    others = [one for one in _tickets(world) if one.customer_id == first.customer_id]
    if len(others) < 2:
        return None
    other = next(one for one in others if one.id != first.id)
    ids = {"ticket_id": first.id, "into_id": other.id}
    return Goal((Call("merge", ids),), told(**ids))


DOMAIN = domain_of(
    sys.modules[__name__],
    "a support desk",
    "客服工单台",
    seed,
    policies_en=("Never close a ticket of urgent priority; the team lead does that.",),
    policies_zh=("紧急工单不得关闭，由组长处理。",),
)
