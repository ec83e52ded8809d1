"""A parcel service: parcels, depots, couriers, routes and claims."""

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

ParcelId = Annotated[str, Slot("parcel_id", "parcel id", "包裹编号", "id", entity="parcels")]
DepotId = Annotated[str, Slot("depot_id", "depot id", "网点编号", "id", entity="depots")]
OriginId = Annotated[
    str, Slot("origin_id", "origin depot id", "始发网点编号", "id", entity="depots")
]
TargetId = Annotated[
    str, Slot("target_id", "target depot id", "目的网点编号", "id", entity="depots")
]
CourierId = Annotated[str, Slot("courier_id", "courier id", "快递员编号", "id", entity="couriers")]
RouteId = Annotated[str, Slot("route_id", "route id", "线路编号", "id", entity="routes")]
Tracking = Annotated[str, Slot("tracking", "tracking number", "运单号")]
Recipient = Annotated[str, Slot("recipient", "recipient", "收件人")]
City = Annotated[str, Slot("city", "city of the depot", "网点城市")]
CourierName = Annotated[str, Slot("courier", "name of the courier", "快递员姓名")]
Kilos = Annotated[int, Slot("kilos", "weight in kilograms", "重量（公斤）", "count")]
Day = Annotated[str, Slot("deliver_on", "delivery day", "派送日期", "date")]
Express = Annotated[bool, Slot("express", "speed", "速度")]
StateName = Literal["stored", "on_the_road", "delivered", "cancelled"]
State = Annotated[StateName, Slot("state", "state of the parcel", "包裹状态")]
ProblemName = Literal["damaged", "missing", "wet", "wrong_item"]
Problem = Annotated[ProblemName, Slot("problem", "problem", "问题")]


@dataclass(frozen=True, slots=True)
class Parcel:
    """Something on its way."""

    id: ParcelId
    tracking: Tracking
    recipient: Recipient
    depot_id: DepotId
    kilos: int
    deliver_on: str
    state: State = "stored"
    insured: bool = False
    courier_id: CourierId = ""


@dataclass(frozen=True, slots=True)
class Depot:
    """Where parcels wait."""

    id: DepotId
    city: City


@dataclass(frozen=True, slots=True)
class Courier:
    """Somebody who delivers from one depot, up to a weight."""

    id: CourierId
    courier: CourierName
    depot_id: DepotId
    max_kilos: int


@dataclass(frozen=True, slots=True)
class Route:
    """A way from depot to depot."""

    id: RouteId
    origin_id: OriginId
    target_id: TargetId
    hours: int
    price_per_kilo: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A complaint about a parcel."""

    id: str
    parcel_id: ParcelId
    problem: Problem


@dataclass(slots=True)
class Post(World):
    """Everything there is."""

    parcels: dict[str, Parcel] = field(default_factory=dict[str, Parcel])
    depots: dict[str, Depot] = field(default_factory=dict[str, Depot])
    couriers: dict[str, Courier] = field(default_factory=dict[str, Courier])
    routes: dict[str, Route] = field(default_factory=dict[str, Route])
    claims: dict[str, Claim] = field(default_factory=dict[str, Claim])


CITIES = (
    "Porto", "Ghent", "Tampere", "Brno", "Bologna", "Cork", "Graz", "Lund", "Nantes", "Izmir",
    "Recife", "Kumasi", "Pune", "Busan", "Suzhou", "Leeds", "Zadar", "Tartu",
)  # fmt: skip
COURIERS = (
    "Rafiq", "Solveig", "Tomasz", "Umberto", "Violeta", "Wanjiru", "Xiomara", "Yusuf", "Zlata",
    "Anouk", "Bram", "Carmelo", "Desta", "Enzo",
)  # fmt: skip
FIRST = ("Aino", "Boris", "Chiara", "Dov", "Esme", "Faisal", "Greta", "Hugo", "Isla", "Jovan",
         "Kaya", "Lidia", "Mauro", "Nour", "Oskar", "Paola")  # fmt: skip
LAST = ("Adeyemi", "Bauer", "Cruz", "Duval", "Endo", "Farkas", "Gill", "Horvat", "Imai", "Jansen",
        "Kirk", "Lemaire", "Mbeki", "Novotny")  # fmt: skip
SPEEDS = {True: ("express", "加急"), False: ("standard", "普通")}
PROBLEMS: dict[ProblemName, tuple[str, str]] = {
    "damaged": ("damaged", "破损"), "missing": ("missing", "丢失"), "wet": ("wet", "受潮"),
    "wrong_item": ("not what was ordered", "发错货"),
}  # fmt: skip
HEAVIEST = 30


def seed(rng: Random) -> Post:
    """Make four depots with parcels of the next days; one recipient may get several."""
    world = Post(f"{date(2026, 1, 8) + timedelta(days=rng.randrange(300))} 05:30")
    for city in rng.sample(CITIES, 4):
        key = new_id(world.depots, "D", city)
        world.depots[key] = Depot(key, city)
    depots = list(world.depots)
    for number, name in enumerate(rng.sample(COURIERS, 6)):
        key = new_id(world.couriers, "C", name)
        world.couriers[key] = Courier(key, name, depots[number % 4], rng.choice((10, 20, 40)))
    for origin, target in ((a, b) for a in depots for b in depots if a != b):
        key = new_id(world.routes, "R", origin, target)
        world.routes[key] = Route(key, origin, target, rng.randint(4, 60), rng.randint(1, 6))
    people = [f"{rng.choice(FIRST)} {rng.choice(LAST)}" for _ in range(9)]
    for number in range(14):
        tracking = f"{rng.choice('BKTX')}{rng.choice('LMZ')}{rng.randrange(10**6, 10**7)}"
        key, name, kilos = (
            new_id(world.parcels, "P", tracking),
            rng.choice(people),
            rng.randint(1, 30),
        )
        depot, state = rng.choice(depots), "on_the_road" if number % 3 == 2 else "stored"
        day, insured = _day(world, rng), number % 4 == 0
        world.parcels[key] = Parcel(key, tracking, name, depot, kilos, day, state, insured)
    for parcel in rng.sample(list(world.parcels), 3):
        _claim(world, parcel, rng.choice(list(PROBLEMS)))
    return world


def _day(world: Post, rng: Random) -> str:
    return str(date.fromisoformat(world.today) + timedelta(days=rng.randint(1, 20)))


def _claim(world: Post, parcel_id: str, problem: ProblemName) -> Claim:
    key = new_id(world.claims, "Q", parcel_id, problem)
    world.claims[key] = Claim(key, parcel_id, problem)
    return world.claims[key]


def _stored(world: Post, parcel_id: str) -> Parcel:
    parcel = find(world.parcels, parcel_id, "parcel")
    check(parcel.state == "stored", "not_stored", f"The parcel is {parcel.state}.")
    return parcel


def _check_day(world: Post, day: str) -> None:
    check(day > world.today, "too_early", "Tomorrow is the earliest delivery day.")


# --- tools ---------------------------------------------------------------------------------------


@tool("Show the parcel of a tracking number.", "按运单号查看包裹。", errors=("not_found",))
def track(world: Post, tracking: Tracking) -> Parcel:
    """Return the parcel."""
    found = [one for one in world.parcels.values() if one.tracking == tracking]
    check(bool(found), "not_found", "No parcel has that tracking number.")
    return found[0]


@tool("Find parcels by recipient and state.", "按收件人和状态查找包裹。")
def find_parcels(world: Post, recipient: Recipient, state: State | None = None) -> list[Parcel]:
    """Return at most five, the earliest delivery first."""
    parcels = [one for one in world.parcels.values() if has(recipient, one.recipient)]
    return sorted((p for p in parcels if same(state, p.state)), key=lambda p: p.deliver_on)[:5]


@tool("Find depots by city.", "按城市查找网点。")
def find_depots(world: Post, city: City) -> list[Depot]:
    """Return at most five."""
    return [depot for depot in world.depots.values() if has(city, depot.city)][:5]


@tool("List the parcels that wait in a depot, the heaviest first.", "按重量列出网点待派送的包裹。",
      errors=("not_found",))  # fmt: skip
def depot_parcels(world: Post, depot_id: DepotId) -> list[Parcel]:
    """Return at most five."""
    find(world.depots, depot_id, "depot")
    there = [p for p in world.parcels.values() if p.depot_id == depot_id and p.state == "stored"]
    return sorted(there, key=lambda parcel: (-parcel.kilos, parcel.tracking))[:5]


@tool("List couriers by name, depot, or both.", "按姓名、网点或两者列出快递员。")
def list_couriers(
    world: Post, courier: CourierName | None = None, depot_id: DepotId | None = None
) -> list[Courier]:
    """Return at most five."""
    couriers = [one for one in world.couriers.values() if has(courier, one.courier)]
    return [one for one in couriers if same(depot_id, one.depot_id)][:5]


@tool("Find the routes from one depot to another.", "查找两个网点之间的线路。")
def find_routes(world: Post, origin_id: OriginId, target_id: TargetId) -> list[Route]:
    """Return at most five."""
    routes = [one for one in world.routes.values() if one.origin_id == origin_id]
    return [one for one in routes if one.target_id == target_id][:5]


@tool("Tell price and hours of a shipment; express costs double and halves the time.",
      "计算运费和时长；加急价格翻倍、时长减半。", errors=("not_found", "too_heavy"))  # fmt: skip
def quote(world: Post, route_id: RouteId, kilos: Kilos, express: Express = False) -> dict[str, int]:
    """Return both."""
    route = find(world.routes, route_id, "route")
    check(kilos <= HEAVIEST, "too_heavy", f"A parcel weighs at most {HEAVIEST} kg.")
    price = 4 + route.price_per_kilo * kilos
    return {"price": price * (1 + express), "hours": route.hours // (1 + express)}


@tool("Accept a parcel at a depot. Returns it.", "在网点收件，返回包裹。", writes=True,
      errors=("not_found", "too_heavy", "too_early"))  # fmt: skip
def accept_parcel(
    world: Post, recipient: Recipient, depot_id: DepotId, kilos: Kilos, deliver_on: Day
) -> Parcel:
    """Add a parcel."""
    find(world.depots, depot_id, "depot")
    check(kilos <= HEAVIEST, "too_heavy", f"A parcel weighs at most {HEAVIEST} kg.")
    _check_day(world, deliver_on)
    key = new_id(world.parcels, "P", recipient, depot_id, kilos, deliver_on)
    world.parcels[key] = Parcel(key, f"NW{key[1:]}", recipient, depot_id, kilos, deliver_on)
    return world.parcels[key]


@tool("Send a stored parcel to another depot.", "把在库包裹转到另一个网点。", writes=True,
      errors=("not_found", "not_stored", "already_there"))  # fmt: skip
def redirect(world: Post, parcel_id: ParcelId, depot_id: DepotId) -> Parcel:
    """Change the depot of a parcel; its courier stays behind."""
    parcel = _stored(world, parcel_id)
    find(world.depots, depot_id, "depot")
    check(parcel.depot_id != depot_id, "already_there", "The parcel is in that depot.")
    world.parcels[parcel_id] = replace(parcel, depot_id=depot_id, courier_id="")
    return world.parcels[parcel_id]


@tool("Change the delivery day of a stored parcel.", "更改在库包裹的派送日期。", writes=True,
      errors=("not_found", "not_stored", "too_early"))  # fmt: skip
def postpone(world: Post, parcel_id: ParcelId, deliver_on: Day) -> Parcel:
    """Change when a parcel is delivered."""
    parcel = _stored(world, parcel_id)
    _check_day(world, deliver_on)
    world.parcels[parcel_id] = replace(parcel, deliver_on=deliver_on)
    return world.parcels[parcel_id]


@tool("Give a stored parcel to a courier of its depot.", "把在库包裹交给本网点的快递员。",
      writes=True, errors=("not_found", "not_stored", "wrong_depot", "too_heavy"))  # fmt: skip
def hand_over(world: Post, parcel_id: ParcelId, courier_id: CourierId) -> Parcel:
    """Set the courier of a parcel."""
    parcel, courier = _stored(world, parcel_id), find(world.couriers, courier_id, "courier")
    check(parcel.depot_id == courier.depot_id, "wrong_depot", "The courier works elsewhere.")
    check(parcel.kilos <= courier.max_kilos, "too_heavy", f"{courier.courier} cannot carry it.")
    world.parcels[parcel_id] = replace(parcel, courier_id=courier_id)
    return world.parcels[parcel_id]


@tool("Open a claim for a parcel. Returns the claim.", "为包裹提交理赔，返回该理赔。", writes=True,
      errors=("not_found",))  # fmt: skip
def open_claim(world: Post, parcel_id: ParcelId, problem: Problem) -> Claim:
    """Add a claim."""
    find(world.parcels, parcel_id, "parcel")
    return _claim(world, parcel_id, problem)


# --- what users want -----------------------------------------------------------------------------


def _about(parcel: Parcel, *calls: Call, **facts: Json) -> Goal:
    """Make a goal about a parcel that its number names."""
    return Goal(calls, told(tracking=parcel.tracking, **facts))


def _parcel(world: Post, rng: Random, state: StateName, *, insured: bool = False) -> Parcel:
    parcels = [p for p in world.parcels.values() if p.state == state]
    return rng.choice([p for p in parcels if p.insured <= insured])


def _redirected(world: Post, rng: Random, parcel: Parcel) -> Goal:
    depot = rng.choice([one for one in world.depots.values() if one.id != parcel.depot_id])
    call = Call("redirect", {"parcel_id": parcel.id, "depot_id": depot.id})
    return _about(parcel, call, city=depot.city)


def _given(world: Post, rng: Random, *, fitting: bool) -> Goal | None:
    """Give a parcel to a courier who can take it, or to one of another depot."""
    parcel = _parcel(world, rng, "stored", insured=True)
    couriers = [c for c in world.couriers.values() if (c.depot_id == parcel.depot_id) == fitting]
    able = [one for one in couriers if parcel.kilos <= one.max_kilos or not fitting]
    if not able:
        return None
    courier = rng.choice(able)
    call = Call("hand_over", {"parcel_id": parcel.id, "courier_id": courier.id})
    return _about(parcel, call, courier=courier.courier)


@intent(
    en=("Where is {tracking}?", "I'm waiting for {tracking}. When does it come?",
        "Status of {tracking}, please.", "Can you look up {tracking} for me?"),
    zh=("{tracking}到哪了？", "查一下{tracking}，什么时候送到？"),
    reply_en=("{tracking} is {result.state}; delivery is on {result.deliver_on}.",),
    reply_zh=("{tracking}的状态是{result.state}，派送日期{result.deliver_on}。",),
)  # fmt: skip
def ask_status(world: Post, rng: Random) -> Goal:
    """Learn where a parcel is."""
    parcel = rng.choice(list(world.parcels.values()))
    return _about(parcel, Call("track", {"tracking": parcel.tracking}))


@intent(
    en=("What waits in the {city} depot?", "Heaviest parcels in {city}?",
        "Give me the parcels stored in {city}."),
    zh=("{city}网点有哪些包裹？", "列出{city}最重的在库包裹。"),
    reply_en=("Waiting in {city}: {count}, namely {rows.tracking}.",),
    reply_zh=("{city}有{count}个：{rows.tracking}。",),
)  # fmt: skip
def ask_depot(world: Post, rng: Random) -> Goal:
    """Learn what a depot holds."""
    depot = world.depots[_parcel(world, rng, "stored").depot_id]
    return Goal((Call("depot_parcels", {"depot_id": depot.id}),), told(city=depot.city))


@intent(
    en=("What does {kilos} kg from {city} to {to_city} cost[, {express}]?",
        "I'd like to send something, {express}, {kilos} kilos: {city} to {to_city}. Price?",
        "Quote for {city} – {to_city}[, {kilos} kg], {express}."),
    zh=("从{city}寄到{to_city}，{kilos}公斤[，{express}]，多少钱？",
        "{kilos}公斤{express}件，{city}到{to_city}运费多少？"),
    reply_en=("That costs {result.price} and takes {result.hours} hours.",),
    reply_zh=("运费{result.price}，需要{result.hours}小时。",),
)  # fmt: skip
def ask_price(world: Post, rng: Random) -> Goal:
    """Learn what a shipment costs."""
    route, kilos = rng.choice(list(world.routes.values())), rng.randint(1, HEAVIEST)
    express, depots = rng.random() < 0.5, world.depots
    to_city = Fact("city", depots[route.target_id].city)
    facts = told(city=depots[route.origin_id].city, to_city=to_city, kilos=kilos)
    facts["express"] = Fact("express", express, SPEEDS[express])
    call = Call("quote", {"route_id": route.id, "kilos": kilos, "express": express})
    return Goal((call,), facts)


@intent(
    en=("Accept a parcel for {recipient} in {city}: {kilos} kg, delivery {deliver_on}.",
        "New parcel at {city}[, {kilos} kilos], to {recipient}[, for {deliver_on}].",
        "Someone in {city} drops off {kilos} kg for {recipient}[; deliver it on {deliver_on}]."),
    zh=("{city}网点收件：收件人{recipient}，{kilos}公斤，{deliver_on}派送。",
        "{city}有个寄给{recipient}的包裹[，{kilos}公斤][，{deliver_on}送]。"),
    reply_en=("The parcel for {recipient} has the number {result.tracking}.",),
    reply_zh=("寄给{recipient}的包裹运单号是{result.tracking}。",),
)  # fmt: skip
def accept(world: Post, rng: Random) -> Goal:
    """Accept a parcel."""
    depot, kilos, day = (
        rng.choice(list(world.depots.values())),
        rng.randint(1, HEAVIEST),
        _day(world, rng),
    )
    person = f"{rng.choice(FIRST)} {rng.choice(LAST)}"
    values = {"recipient": person, "kilos": kilos, "deliver_on": day}
    call = Call("accept_parcel", {**values, "depot_id": depot.id})
    return Goal((call,), told(city=depot.city, **values))


@intent(
    en=("Send {tracking} to {city} instead.", "I moved. Can {tracking} go[ to {city}]?",
        "Redirect {tracking}[ to the depot in {city}]."),
    zh=("把{tracking}转到{city}。", "我搬家了，{tracking}改送[{city}网点]。"),
    reply_en=("{tracking} now goes to {city}.",), reply_zh=("{tracking}已转往{city}。",),
)  # fmt: skip
def move(world: Post, rng: Random) -> Goal:
    """Redirect a parcel that is not insured."""
    return _redirected(world, rng, _parcel(world, rng, "stored"))


@intent(
    en=("Send {tracking} to {city}.", "{tracking} should go to {city}, not here.",
        "Please redirect {tracking} to {city}."),
    zh=("把{tracking}改送到{city}。", "{tracking}请转到{city}网点。"),
    reply_en=("{tracking} has left the depot, so it cannot go to {city}.",),
    reply_zh=("{tracking}已经出库，无法转到{city}。",), kind="fails",
)  # fmt: skip
def move_late(world: Post, rng: Random) -> Goal:
    """Redirect a parcel that is on the road."""
    return _redirected(world, rng, _parcel(world, rng, "on_the_road"))


@intent(
    en=("Redirect {tracking} to {city}.", "I need {tracking} in {city}, please change that.",
        "{tracking} to {city}, quickly."),
    zh=("把{tracking}转到{city}网点。", "{tracking}改到{city}取件。"),
    reply_en=("{tracking} is insured, so I may not send it to {city}.",),
    reply_zh=("{tracking}已保价，不能转到{city}。",), kind="policy",
)  # fmt: skip
def move_insured(world: Post, rng: Random) -> Goal | None:
    """Redirect a parcel that is insured."""
    parcels = [p for p in world.parcels.values() if p.insured and p.state == "stored"]
    if not parcels:
        return None
    parcel = rng.choice(parcels)
    goal = _redirected(world, rng, parcel)
    return Goal((Call("track", {"tracking": parcel.tracking}),), goal.facts)


@intent(
    en=("{recipient} is away: deliver the parcel on {deliver_on}.",
        "The parcel for {recipient} should come later[, on {deliver_on}].",
        "I'm {recipient} and not at home. Bring my parcel[ on {deliver_on}]."),
    zh=("{recipient}不在家，包裹改到{deliver_on}送。",
        "我是{recipient}，我的包裹请晚点送[，{deliver_on}]。"),
    reply_en=("The parcel for {recipient} comes on {deliver_on}.",),
    reply_zh=("{recipient}的包裹改为{deliver_on}派送。",),
)  # fmt: skip
def later(world: Post, rng: Random) -> Goal:
    """Change a delivery day; a person with several parcels knows the number."""
    parcel, day = _parcel(world, rng, "stored", insured=True), _day(world, rng)
    if day <= parcel.deliver_on:
        day = str(date.fromisoformat(parcel.deliver_on) + timedelta(days=3))
    call = Call("postpone", {"parcel_id": parcel.id, "deliver_on": day})
    facts = told(recipient=parcel.recipient, deliver_on=day)
    return Goal((call,), facts, told(tracking=parcel.tracking))


@intent(
    en=("Give {tracking} to {courier}.", "{courier} takes {tracking}.",
        "Who drives? {courier} should have {tracking}."),
    zh=("把{tracking}交给{courier}。", "{tracking}由{courier}派送。"),
    reply_en=("{courier} has {tracking} now.",), reply_zh=("{tracking}已交给{courier}。",),
)  # fmt: skip
def assign(world: Post, rng: Random) -> Goal | None:
    """Give a parcel to a courier."""
    return _given(world, rng, fitting=True)


@intent(
    en=("Let {courier} deliver {tracking}.", "{tracking} is for {courier} today.",
        "Put {tracking} on {courier}'s van."),
    zh=("让{courier}送{tracking}。", "{tracking}安排给{courier}。"),
    reply_en=("{courier} works from another depot and cannot take {tracking}.",),
    reply_zh=("{courier}属于另一个网点，无法派送{tracking}。",), kind="fails",
)  # fmt: skip
def assign_elsewhere(world: Post, rng: Random) -> Goal | None:
    """Give a parcel to a courier of another depot."""
    return _given(world, rng, fitting=False)


@intent(
    en=("My parcel {tracking} is {problem}.", "I have to complain: {tracking} is {problem}!",
        "Something is wrong with {tracking}[, it is {problem}]."),
    zh=("我的包裹{tracking}{problem}了。", "我要投诉，{tracking}有问题[：{problem}]。"),
    reply_en=("A claim is open for {tracking}: {result.id}.",),
    reply_zh=("已为{tracking}提交理赔，编号{result.id}。",),
)  # fmt: skip
def complain(world: Post, rng: Random) -> Goal:
    """Open a claim."""
    parcel, problem = rng.choice(list(world.parcels.values())), rng.choice(list(PROBLEMS))
    call = Call("open_claim", {"parcel_id": parcel.id, "problem": problem})
    return _about(parcel, call, problem=Fact("problem", problem, PROBLEMS[problem]))


DOMAIN = domain_of(
    sys.modules[__name__], "a parcel service", "快递服务", seed,
    policies_en=("Never redirect an insured parcel.",), policies_zh=("不得转寄已保价的包裹。",),
)  # fmt: skip
