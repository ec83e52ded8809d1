"""A sales team: companies, leads, deals and activities."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from random import Random
from typing import Annotated, Literal

from openk2.envs.authoring import has, same, told
from openk2.envs.domain import Call, Fact, Goal, domain_of, intent
from openk2.envs.slots import Json, Slot
from openk2.envs.tool import tool
from openk2.envs.world import World, check, find, new_id

CompanyId = Annotated[str, Slot("company_id", "company id", "公司编号", "id", entity="companies")]
LeadId = Annotated[str, Slot("lead_id", "lead id", "线索编号", "id", entity="leads")]
DealId = Annotated[str, Slot("deal_id", "deal id", "商机编号", "id", entity="deals")]
ActivityId = Annotated[
    str, Slot("activity_id", "activity id", "活动编号", "id", entity="activities")
]
Company_ = Annotated[str, Slot("company", "company", "公司")]
IndustryName = Literal["food", "transport", "media", "energy", "health"]
Industry = Annotated[IndustryName, Slot("industry", "industry", "行业")]
LeadName = Annotated[str, Slot("lead", "name of the lead", "线索姓名")]
Email = Annotated[str, Slot("email", "e-mail address", "邮箱地址", "email")]
StatusName = Literal["new", "contacted", "qualified", "lost"]
Status = Annotated[StatusName, Slot("status", "status of the lead", "线索状态")]
Title = Annotated[str, Slot("title", "title of the deal", "商机名称")]
Amount = Annotated[int, Slot("amount", "amount", "金额", "money")]
StageName = Literal["talks", "offer", "contract", "won", "lost"]
Stage = Annotated[StageName, Slot("stage", "stage of the deal", "商机阶段")]
CloseBy = Annotated[str, Slot("close_by", "expected closing day", "预计成交日期", "date")]
ActionName = Literal["call", "meeting", "demo", "letter"]
Action = Annotated[ActionName, Slot("action", "kind of activity", "活动类型")]
Day = Annotated[str, Slot("day", "day of the activity", "活动日期", "date")]
PERCENT = {"minimum": 1, "maximum": 90}
Percent = Annotated[int, Slot("percent", "discount in percent", "折扣百分比", schema=PERCENT)]


@dataclass(frozen=True, slots=True)
class Company:
    """Somebody to sell to."""

    id: CompanyId
    company: Company_
    industry: Industry


@dataclass(frozen=True, slots=True)
class Lead:
    """A person of a company."""

    id: LeadId
    lead: LeadName
    email: Email
    company_id: CompanyId
    status: StatusName = "new"


@dataclass(frozen=True, slots=True)
class Deal:
    """What a company may buy."""

    id: DealId
    title: Title
    company_id: CompanyId
    amount: int
    close_by: CloseBy
    stage: StageName = "talks"


@dataclass(frozen=True, slots=True)
class Activity:
    """Something to do for a deal."""

    id: ActivityId
    deal_id: DealId
    action: Action
    day: Day
    done: bool = False


@dataclass(slots=True)
class Sales(World):
    """Everything there is."""

    companies: dict[str, Company] = field(default_factory=dict[str, Company])
    leads: dict[str, Lead] = field(default_factory=dict[str, Lead])
    deals: dict[str, Deal] = field(default_factory=dict[str, Deal])
    activities: dict[str, Activity] = field(default_factory=dict[str, Activity])


COMPANIES = (
    "Alder Foods", "Brightwave", "Corvus Media", "Dunmore Freight", "Elsinore Energy", "Jadeport",
    "Green Harbour", "Hikari Systems", "Ibex Logistics", "Kilim Textiles", "Lumen Health", "Orel",
)  # fmt: skip
FIRST = ("Aurelio", "Birgit", "Chidi", "Darya", "Evander", "Freya", "Ganesh", "Hedvig", "Idris",
         "Jolanta", "Kenji", "Leonie", "Marek", "Noor", "Oisin", "Petra")  # fmt: skip
LAST = ("Amundsen", "Barbosa", "Chopra", "Devlin", "Ekwueme", "Fabbri", "Gruber", "Halloran",
        "Ivanova", "Jung", "Kaya", "Lopes", "Marchand")  # fmt: skip
OBJECTS = (
    "Sensor", "Payroll", "Fleet", "Webshop", "Archive", "Solar", "Security", "Training", "Printer",
    "Newsletter", "Warehouse", "Chatbot",
)  # fmt: skip
FORMS = ("pilot", "rollout", "renewal", "upgrade", "licence", "audit", "package")
STAGES: dict[StageName, tuple[str, str]] = {
    "talks": ("talks", "洽谈"), "offer": ("offer", "报价"), "contract": ("contract", "合同"),
    "won": ("won", "赢单"), "lost": ("lost", "丢单"),
}  # fmt: skip
STATUSES: dict[StatusName, tuple[str, str]] = {
    "contacted": ("contacted", "已联系"), "qualified": ("qualified", "合格"),
    "lost": ("lost", "流失"),
}  # fmt: skip
ACTIONS: dict[ActionName, tuple[str, str]] = {
    "call": ("call", "电话"), "meeting": ("meeting", "会面"), "demo": ("demo", "演示"),
    "letter": ("letter", "信函"),
}  # fmt: skip
INDUSTRIES: tuple[IndustryName, ...] = ("food", "transport", "media", "energy", "health")
LARGE = 50_000
"""Amount from which a deal is won by a manager only."""


def seed(rng: Random) -> Sales:
    """Make six companies with leads and deals; two companies may want the same thing."""
    world = Sales(f"{date(2026, 1, 14) + timedelta(days=rng.randrange(300))} 09:10")
    for name in rng.sample(COMPANIES, 6):
        key = new_id(world.companies, "C", name)
        world.companies[key] = Company(key, name, rng.choice(INDUSTRIES))
    companies = list(world.companies)
    for number, first in enumerate(rng.sample(FIRST, 9)):
        name, company = f"{first} {rng.choice(LAST)}", companies[number % 6]
        address = f"{first}@{world.companies[company].company.split()[0]}.example".lower()
        key = new_id(world.leads, "L", address)
        world.leads[key] = Lead(key, name, address, company, "contacted" if number > 6 else "new")
    titles = rng.sample([f"{thing} {form}" for thing in OBJECTS for form in FORMS], 10)
    days = rng.sample(range(5, 120), 11)
    for number, title in enumerate((*titles, titles[0])):
        company, close_by = companies[number % 6], _in(world, days[number])
        key, amount = new_id(world.deals, "D", title, company), rng.randrange(2000, 90_000, 500)
        stage = ("talks", "offer", "contract", "won")[number % 4]
        world.deals[key] = Deal(key, title, company, amount, close_by, stage)
    for deal in rng.sample(list(world.deals), 7):
        action, day = rng.choice(list(ACTIONS)), _in(world, rng.randint(1, 20))
        key = new_id(world.activities, "A", deal, action, day)
        world.activities[key] = Activity(key, deal, action, day)
    return world


def _in(world: Sales, days: int) -> str:
    return str(date.fromisoformat(world.today) + timedelta(days=days))


def _open(world: Sales, deal_id: str) -> Deal:
    deal = find(world.deals, deal_id, "deal")
    check(deal.stage not in ("won", "lost"), "closed", f"The deal is {deal.stage}.")
    return deal


# --- tools ---------------------------------------------------------------------------------------


@tool("Find companies by name, industry, or both.", "按名称、行业或两者查找公司。")
def find_companies(
    world: Sales, company: Company_ | None = None, industry: Industry | None = None
) -> list[Company]:
    """Return at most five."""
    companies = [one for one in world.companies.values() if has(company, one.company)]
    return [one for one in companies if same(industry, one.industry)][:5]


@tool("Find leads by name or e-mail.", "按姓名或邮箱查找线索。")
def find_leads(
    world: Sales, lead: LeadName | None = None, email: Email | None = None
) -> list[Lead]:
    """Return at most five."""
    leads = [one for one in world.leads.values() if has(lead, one.lead)]
    return [one for one in leads if same(email, one.email)][:5]


@tool("Add a lead to a company. Returns the lead.", "为公司添加线索，返回该线索。", writes=True,
      errors=("not_found", "email_taken"))  # fmt: skip
def add_lead(world: Sales, company_id: CompanyId, lead: LeadName, email: Email) -> Lead:
    """Add a person whose address is new."""
    find(world.companies, company_id, "company")
    known = any(one.email == email for one in world.leads.values())
    check(not known, "email_taken", "There is a lead with that address.")
    key = new_id(world.leads, "L", email)
    world.leads[key] = Lead(key, lead, email, company_id)
    return world.leads[key]


@tool("Set how far a lead is.", "设置线索状态。", writes=True, errors=("not_found", "no_change"))
def mark_lead(world: Sales, lead_id: LeadId, status: Status) -> Lead:
    """Change the status of a lead."""
    lead = find(world.leads, lead_id, "lead")
    check(lead.status != status, "no_change", f"The lead is {status} already.")
    world.leads[lead_id] = replace(lead, status=status)
    return world.leads[lead_id]


@tool("Find deals by words of the title.", "按名称中的词查找商机。")
def search_deals(world: Sales, title: Title) -> list[Deal]:
    """Return at most five."""
    return [deal for deal in world.deals.values() if has(title, deal.title)][:5]


@tool("List the deals of a company, of one stage or all.", "列出公司的商机，可按阶段筛选。",
      errors=("not_found",))  # fmt: skip
def company_deals(world: Sales, company_id: CompanyId, stage: Stage | None = None) -> list[Deal]:
    """Return at most five, the largest first."""
    find(world.companies, company_id, "company")
    deals = [one for one in world.deals.values() if one.company_id == company_id]
    return sorted((d for d in deals if same(stage, d.stage)), key=lambda d: (-d.amount, d.id))[:5]


@tool("Show one deal.", "查看一个商机。", errors=("not_found",))
def deal_card(world: Sales, deal_id: DealId) -> Deal:
    """Return the deal."""
    return find(world.deals, deal_id, "deal")


@tool("Open a deal with a company. Returns it.", "为公司新建商机，返回该商机。", writes=True,
      errors=("not_found", "in_the_past"))  # fmt: skip
def open_deal(
    world: Sales, company_id: CompanyId, title: Title, amount: Amount, close_by: CloseBy
) -> Deal:
    """Add a deal in talks."""
    find(world.companies, company_id, "company")
    check(close_by > world.today, "in_the_past", "The closing day is in the past.")
    key = new_id(world.deals, "D", title, company_id)
    world.deals[key] = Deal(key, title, company_id, amount, close_by)
    return world.deals[key]


@tool("Move an open deal to another stage.", "把进行中的商机改到另一阶段。", writes=True,
      errors=("not_found", "closed", "no_change"))  # fmt: skip
def set_stage(world: Sales, deal_id: DealId, stage: Stage) -> Deal:
    """Change the stage of a deal."""
    deal = _open(world, deal_id)
    check(deal.stage != stage, "no_change", f"The deal is in that stage already: {stage}.")
    world.deals[deal_id] = replace(deal, stage=stage)
    return world.deals[deal_id]


@tool("Take a discount off an open deal.", "给进行中的商机打折。", writes=True,
      errors=("not_found", "closed"))  # fmt: skip
def give_discount(world: Sales, deal_id: DealId, percent: Percent) -> Deal:
    """Lower the amount of a deal."""
    deal = _open(world, deal_id)
    world.deals[deal_id] = replace(deal, amount=deal.amount * (100 - percent) // 100)
    return world.deals[deal_id]


@tool("Plan an activity for an open deal. Returns it.", "为进行中的商机安排活动，返回该活动。",
      writes=True, errors=("not_found", "closed", "in_the_past"))  # fmt: skip
def plan_activity(world: Sales, deal_id: DealId, action: Action, day: Day) -> Activity:
    """Add an activity."""
    _open(world, deal_id)
    check(day >= world.today, "in_the_past", "The day is in the past.")
    key = new_id(world.activities, "A", deal_id, action, day)
    world.activities[key] = Activity(key, deal_id, action, day)
    return world.activities[key]


@tool("List the activities of a deal.", "列出商机的活动。", errors=("not_found",))
def deal_activities(world: Sales, deal_id: DealId) -> list[Activity]:
    """Return at most five, the earliest first."""
    find(world.deals, deal_id, "deal")
    found = [one for one in world.activities.values() if one.deal_id == deal_id]
    return sorted(found, key=lambda one: (one.day, one.action))[:5]


@tool("Note that an activity is done.", "登记活动已完成。", writes=True,
      errors=("not_found", "already_done"))  # fmt: skip
def finish_activity(world: Sales, activity_id: ActivityId) -> Activity:
    """Mark an activity as done."""
    activity = find(world.activities, activity_id, "activity")
    check(not activity.done, "already_done", "The activity is done already.")
    world.activities[activity_id] = replace(activity, done=True)
    return world.activities[activity_id]


# --- what users want -----------------------------------------------------------------------------


def _about(deal: Deal, *calls: Call, **facts: Json) -> Goal:
    """Make a goal about a deal; its closing day tells it from its namesake."""
    return Goal(calls, told(title=deal.title, **facts), told(close_by=deal.close_by))


def _deal(world: Sales, rng: Random, *stages: StageName) -> Deal:
    return rng.choice([deal for deal in world.deals.values() if deal.stage in stages])


def _staged(deal: Deal, stage: StageName) -> Goal:
    call = Call("set_stage", {"deal_id": deal.id, "stage": stage})
    return _about(deal, call, stage=Fact("stage", stage, STAGES[stage]))


def _meeting(world: Sales, rng: Random, email: str) -> Goal:
    company, name = (
        rng.choice(list(world.companies.values())),
        f"{rng.choice(FIRST)} {rng.choice(LAST)}",
    )
    email = email or f"{name.replace(' ', '_')}@example.org".lower()
    call = Call("add_lead", {"company_id": company.id, "lead": name, "email": email})
    return Goal((call,), told(company=company.company, lead=name, email=email))


@intent(
    en=("Please add {lead}, {email}, as a lead of {company}.",
        "I met {lead} from {company} at the fair[; the address is {email}].",
        "New contact at {company}: {lead}[, {email}]."),
    zh=("给{company}添加线索{lead}，邮箱{email}。",
        "我在展会上认识了{company}的{lead}[，邮箱{email}]，记一下。"),
    reply_en=("{lead} of {company} is a lead now.",), reply_zh=("已为{company}添加线索{lead}。",),
)  # fmt: skip
def meet(world: Sales, rng: Random) -> Goal:
    """Add a lead."""
    return _meeting(world, rng, "")


@intent(
    en=("Add {lead} of {company} as a lead, {email}.",
        "{company} has someone new: {lead}, {email}.",
        "Could you note {lead} from {company}? Mail: {email}."),
    zh=("添加{company}的线索{lead}，{email}。", "{company}来了新人{lead}，邮箱{email}，请记下。"),
    reply_en=("{email} belongs to another lead, so I did not add {lead}.",),
    reply_zh=("{email}已属于另一条线索，没有添加{lead}。",), kind="fails",
)  # fmt: skip
def meet_again(world: Sales, rng: Random) -> Goal:
    """Add a lead whose address is known already."""
    return _meeting(world, rng, rng.choice(list(world.leads.values())).email)


@intent(
    en=("{lead} is {status}.", "Set {lead} to {status}, please.",
        "I spoke with {lead}[ and would say: {status}]. Update the lead."),
    zh=("把线索{lead}标为{status}。", "我和{lead}谈过了[，状态改成{status}]。"),
    reply_en=("{lead} is marked as {status}.",), reply_zh=("{lead}已标为{status}。",),
)  # fmt: skip
def mark(world: Sales, rng: Random) -> Goal:
    """Change the status of a lead."""
    lead = rng.choice(list(world.leads.values()))
    status, words = rng.choice([one for one in STATUSES.items() if one[0] != lead.status])
    call = Call("mark_lead", {"lead_id": lead.id, "status": status})
    facts = told(lead=lead.lead, status=Fact("status", status, words))
    return Goal((call,), facts, told(email=lead.email))


@intent(
    en=("Open a deal with {company}: {title}, {amount}, closing {close_by}.",
        "{company} is interested in a {title}[, worth {amount}][; they decide by {close_by}].",
        "New opportunity at {company}: {title}[ for {amount}][, {close_by}]."),
    zh=("为{company}新建商机{title}，金额{amount}，预计{close_by}成交。",
        "{company}对{title}感兴趣[，金额{amount}][，{close_by}前定]。"),
    reply_en=("The deal {title} with {company} is open: {result.id}.",),
    reply_zh=("已为{company}新建商机{title}，编号{result.id}。",),
)  # fmt: skip
def open_one(world: Sales, rng: Random) -> Goal:
    """Open a deal."""
    company = rng.choice(list(world.companies.values()))
    title = f"{rng.choice(OBJECTS)} {rng.choice(FORMS)} {rng.randint(2, 9)}"
    amount, close_by = rng.randrange(1500, 60_000, 250), _in(world, rng.randint(10, 120))
    values = {"title": title, "amount": amount, "close_by": close_by}
    call = Call("open_deal", {"company_id": company.id, **values})
    return Goal((call,), told(company=company.company, **values))


@intent(
    en=("Move {title} to {stage}.", "{title} has reached the stage {stage}.",
        "Update the {title} deal[: it is at {stage} now]."),
    zh=("把商机{title}改到{stage}阶段。", "{title}有进展了[，现在是{stage}]。"),
    reply_en=("{title} is at {stage} now.",), reply_zh=("{title}已改为{stage}。",),
)  # fmt: skip
def advance(world: Sales, rng: Random) -> Goal:
    """Move a deal on."""
    deal = _deal(world, rng, "talks", "offer")
    stages: tuple[StageName, ...] = (
        "contract",
        "lost",
        "offer" if deal.stage == "talks" else "talks",
    )
    return _staged(deal, rng.choice(stages))


@intent(
    en=("Set {title} to {stage}.", "{title} goes to {stage}, please.",
        "Put {title} back to {stage}."),
    zh=("把{title}改成{stage}。", "{title}请退回{stage}阶段。"),
    reply_en=("{title} is closed, so it cannot go to {stage}.",),
    reply_zh=("{title}已关闭，不能改到{stage}。",), kind="fails",
)  # fmt: skip
def advance_closed(world: Sales, rng: Random) -> Goal:
    """Move a deal that is closed."""
    stages: tuple[StageName, ...] = ("talks", "offer", "contract")
    return _staged(_deal(world, rng, "won"), rng.choice(stages))


@intent(
    en=("We won {title}!", "{title} is signed, mark it as won.", "Close {title} as won."),
    zh=("{title}签下来了，标为赢单。", "把{title}改成赢单。"),
    reply_en=("{title} is too large for me to close; a manager has to do it.",),
    reply_zh=("{title}金额过大，我不能关闭，需要经理处理。",), kind="policy",
)  # fmt: skip
def win_large(world: Sales, rng: Random) -> Goal | None:
    """Want a large deal closed."""
    open_deals = [deal for deal in world.deals.values() if deal.stage != "won"]
    large = [deal for deal in open_deals if deal.amount > LARGE]
    if not large:
        return None
    deal = rng.choice(large)
    return _about(deal, Call("deal_card", {"deal_id": deal.id}))


@intent(
    en=("Give {percent} percent off on {title}.", "{title}: they want {percent}% discount, okay.",
        "Make {title} cheaper[, {percent} percent off]."),
    zh=("{title}打折，降{percent}%。", "给{title}便宜一点[，降{percent}%]。"),
    reply_en=("{title} now costs {result.amount}.",), reply_zh=("{title}现价{result.amount}。",),
)  # fmt: skip
def cheaper(world: Sales, rng: Random) -> Goal:
    """Give a discount that an assistant may give."""
    deal, percent = _deal(world, rng, "talks", "offer", "contract"), rng.randint(2, 20)
    call = Call("give_discount", {"deal_id": deal.id, "percent": percent})
    return _about(deal, call, percent=percent)


@intent(
    en=("Give {percent} percent off on {title}.", "Let {title} go with {percent}% off.",
        "They only sign {title} with a discount of {percent} percent, do it."),
    zh=("{title}打折，降{percent}%。", "对方要{title}降{percent}%才签，照办吧。"),
    reply_en=("{percent} percent is more than the 20 that I may give on {title}.",),
    reply_zh=("{title}最多只能降20%，{percent}%超出了权限。",), kind="policy",
)  # fmt: skip
def much_cheaper(world: Sales, rng: Random) -> Goal:
    """Want more discount than an assistant may give."""
    deal = _deal(world, rng, "talks", "offer", "contract")
    return Goal((), told(title=deal.title, percent=rng.randint(21, 60)))


@intent(
    en=("{title} is now at {stage}; plan a {action} on {day}.",
        "Two things for {title}: stage {stage}, and a {action} on {day}.",
        "Set {title} to {stage} and arrange a {action}[ on {day}]."),
    zh=("{title}进入{stage}阶段，并安排{day}的{action}。",
        "把{title}改为{stage}，再约一次{action}[，{day}]。"),
    reply_en=("{title} is at {stage}, and a {action} is planned on {day}.",),
    reply_zh=("{title}已改为{stage}，并安排了{day}的{action}。",),
)  # fmt: skip
def advance_and_plan(world: Sales, rng: Random) -> Goal:
    """Move a deal on and plan what comes next."""
    deal, stage = _deal(world, rng, "talks"), rng.choice(("offer", "contract"))
    action, day = rng.choice(list(ACTIONS)), _in(world, rng.randint(1, 30))
    first = Call("set_stage", {"deal_id": deal.id, "stage": stage})
    then = Call("plan_activity", {"deal_id": deal.id, "action": action, "day": day})
    said = {"stage": Fact("stage", stage, STAGES[stage]), "day": Fact("day", day)}
    return _about(deal, first, then, action=Fact("action", action, ACTIONS[action]), **said)


@intent(
    en=("The {action} for {title} on {day} is done.",
        "I finished the {action} about {title}, {day}.", "Tick off {title}: {action}[, {day}]."),
    zh=("{title}在{day}的{action}完成了。", "{title}的{action}做完了[，{day}那次]。"),
    reply_en=("The {action} for {title} is done.",), reply_zh=("{title}的{action}已登记完成。",),
)  # fmt: skip
def finish(world: Sales, rng: Random) -> Goal:
    """Tick off an activity."""
    one = rng.choice(list(world.activities.values()))
    call = Call("finish_activity", {"activity_id": one.id})
    action = Fact("action", one.action, ACTIONS[one.action])
    return _about(world.deals[one.deal_id], call, action=action, day=one.day)


@intent(
    en=("Which deals do we have with {company}?", "What is {company} buying?",
        "Show me everything open or closed at {company}."),
    zh=("我们和{company}有哪些商机？", "{company}在买什么？"),
    reply_en=("{company} has {count}: {rows.title}.",),
    reply_zh=("{company}有{count}个：{rows.title}。",),
)  # fmt: skip
def ask_company(world: Sales, rng: Random) -> Goal:
    """Learn the deals of a company."""
    company = world.companies[rng.choice(list(world.deals.values())).company_id]
    return Goal((Call("company_deals", {"company_id": company.id}),), told(company=company.company))


DOMAIN = domain_of(
    sys.modules[__name__], "a sales team's customer list", "销售团队的客户管理", seed,
    policies_en=(
        "Never mark a deal of more than 50000 as won.", "Never give a discount above 20 percent."
    ),
    policies_zh=("不得把金额超过50000的商机标为赢单。", "折扣不得超过20%。"),
)  # fmt: skip
