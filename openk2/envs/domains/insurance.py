"""An insurer: policy holders, their policies, claims and the shops that repair."""

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

HolderId = Annotated[str, Slot("holder_id", "holder id", "投保人编号", "id", entity="holders")]
PolicyId = Annotated[str, Slot("policy_id", "policy number", "保单号", "id", entity="policies")]
ClaimId = Annotated[str, Slot("claim_id", "claim id", "理赔编号", "id", entity="claims")]
ShopId = Annotated[str, Slot("shop_id", "shop id", "维修店编号", "id", entity="shops")]
Name = Annotated[str, Slot("name", "name of the holder", "投保人姓名")]
Email = Annotated[str, Slot("email", "e-mail address", "邮箱地址", "email")]
Kind = Literal["car", "home", "travel", "pet"]
Cover = Annotated[Kind, Slot("cover", "kind of insurance", "险种")]
Value = Annotated[int, Slot("value", "insured value", "保险金额", "money")]
Premium = Annotated[int, Slot("premium", "premium per year", "每年保费", "money")]
Excess = Annotated[int, Slot("excess", "excess", "免赔额", "money")]
Ends = Annotated[str, Slot("ends", "last day", "到期日", "date")]
PolicyState = Annotated[Literal["active", "cancelled"], Slot("policy_state", "state", "保单状态")]
Drivers = Annotated[list[str], Slot("drivers", "names of drivers", "驾驶人姓名")]
Trouble = Literal["collision", "theft", "fire", "water", "illness", "lost_luggage"]
Cause = Annotated[Trouble, Slot("cause", "cause", "出险原因")]
Happened = Annotated[str, Slot("happened", "day it happened", "出险日期", "date")]
Amount = Annotated[float, Slot("amount", "amount claimed", "索赔金额", "money")]
ClaimState = Annotated[
    Literal["open", "approved", "withdrawn"], Slot("claim_state", "state", "状态")
]
Shop = Annotated[str, Slot("shop", "name of the shop", "维修店名称")]
Years = Annotated[int, Slot("years", "number of years", "年数", "count", schema={"maximum": 5})]


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who is insured."""

    id: HolderId
    name: Name
    email: Email


@dataclass(frozen=True, slots=True)
class Policy:
    """What is insured."""

    id: PolicyId
    holder_id: HolderId
    cover: Cover
    premium: Premium
    excess: Excess
    ends: Ends
    state: PolicyState = "active"
    drivers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that happened."""

    id: ClaimId
    policy_id: PolicyId
    cause: Cause
    happened: Happened
    amount: Amount
    state: ClaimState = "open"
    shop_id: ShopId = ""


@dataclass(frozen=True, slots=True)
class Workshop:
    """Who repairs what is insured."""

    id: ShopId
    name: Shop
    trade: Literal["car", "home"]


@dataclass(slots=True)
class Insurer(World):
    """Everything there is."""

    holders: dict[str, Holder] = field(default_factory=dict[str, Holder])
    policies: dict[str, Policy] = field(default_factory=dict[str, Policy])
    claims: dict[str, Claim] = field(default_factory=dict[str, Claim])
    shops: dict[str, Workshop] = field(default_factory=dict[str, Workshop])


FIRST = (
    "Alba", "Bogdan", "Cosima", "Denise", "Edgar", "Flavia", "Georg", "Hilde", "Idris", "Jutta",
    "Khadija", "Lorenz", "Miriam", "Nestor", "Odile", "Priya", "Ramon", "Selma", "Timo", "Vesna",
)  # fmt: skip
LAST = (
    "Arslan", "Beck", "Cohen", "Draghici", "Eklund", "Farkas", "Gruber", "Hansen", "Ilves",
    "Juarez", "Kovacs", "Lopez", "Mertens", "Nagy", "Olsson", "Popescu", "Rahman", "Steiner",
)  # fmt: skip
MARKS = ("Arrow", "Beacon", "Crown", "Delta", "Emerald", "Falcon", "Granite", "Harbor", "Iris")
RATES: dict[Kind, float] = {"car": 0.031, "home": 0.004, "travel": 0.06, "pet": 0.09}
COVERED: dict[Kind, tuple[Trouble, ...]] = {
    "car": ("collision", "theft", "fire"), "home": ("fire", "water", "theft"),
    "travel": ("illness", "lost_luggage"), "pet": ("illness",)}  # fmt: skip
COVERS = {"car": ("car insurance", "车险"), "home": ("home insurance", "家财险"),
          "travel": ("travel insurance", "旅行险"), "pet": ("pet insurance", "宠物险")}  # fmt: skip
CAUSES = {"collision": ("a collision", "碰撞"), "theft": ("a theft", "失窃"),
          "fire": ("a fire", "火灾"), "water": ("water damage", "水损"),
          "illness": ("an illness", "疾病"), "lost_luggage": ("lost bags", "行李丢失")}  # fmt: skip


def seed(rng: Random) -> Insurer:
    """Make holders with up to two policies; two holders share a name."""
    today = date(2026, 1, 12) + timedelta(days=rng.randrange(320))
    world = Insurer(f"{today} 08:15")
    names = [f"{a} {b}" for a, b in zip(rng.sample(FIRST, 7), rng.sample(LAST, 7), strict=True)]
    for number, name in enumerate((*names, rng.choice(names))):
        email = f"{name.lower().replace(' ', '_')}{number * 7}@letter.example"
        key = new_id(world.holders, "H", email)
        world.holders[key] = Holder(key, name, email)
        for kind in rng.sample(list(RATES), rng.choice((1, 2, 2))):
            policy, value = new_id(world.policies, "Q", key, kind), rng.randint(20, 300) * 100
            ends, excess = str(today + timedelta(rng.randint(5, 300))), rng.choice((100, 250, 500))
            premium = _premium(kind, value, excess)
            world.policies[policy] = Policy(policy, key, kind, premium, excess, ends)
    policies = list(world.policies.values())
    for number, gap in enumerate(rng.sample(range(1, 90), 10)):
        policy, happened = policies[number % len(policies)], str(today - timedelta(gap))
        state: ClaimState = "approved" if number % 3 == 0 else "open"
        cause = rng.choice(COVERED[policy.cover])
        _add_claim(world, policy.id, cause, happened, round(rng.uniform(80, 4000), 2), state)
    for mark in rng.sample(MARKS, 6):
        trade = "car" if len(world.shops) % 2 else "home"
        key = new_id(world.shops, "W", mark)
        name = f"{mark} {'Motors' if trade == 'car' else 'Builders'}"
        world.shops[key] = Workshop(key, name, trade)
    return world


def _premium(kind: Kind, value: int, excess: int) -> int:
    return max(30, round(value * RATES[kind] - excess / 10))


def _add_claim(
    world: Insurer, policy_id: str, cause: Trouble, happened: str, amount: float, state: ClaimState
) -> Claim:
    key = new_id(world.claims, "L", policy_id, cause, happened)
    world.claims[key] = Claim(key, policy_id, cause, happened, amount, state)
    return world.claims[key]


def _active(world: Insurer, policy_id: str) -> Policy:
    policy = find(world.policies, policy_id, "policy")
    check(policy.state == "active", "not_active", "The policy is cancelled.")
    return policy


def _open(world: Insurer, claim_id: str) -> Claim:
    claim = find(world.claims, claim_id, "claim")
    check(claim.state != "withdrawn", "withdrawn", "The claim was withdrawn.")
    return claim


# --- tools ---------------------------------------------------------------------------------------


@tool("Find policy holders by name, e-mail address, or both.",
      "按姓名、邮箱或两者查找投保人。")  # fmt: skip
def find_holders(
    world: Insurer, name: Name | None = None, email: Email | None = None
) -> list[Holder]:
    """Return at most five."""
    found = [one for one in world.holders.values() if has(name, one.name)]
    return [one for one in found if same(email, one.email)][:5]


@tool("List the policies of a holder.", "列出投保人的保单。", errors=("not_found",))
def holder_policies(world: Insurer, holder_id: HolderId) -> list[Policy]:
    """Return at most five."""
    find(world.holders, holder_id, "holder")
    return [one for one in world.policies.values() if one.holder_id == holder_id][:5]


@tool("Show one policy.", "查看一份保单。", errors=("not_found",))
def get_policy(world: Insurer, policy_id: PolicyId) -> Policy:
    """Return the policy."""
    return find(world.policies, policy_id, "policy")


@tool("Compute the yearly premium of an insurance.", "计算保险的每年保费。")
def quote_premium(world: Insurer, cover: Cover, value: Value, excess: Excess) -> dict[str, int]:
    """Multiply; nothing is signed."""
    _ = world
    return {"premium": _premium(cover, value, excess)}


@tool("Renew a policy for years, possible from 60 days before its last day.",
      "续保若干年，到期前60天内可办。", writes=True,
      errors=("not_found", "not_active", "too_early"))  # fmt: skip
def renew_policy(world: Insurer, policy_id: PolicyId, years: Years = 1) -> Policy:
    """Let a policy end later."""
    policy = _active(world, policy_id)
    ends = date.fromisoformat(policy.ends)
    ahead = (ends - date.fromisoformat(world.today)).days
    check(ahead <= 60, "too_early", f"The policy can be renewed in {ahead - 60} days.")
    world.policies[policy_id] = replace(policy, ends=str(ends + timedelta(365 * years)))
    return world.policies[policy_id]


@tool("Cancel a policy without open claims.", "取消没有未结理赔的保单。", writes=True,
      errors=("not_found", "not_active", "open_claim"))  # fmt: skip
def cancel_policy(world: Insurer, policy_id: PolicyId) -> Policy:
    """End a policy today."""
    policy = _active(world, policy_id)
    check(not _has_open(world, policy_id), "open_claim", "There is an open claim.")
    world.policies[policy_id] = replace(policy, state="cancelled", ends=world.today)
    return world.policies[policy_id]


def _has_open(world: Insurer, policy_id: str) -> bool:
    claims = world.claims.values()
    return any(one.policy_id == policy_id and one.state == "open" for one in claims)


@tool("Add drivers to a car's policy.", "为车险保单添加驾驶人。", writes=True,
      errors=("not_found", "not_active", "not_a_car"))  # fmt: skip
def add_drivers(world: Insurer, policy_id: PolicyId, drivers: Drivers) -> Policy:
    """Let more people drive."""
    policy = _active(world, policy_id)
    check(policy.cover == "car", "not_a_car", f"This is a policy of the kind {policy.cover}.")
    drivers = sorted({*policy.drivers, *drivers})
    world.policies[policy_id] = replace(policy, drivers=tuple(drivers))
    return world.policies[policy_id]


@tool("File a claim for something that happened. Returns the claim.", "提交理赔，返回理赔记录。",
      writes=True, errors=("not_found", "not_active", "in_the_future", "not_covered"))  # fmt: skip
def file_claim(
    world: Insurer, policy_id: PolicyId, cause: Cause, happened: Happened, amount: Amount
) -> Claim:
    """Write down what is covered."""
    policy = _active(world, policy_id)
    check(happened <= world.today, "in_the_future", "That day has not come yet.")
    check(cause in COVERED[policy.cover], "not_covered", f"{cause} is not covered.")
    return _add_claim(world, policy_id, cause, happened, amount, "open")


@tool("List the claims of a policy, the latest first.", "列出保单的理赔，最新的在前。",
      errors=("not_found",))  # fmt: skip
def policy_claims(world: Insurer, policy_id: PolicyId) -> list[Claim]:
    """Return at most five."""
    find(world.policies, policy_id, "policy")
    found = [one for one in world.claims.values() if one.policy_id == policy_id]
    return sorted(found, key=lambda one: one.happened, reverse=True)[:5]


@tool("Withdraw a claim.", "撤回理赔。", writes=True, errors=("not_found", "withdrawn"))
def withdraw_claim(world: Insurer, claim_id: ClaimId) -> Claim:
    """Take a claim back."""
    claim = _open(world, claim_id)
    world.claims[claim_id] = replace(claim, state="withdrawn")
    return world.claims[claim_id]


@tool("Find repair shops by name.", "按名称查找维修店。")
def find_shops(world: Insurer, name: Shop | None = None) -> list[Workshop]:
    """Return at most five."""
    return [one for one in world.shops.values() if has(name, one.name)][:5]


@tool("Have a repair shop of the right trade deal with a claim.", "把理赔交给对口的维修店处理。",
      writes=True, errors=("not_found", "withdrawn", "wrong_trade"))  # fmt: skip
def send_to_shop(world: Insurer, claim_id: ClaimId, shop_id: ShopId) -> Claim:
    """Choose who repairs."""
    claim, shop = _open(world, claim_id), find(world.shops, shop_id, "shop")
    cover = world.policies[claim.policy_id].cover
    check(cover == shop.trade, "wrong_trade", f"This shop is for {shop.trade} insurances.")
    world.claims[claim_id] = replace(claim, shop_id=shop_id)
    return world.claims[claim_id]


# --- what users want -----------------------------------------------------------------------------


def _of(world: Insurer, policy: Policy) -> tuple[dict[str, Fact], dict[str, Fact]]:
    """Return how a holder names a policy, and what tells apart holders of the same name."""
    holder, cover = world.holders[policy.holder_id], COVERS[policy.cover]
    facts = told(name=holder.name, cover=Fact("cover", policy.cover, cover))
    return facts, told(email=holder.email)


def _policy_goal(
    world: Insurer, tool_name: str, found: list[Policy], rng: Random, **more: Fact
) -> Goal | None:
    """Return a call on one of some policies, whose other arguments are the facts."""
    if not found:
        return None
    policy = rng.choice(found)
    arguments = {name: fact.value for name, fact in more.items()}
    facts, clues = _of(world, policy)
    call = Call(tool_name, {"policy_id": policy.id, **arguments})
    return Goal((call,), {**facts, **more}, clues)


@intent(
    en=("When does my {cover} end? I'm {name}.", "{name}, {cover}: until when am I insured?",
        "How long does the {cover} of {name} still run, and what do I pay?"),
    zh=("我是{name}，我的{cover}什么时候到期？", "{name}的{cover}到哪天？保费多少？"),
    reply_en=("Your {cover} runs until {result.ends} and costs {result.premium} a year.",),
    reply_zh=("{cover}到{result.ends}为止，每年保费{result.premium}。",),
)  # fmt: skip
def ask_end(world: Insurer, rng: Random) -> Goal | None:
    """Learn how long a policy runs."""
    return _policy_goal(world, "get_policy", list(world.policies.values()), rng)


@intent(
    en=("What would a {cover} for {value} cost with an excess of {excess}?",
        "Quote please: {cover}, value {value}[, excess {excess}].",
        "I'm thinking about a {cover}. It's worth {value}[ and I'd pay the first {excess}]."),
    zh=("{cover}保{value}，免赔额{excess}，一年多少钱？",
        "{cover}报个价，保额{value}[，免赔{excess}]。"),
    reply_en=("That would be {result.premium} a year.", "The premium is {result.premium} a year."),
    reply_zh=("每年保费{result.premium}。",),
)  # fmt: skip
def ask_premium(_: Insurer, rng: Random) -> Goal:
    """Learn what an insurance costs."""
    numbers = {"value": rng.randint(20, 400) * 100, "excess": rng.choice((100, 150, 300, 500))}
    cover = rng.choice(get_args(Kind))
    facts = told(cover=Fact("cover", cover, COVERS[cover]), **numbers)
    return Goal((Call("quote_premium", {"cover": cover, **numbers}),), facts)


@intent(
    en=("Renew the {cover} of {name} for {years} years.", "{name}: renew {cover}[, {years} years].",
        "My {cover} ends soon, please prolong it[ for {years} years] - {name}."),
    zh=("给{name}的{cover}续保{years}年。", "我是{name}，{cover}快到期了，续[{years}年]吧。"),
    reply_en=("Your {cover} now runs until {result.ends}.",),
    reply_zh=("{cover}已续到{result.ends}。",),
)  # fmt: skip
def renew(world: Insurer, rng: Random) -> Goal | None:
    """Renew a policy that ends soon."""
    years, last = Fact("years", rng.randint(2, 5)), date.fromisoformat(world.today) + timedelta(60)
    found = [one for one in world.policies.values() if one.ends <= str(last)]
    return _policy_goal(world, "renew_policy", found, rng, years=years)


@intent(
    en=("Cancel the {cover} of {name}.", "I sold it, so no more {cover} for me. {name}.",
        "{name} here, I don't need the {cover} any longer."),
    zh=("取消{name}的{cover}。", "我是{name}，{cover}不要了。"),
    reply_en=("Your {cover} is cancelled and ends on {result.ends}.",),
    reply_zh=("{cover}已取消，{result.ends}终止。",),
)  # fmt: skip
def cancel(world: Insurer, rng: Random) -> Goal | None:
    """Cancel a policy without open claims."""
    found = [one for one in world.policies.values() if not _has_open(world, one.id)]
    return _policy_goal(world, "cancel_policy", found, rng)


@intent(
    en=("Please end my {cover} today. My name is {name}.", "{name}: cancel {cover}.",
        "I found a cheaper {cover}, cancel yours. {name}."),
    zh=("请今天就终止{name}的{cover}。", "我是{name}，找到更便宜的{cover}了，请取消。"),
    reply_en=("The {cover} cannot be cancelled while a claim is open.",),
    reply_zh=("{cover}还有未结的理赔，不能取消。",),
    kind="fails",
)  # fmt: skip
def cancel_open(world: Insurer, rng: Random) -> Goal | None:
    """Cancel a policy with an open claim."""
    found = [one for one in world.policies.values() if _has_open(world, one.id)]
    return _policy_goal(world, "cancel_policy", found, rng)


@intent(
    en=("{drivers} will drive my car too, add them to policy {policy_id}.",
        "Policy {policy_id}: these may drive as well, {drivers}.",
        "Could you put more drivers[ ({drivers})] on {policy_id}?"),
    zh=("保单{policy_id}加上驾驶人{drivers}。", "{policy_id}还有别人开车[：{drivers}]，请加上。"),
    reply_en=("{drivers} may drive now, too.",),
    reply_zh=("已添加驾驶人{drivers}。",),
)  # fmt: skip
def more_drivers(world: Insurer, rng: Random) -> Goal | None:
    """Add drivers to a car."""
    cars = [one for one in world.policies.values() if one.cover == "car"]
    if not cars:
        return None
    car, drivers = (
        rng.choice(cars).id,
        [f"{name} {rng.choice(LAST)}" for name in rng.sample(FIRST, 2)],
    )
    call = Call("add_drivers", {"policy_id": car, "drivers": drivers})
    return Goal((call,), told(policy_id=car, drivers=drivers))


def _event(world: Insurer, rng: Random, *, covered: bool) -> Goal | None:
    policy = rng.choice(list(world.policies.values()))
    cause = rng.choice([c for c in get_args(Trouble) if (c in COVERED[policy.cover]) == covered])
    happened = str(date.fromisoformat(world.today) - timedelta(rng.randint(0, 20)))
    facts = told(cause=Fact("cause", cause, CAUSES[cause]), happened=happened)
    facts["amount"] = Fact("amount", rng.randint(60, 5000) + 0.5)
    return _policy_goal(world, "file_claim", [policy], rng, **facts)


@intent(
    en=("I'm {name}. There was {cause} on {happened}, the damage is {amount}. I have {cover}.",
        "Claim for {name}, {cover}: {cause}[ on {happened}][, {amount}].",
        "My {cover} should pay {amount} for {cause}[, it was on {happened}]. {name}."),
    zh=("我是{name}，{happened}发生{cause}，损失{amount}，有{cover}。",
        "{name}要报案，{cover}，{cause}[，{happened}][，金额{amount}]。"),
    reply_en=("Your claim for {cause} is filed as {result.id}.",),
    reply_zh=("理赔已提交，编号{result.id}。",),
)  # fmt: skip
def claim(world: Insurer, rng: Random) -> Goal | None:
    """File a claim for what is covered."""
    return _event(world, rng, covered=True)


@intent(
    en=("{name} had {cause} on {happened} and wants {amount} from the {cover}.",
        "Please file {cause} under my {cover}: {happened}, {amount}. {name}."),
    zh=("{name}在{happened}遇到{cause}，要{cover}赔{amount}。",
        "请在{name}的{cover}下报{cause}，{happened}，{amount}。"),
    reply_en=("I could not file it: {cover} does not cover {cause}.",),
    reply_zh=("无法提交：{cover}不保{cause}。",),
    kind="fails",
)  # fmt: skip
def claim_not_covered(world: Insurer, rng: Random) -> Goal | None:
    """File a claim for what is not covered."""
    return _event(world, rng, covered=False)


def _claim(world: Insurer, rng: Random, state: ClaimState) -> tuple[Claim, dict[str, Fact]]:
    found = rng.choice([one for one in world.claims.values() if one.state == state])
    return found, told(policy_id=found.policy_id, happened=found.happened)


@intent(
    en=("Forget what I claimed on {policy_id} for {happened}.",
        "Withdraw the claim[ of {happened}] on policy {policy_id}, please.",
        "I don't want to pursue {happened} any more, policy {policy_id}."),
    zh=("撤回保单{policy_id}在{happened}的理赔。", "{policy_id}[{happened}]的那次不索赔了。"),
    reply_en=("The claim of {happened} for {result.amount} is withdrawn.",),
    reply_zh=("{happened}金额{result.amount}的理赔已撤回。",),
)  # fmt: skip
def withdraw(world: Insurer, rng: Random) -> Goal:
    """Withdraw a claim that nobody has decided."""
    found, facts = _claim(world, rng, "open")
    return Goal((Call("withdraw_claim", {"claim_id": found.id}),), facts)


@intent(
    en=("Please take back my claim of {happened}, policy {policy_id}.",
        "{policy_id}: the {happened} claim can be dropped."),
    zh=("请撤销{policy_id}关于{happened}的理赔。", "{happened}的理赔不要了，保单{policy_id}。"),
    reply_en=("The claim of {happened} is approved already; I may not withdraw it.",),
    reply_zh=("{happened}的理赔已批准，不能撤回。",),
    kind="policy",
)  # fmt: skip
def withdraw_approved(world: Insurer, rng: Random) -> Goal:
    """Ask to withdraw what is decided."""
    found, facts = _claim(world, rng, "approved")
    return Goal((Call("policy_claims", {"policy_id": found.policy_id}),), facts)


@intent(
    en=("Let {shop} repair what happened on {happened}, policy {policy_id}.",
        "{policy_id}, the case of {happened}: I'd like {shop} to do it.",
        "Which shop? {shop}, please. It's about {happened}, {policy_id}."),
    zh=("{policy_id}在{happened}的案子请交给{shop}修。",
        "保单{policy_id}，{happened}那次，我选{shop}。"),
    reply_en=("{shop} will deal with the claim of {happened}.",),
    reply_zh=("{happened}的理赔已交给{shop}处理。",),
)  # fmt: skip
def repair(world: Insurer, rng: Random) -> Goal | None:
    """Choose a shop for a claim."""
    shop = rng.choice(list(world.shops.values()))
    theirs = [one.id for one in world.policies.values() if one.cover == shop.trade]
    claims = [one for one in world.claims.values() if one.policy_id in theirs]
    if not claims:
        return None
    found = rng.choice(claims)
    facts = told(policy_id=found.policy_id, happened=found.happened)
    call = Call("send_to_shop", {"claim_id": found.id, "shop_id": shop.id})
    return Goal((call,), {**facts, **told(shop=shop.name)})


DOMAIN = domain_of(
    sys.modules[__name__],
    "an insurance company",
    "一家保险公司",
    seed,
    policies_en=("Never withdraw a claim that has been approved.",),
    policies_zh=("已批准的理赔不得撤回。",),
)
