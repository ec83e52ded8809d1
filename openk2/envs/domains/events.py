"""Concert tickets: shows, venues and their blocks of seats, orders, and gift vouchers."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from random import Random
from typing import Annotated, Literal

from openk2.envs.authoring import has, same, told
from openk2.envs.domain import Call, Fact, Goal, domain_of, intent
from openk2.envs.slots import Slot
from openk2.envs.tool import tool
from openk2.envs.world import World, check, find, new_id

# Slots, rows and requests read best as lists, on as few lines as they need.
# fmt: off
VenueId = Annotated[str, Slot("venue_id", "venue id", "场馆编号", "id", entity="venues")]
ShowId = Annotated[str, Slot("show_id", "show id", "演出编号", "id", entity="shows")]
BlockId = Annotated[str, Slot("block_id", "seat block id", "座位区编号", "id", entity="blocks")]
OrderId = Annotated[str, Slot("order_id", "order number", "订单号", "id", entity="orders")]
Venue = Annotated[str, Slot("venue", "name of the venue", "场馆名称")]
City = Annotated[str, Slot("city", "city", "城市")]
Act = Annotated[str, Slot("act", "who plays", "演出者")]
Day = Annotated[str, Slot("day", "day of the show", "演出日期", "date")]
Doors = Annotated[str, Slot("doors", "time when the doors open", "入场时间", "time")]
ShowState = Annotated[Literal["on_sale", "cancelled", "moved"],
                      Slot("show_state", "state of the show", "演出状态")]
BlockName = Literal["front", "stalls", "balcony", "standing"]
Block = Annotated[BlockName, Slot("block", "block of seats", "座位区")]
NewBlock = Annotated[BlockName, Slot("new_block", "block to change to", "换到的座位区")]
Price = Annotated[float, Slot("price", "price of a ticket", "票价", "money")]
Limit = Annotated[int, Slot("limit", "highest price", "最高票价", "money")]
Tickets = Annotated[int, Slot("tickets", "number of tickets", "票数", "count")]
Buyer = Annotated[str, Slot("buyer", "name of the buyer", "购票人姓名")]
NewBuyer = Annotated[str, Slot("new_buyer", "name of the new owner", "新持票人姓名")]
Email = Annotated[str, Slot("email", "e-mail address", "邮箱地址", "email")]
OrderState = Annotated[Literal["paid", "refunded"],
                       Slot("order_state", "state of the order", "订单状态")]
Way = Literal["app", "post", "box_office"]
Delivery = Annotated[Way, Slot("delivery", "way of delivery", "取票方式")]
NewDelivery = Annotated[Way, Slot("new_delivery", "new way of delivery", "新的取票方式")]


@dataclass(frozen=True, slots=True)
class VenueRow:
    """A house with a stage."""
    id: VenueId
    venue: Venue
    city: City


@dataclass(frozen=True, slots=True)
class Show:
    """An evening."""
    id: ShowId
    act: Act
    day: Day
    doors: Doors
    venue_id: VenueId
    city: City
    state: ShowState = "on_sale"


@dataclass(frozen=True, slots=True)
class BlockRow:
    """Seats of one price in a show."""
    id: BlockId
    show_id: ShowId
    block: Block
    price: Price
    free: int


@dataclass(frozen=True, slots=True)
class Order:
    """Tickets that somebody bought."""
    id: OrderId
    buyer: Buyer
    email: Email
    show_id: ShowId
    act: Act
    block: Block
    tickets: Tickets
    total: float
    delivery: Delivery = "app"
    state: OrderState = "paid"


@dataclass(slots=True)
class BoxOffice(World):
    """Everything there is."""
    venues: dict[str, VenueRow] = field(default_factory=dict[str, VenueRow])
    shows: dict[str, Show] = field(default_factory=dict[str, Show])
    blocks: dict[str, BlockRow] = field(default_factory=dict[str, BlockRow])
    orders: dict[str, Order] = field(default_factory=dict[str, Order])


VENUES = (("Lantern Hall", "Leeds"), ("Teatro Alba", "Seville"), ("Kupolen", "Malmö"),
          ("The Tannery", "Cork"), ("Dockside", "Rotterdam"), ("Blue Barn", "Austin"),
          ("Salle Onyx", "Lyon"), ("云台剧场", "成都"), ("Harbour Dome", "Perth"))
ACTS = ("Glass Animals Choir", "The Mild Winters", "Ruta Norte", "Opal Sisters", "Bassline Botany",
        "Quartet Lumen", "Tin Roof Riot", "Mariam Sol", "Northern Static", "Papa Kombo",
        "The Tall Ships", "回声计划", "Violet Hours")
FIRST = ("Adele", "Bilal", "Carmen", "Duncan", "Elsa", "Fergus", "Gita", "Henrik", "Ilaria", "Jude",
         "Kirsten", "Luis", "Moira", "Nabil", "Olga", "Priscilla")
LAST = ("Amari", "Byrne", "Carvalho", "Dunn", "Espinoza", "Flores", "Grant", "Hruby", "Ismail",
        "Joshi", "Keller", "Lindgren", "Mwangi", "Novotny")
BLOCKS: dict[BlockName, tuple[str, str]] = {"front": ("the front rows", "前排"),
                                            "stalls": ("the stalls", "池座"),
                                            "balcony": ("the balcony", "楼座"),
                                            "standing": ("the standing area", "站席")}
DELIVERIES: dict[Delivery, tuple[str, str]] = {
    "app": ("in the app", "手机电子票"), "post": ("by post", "邮寄"),
    "box_office": ("at the box office", "现场取票")}
MOST = 6
FEE = 3.5


def seed(rng: Random) -> BoxOffice:
    """Make a season; some acts play twice, some buyers have the same name."""
    today = date(2026, 2, 10) + timedelta(days=rng.randrange(260))
    world = BoxOffice(f"{today} 11:15")
    for name, city in rng.sample(VENUES, 4):
        key = new_id(world.venues, "V", name)
        world.venues[key] = VenueRow(key, name, city)
    acts = rng.sample(ACTS, 6)
    for number, act in enumerate((*acts, *rng.sample(acts, rng.randint(0, 2)))):
        venue = list(world.venues.values())[number % 4]
        day, doors = (f"{today + timedelta(days=5 + 3 * number)}",
                      f"{rng.choice((18, 19, 20))}:{rng.choice(('00', '30'))}")
        state: ShowState = "cancelled" if number == 1 else "on_sale"
        key = new_id(world.shows, "S", act, day)
        world.shows[key] = Show(key, act, day, doors, venue.id, venue.city, state)
        for block in rng.sample(list(BLOCKS), 3):
            one = new_id(world.blocks, "B", key, block)
            world.blocks[one] = BlockRow(one, key, block, rng.randint(30, 190) / 2,
                                         rng.choice((0, 2, 9, 40, 77)))
    names = [f"{rng.choice(FIRST)} {rng.choice(LAST)}" for _ in range(7)]
    blocks = list(world.blocks.values())
    for number, block in enumerate(rng.sample(blocks, 8)):
        name = names[number % 7]
        email = f"{name.split()[0].lower()}{rng.randint(10, 99)}@letters.example"
        _sell(world, block, name, email, rng.randint(1, 4), rng.choice(list(DELIVERIES)))
    return world


def _sell(world: BoxOffice, block: BlockRow, buyer: str, email: str, tickets: int,
          delivery: Delivery) -> Order:
    show = world.shows[block.show_id]
    key = new_id(world.orders, "O", block.id, email, tickets)
    total = block.price * tickets + FEE
    world.orders[key] = Order(key, buyer, email, show.id, show.act, block.block, tickets, total,
                              delivery)
    return world.orders[key]


def _block(world: BoxOffice, show_id: str, name: str) -> BlockRow:
    return next(one for one in world.blocks.values() if (one.show_id, one.block) == (show_id, name))


def _paid(world: BoxOffice, order_id: str) -> Order:
    order = find(world.orders, order_id, "order")
    check(order.state == "paid", "already_refunded", "This order has been refunded.")
    return order


# --- tools ---------------------------------------------------------------------------------------


@tool("Find venues by name or city.", "按名称或城市查找场馆。")
def find_venues(world: BoxOffice, venue: Venue | None = None, city: City | None = None
                ) -> list[VenueRow]:
    """Return at most five."""
    return [one for one in world.venues.values() if has(venue, one.venue) and same(city, one.city)]


@tool("Find shows by act, city, day, venue, or several of them.",
      "按演出者、城市、日期、场馆或其中几项查找演出。")
def find_shows(world: BoxOffice, act: Act | None = None, city: City | None = None,
               day: Day | None = None, venue_id: VenueId | None = None) -> list[Show]:
    """Return at most five, the next first."""
    found = [one for one in world.shows.values() if has(act, one.act) and same(city, one.city)
             and same(day, one.day) and same(venue_id, one.venue_id)]
    return sorted(found, key=lambda one: one.day)[:5]


@tool("List the seat blocks of a show, up to a price where one is given.",
      "列出演出的座位区，可限定最高票价。", errors=("not_found",))
def list_blocks(world: BoxOffice, show_id: ShowId, limit: Limit | None = None) -> list[BlockRow]:
    """Return them, the cheapest first."""
    find(world.shows, show_id, "show")
    found = [one for one in world.blocks.values() if one.show_id == show_id
             and one.price <= (limit or one.price)]
    return sorted(found, key=lambda one: one.price)[:5]


@tool("Find orders by buyer, e-mail address, show, or several of them.",
      "按购票人、邮箱、演出或其中几项查找订单。")
def find_orders(world: BoxOffice, buyer: Buyer | None = None, email: Email | None = None,
                show_id: ShowId | None = None) -> list[Order]:
    """Return at most five."""
    return [one for one in world.orders.values() if has(buyer, one.buyer)
            and same(email, one.email) and same(show_id, one.show_id)][:5]


@tool("Work out what a number of tickets in a block costs, the fee included.",
      "计算某座位区若干张票的总价（含手续费）。", errors=("not_found",))
def quote_tickets(world: BoxOffice, block_id: BlockId, tickets: Tickets) -> dict[str, float]:
    """Return the fee and the sum."""
    block = find(world.blocks, block_id, "seat block")
    return {"fee": FEE, "total": block.price * tickets + FEE}


@tool("Buy tickets in a block. Returns the order.", "购买某座位区的票，返回订单。", writes=True,
      errors=("not_found", "not_on_sale", "limit_exceeded", "sold_out"))
def buy_tickets(world: BoxOffice, block_id: BlockId, tickets: Tickets, buyer: Buyer, email: Email,
                delivery: Delivery = "app") -> Order:
    """Sell seats that are free."""
    block = find(world.blocks, block_id, "seat block")
    check(world.shows[block.show_id].state == "on_sale", "not_on_sale", "This show is not on sale.")
    check(tickets <= MOST, "limit_exceeded", f"One order has at most {MOST} tickets.")
    check(tickets <= block.free, "sold_out", f"There are only {block.free} seats left.")
    world.blocks[block_id] = replace(block, free=block.free - tickets)
    return _sell(world, block, buyer, email, tickets, delivery)


@tool("Refund an order of a show that was cancelled.", "为已取消的演出退款。", writes=True,
      errors=("not_found", "already_refunded", "not_refundable"))
def refund_order(world: BoxOffice, order_id: OrderId) -> Order:
    """Pay back what was paid."""
    order = _paid(world, order_id)
    gone = world.shows[order.show_id].state == "cancelled"
    check(gone, "not_refundable", "The show takes place, so tickets are not refunded.")
    world.orders[order_id] = replace(order, state="refunded")
    return world.orders[order_id]


@tool("Put an order into another person's name.", "把订单转到另一人名下。", writes=True,
      errors=("not_found", "already_refunded"))
def transfer_order(world: BoxOffice, order_id: OrderId, new_buyer: NewBuyer) -> Order:
    """Change whose tickets they are."""
    world.orders[order_id] = replace(_paid(world, order_id), buyer=new_buyer)
    return world.orders[order_id]


@tool("Move an order to another block of the same show; the total changes with it.",
      "把订单换到同一演出的另一座位区，总价随之变化。", writes=True,
      errors=("not_found", "already_refunded", "no_such_block", "sold_out"))
def change_block(world: BoxOffice, order_id: OrderId, new_block: NewBlock) -> Order:
    """Give other seats."""
    order = _paid(world, order_id)
    there = {one.block for one in world.blocks.values() if one.show_id == order.show_id}
    check(new_block in there, "no_such_block", "This show has no such block.")
    old, new = _block(world, order.show_id, order.block), _block(world, order.show_id, new_block)
    check(order.tickets <= new.free, "sold_out", f"There are only {new.free} seats left.")
    world.blocks[old.id] = replace(old, free=old.free + order.tickets)
    world.blocks[new.id] = replace(new, free=new.free - order.tickets)
    total = new.price * order.tickets + FEE
    world.orders[order_id] = replace(order, block=new_block, total=total)
    return world.orders[order_id]


@tool("Change how the tickets of an order are delivered.", "更改订单的取票方式。", writes=True,
      errors=("not_found", "already_refunded", "too_late"))
def change_delivery(world: BoxOffice, order_id: OrderId, new_delivery: NewDelivery) -> Order:
    """Deliver otherwise; the post takes a week."""
    order = _paid(world, order_id)
    days = date.fromisoformat(world.shows[order.show_id].day) - date.fromisoformat(world.today)
    check(new_delivery != "post" or days.days > 7, "too_late", "The post would not arrive in time.")
    world.orders[order_id] = replace(order, delivery=new_delivery)
    return world.orders[order_id]


# --- what users want -----------------------------------------------------------------------------


def _order(world: BoxOffice, rng: Random, cancelled: bool) -> Order | None:
    gone = {one.id for one in world.shows.values() if one.state == "cancelled"}
    found = [one for one in world.orders.values() if (one.show_id in gone) == cancelled]
    return rng.choice(found) if found else None


def _about(order: Order, *calls: Call, **more: Fact | str) -> Goal:
    return Goal(calls, told(buyer=order.buyer, act=order.act, **more), told(email=order.email))


def _seats(world: BoxOffice, rng: Random, low: int, high: int) -> tuple[BlockRow, Show] | None:
    on_sale = {one.id for one in world.shows.values() if one.state == "on_sale"}
    found = [one for one in world.blocks.values() if low <= one.free <= high
             and one.show_id in on_sale]
    if not found:
        return None
    block = rng.choice(found)
    return block, world.shows[block.show_id]


def _named(block: BlockRow, show: Show) -> dict[str, Fact]:
    return told(act=show.act, city=show.city, block=Fact("block", block.block, BLOCKS[block.block]))


def _buying(world: BoxOffice, rng: Random, low: int, high: int, tickets: int) -> Goal | None:
    pair, name = _seats(world, rng, low, high), f"{rng.choice(FIRST)} {rng.choice(LAST)}"
    if pair is None:
        return None
    delivery, email = rng.choice(list(DELIVERIES)), f"{name.split()[1].lower()}@letters.example"
    values = {"tickets": tickets, "buyer": name, "email": email}
    call = Call("buy_tickets", {"block_id": pair[0].id, **values, "delivery": delivery})
    words = told(**values, delivery=Fact("delivery", delivery, DELIVERIES[delivery]))
    return Goal((call,), _named(*pair) | words, told(day=pair[1].day))


@intent(
    en=("{buyer}, {email}: {tickets} tickets for {act} in {city}, {block}, {delivery} please.",
        "Get {buyer} {tickets} x {act}, {city}, {block}[, delivered {delivery}]. E-mail: {email}.",
        "{buyer} here ({email}). {tickets} for {act} in {city}[, in {block}][, {delivery}]?"),
    zh=("我是{buyer}，要{tickets}张{act}在{city}的票，{block}，{delivery}，邮箱{email}。",
        "给{buyer}订{act}{city}场{tickets}张[，{block}][，{delivery}]，邮箱 {email}。"),
    reply_en=("{tickets} tickets for {act} are bought, {result.total} in all; order {result.id}.",),
    reply_zh=("已购{act}的票 {tickets} 张，共 {result.total}，订单号 {result.id}。",),
)
def buy(world: BoxOffice, rng: Random) -> Goal | None:
    """Buy tickets."""
    return _buying(world, rng, 5, 99, rng.randint(1, 5))


REFUND_EN = ("{buyer} wants the money back for {act}.", "Please refund {buyer} for {act}.",
             "I won't see {act}, so: refund, please. {buyer}.")
REFUND_ZH = ("{buyer}看不了{act}了，要退款。", "请给{buyer}退{act}的票款。")


@intent(
    en=REFUND_EN, zh=REFUND_ZH,
    reply_en=("{buyer} gets {result.total} back for {act}.",),
    reply_zh=("{act}的票款 {result.total} 已退给{buyer}。",),
)
def refund(world: BoxOffice, rng: Random) -> Goal | None:
    """Refund an order."""
    order = _order(world, rng, cancelled=True)
    return order and _about(order, Call("refund_order", {"order_id": order.id}))


@intent(
    en=("{buyer} can't go to {act}, {new_buyer} goes instead.",
        "Put {buyer}'s tickets for {act} into the name of {new_buyer}.",
        "I gave my {act} tickets away[, to {new_buyer}]. Change the name please, I'm {buyer}."),
    zh=("{buyer}去不了{act}，票转给{new_buyer}。",
        "把{buyer}的{act}门票改个名字[，改成{new_buyer}]。"),
    reply_en=("The tickets for {act} are in the name of {new_buyer}.",),
    reply_zh=("{act}的票已转到{new_buyer}名下。",),
)
def hand_on(world: BoxOffice, rng: Random) -> Goal | None:
    """Transfer an order."""
    order, name = _order(world, rng, cancelled=False), f"{rng.choice(FIRST)} {rng.choice(LAST)}"
    if order is None or name == order.buyer:
        return None
    return _about(order, Call("transfer_order", {"order_id": order.id, "new_buyer": name}),
                  new_buyer=name)


SEATS_EN = ("{buyer} would like to sit in {new_block} at {act}.",
            "Swap {buyer}'s seats for {act}[ to {new_block}].",
            "Can I change to {new_block} for {act}? {buyer}. What's the new total?")
SEATS_ZH = ("{buyer}看{act}想换到{new_block}。", "把{buyer}的{act}座位换一下[，换到{new_block}]。")


@intent(
    en=SEATS_EN, zh=SEATS_ZH,
    reply_en=("{buyer} has {new_block} for {act}; the total is {result.total}.",),
    reply_zh=("{buyer}的{act}座位已换到{new_block}，总价 {result.total}。",),
)
def change_seats(world: BoxOffice, rng: Random) -> Goal | None:
    """Move an order to another block."""
    return _changing(world, rng, enough=True)


def _changing(world: BoxOffice, rng: Random, enough: bool) -> Goal | None:
    order = _order(world, rng, cancelled=False)
    found = [one for one in world.blocks.values() if order and one.show_id == order.show_id
             and one.block != order.block and (one.free >= order.tickets) == enough]
    if order is None or not found:
        return None
    block = rng.choice(found).block
    call = Call("change_block", {"order_id": order.id, "new_block": block})
    return _about(order, call, new_block=Fact("new_block", block, BLOCKS[block]))


@intent(
    en=("{buyer} wants the tickets for {act} {delivery}.",
        "Send {buyer} the {act} tickets[ {delivery}] instead.",
        "Delivery of {buyer}'s {act} order should be {delivery}."),
    zh=("{buyer}的{act}门票改为{delivery}。", "{buyer}想换{act}的取票方式[，{delivery}]。"),
    reply_en=("{buyer} gets the tickets for {act} {delivery}.",),
    reply_zh=("{buyer}的{act}门票将以{delivery}方式交付。",),
)
def deliver(world: BoxOffice, rng: Random) -> Goal | None:
    """Change the delivery."""
    order, delivery = _order(world, rng, cancelled=False), rng.choice(("app", "box_office"))
    if order is None or order.delivery == delivery:
        return None
    call = Call("change_delivery", {"order_id": order.id, "new_delivery": delivery})
    return _about(order, call, delivery=Fact("new_delivery", delivery, DELIVERIES[delivery]))


@intent(
    en=("{buyer} passes tickets for {act} on to {new_buyer}, delivered {delivery}.",
        "Transfer {buyer}'s {act} order to {new_buyer} and deliver it {delivery}."),
    zh=("{buyer}把{act}的票转给{new_buyer}，取票方式改为{delivery}。",
        "{buyer}的{act}订单转到{new_buyer}名下，并改为{delivery}。"),
    reply_en=("{new_buyer} has the tickets for {act}, delivered {delivery}.",),
    reply_zh=("{act}的票已归{new_buyer}，取票方式：{delivery}。",),
)
def hand_on_and_deliver(world: BoxOffice, rng: Random) -> Goal | None:
    """Transfer an order and change its delivery."""
    order, name = _order(world, rng, cancelled=False), f"{rng.choice(FIRST)} {rng.choice(LAST)}"
    delivery: Delivery = "app" if order and order.delivery != "app" else "box_office"
    if order is None or name == order.buyer:
        return None
    transfer = Call("transfer_order", {"order_id": order.id, "new_buyer": name})
    change = Call("change_delivery", {"order_id": order.id, "new_delivery": delivery})
    words = Fact("new_delivery", delivery, DELIVERIES[delivery])
    return _about(order, transfer, change, new_buyer=name, delivery=words)


@intent(
    en=("How much are {tickets} tickets for {act} in {city}, {block}? With the fee, please.",
        "Price for {tickets} in {block}, {act}, {city}? And the fee?",
        "What would {tickets} seats for {act} in {city} cost[ in {block}], and the fee?"),
    zh=("{act}在{city}的{block}，{tickets}张多少钱，含多少手续费？",
        "{city}场{act}，{tickets}张票总价和手续费是多少[，{block}]？"),
    reply_en=("{tickets} tickets cost {result.total}, of which {result.fee} is the fee.",),
    reply_zh=("{tickets} 张共 {result.total}，其中手续费 {result.fee}。",),
)
def ask_price(world: BoxOffice, rng: Random) -> Goal | None:
    """Learn what tickets cost."""
    pair, tickets = _seats(world, rng, 0, 99), rng.randint(2, 6)
    if pair is None:
        return None
    call = Call("quote_tickets", {"block_id": pair[0].id, "tickets": tickets})
    return Goal((call,), _named(*pair) | told(tickets=tickets), told(day=pair[1].day))


@intent(
    en=("Who plays at {venue}, and when?", "What's on at {venue}?",
        "Show me the programme of {venue} with the days."),
    zh=("{venue}有哪些演出，什么时候？", "查一下{venue}的节目和日期。"),
    reply_en=("At {venue}: {rows.act}, on {rows.day}.",),
    reply_zh=("{venue}的演出：{rows.act}，日期 {rows.day}。",),
)
def ask_programme(world: BoxOffice, rng: Random) -> Goal:
    """Learn what is on in a venue."""
    venue = rng.choice(list(world.venues.values()))
    return Goal((Call("find_shows", {"venue_id": venue.id}),), told(venue=venue.venue))


@intent(
    en=REFUND_EN, zh=REFUND_ZH,
    reply_en=("{act} takes place, so the tickets of {buyer} can't be refunded.",),
    reply_zh=("{act}照常演出，{buyer}的票不能退。",), kind="fails",
)
def refund_too_soon(world: BoxOffice, rng: Random) -> Goal | None:
    """Refund a show that takes place."""
    order = _order(world, rng, cancelled=False)
    return order and _about(order, Call("refund_order", {"order_id": order.id}))


@intent(
    en=SEATS_EN, zh=SEATS_ZH,
    reply_en=("There are not enough seats left in {new_block} for {act}.",),
    reply_zh=("{act}的{new_block}余票不足，无法换座。",), kind="fails",
)
def change_to_sold_out(world: BoxOffice, rng: Random) -> Goal | None:
    """Move an order where seats are short."""
    return _changing(world, rng, enough=False)


@intent(
    en=("I resell tickets and need {tickets} for {act} in {city}. Split the order if you must.",
        "{tickets} tickets for {act}, {city}, in several orders please."),
    zh=("我要转卖，需要{tickets}张{act}在{city}的票，分几单买也行。",
        "分成几单买{tickets}张{act}在{city}的票。"),
    reply_en=("I may not split orders, so {tickets} tickets for {act} are not possible.",),
    reply_zh=("不能拆单绕过限购，无法购买{tickets}张{act}的票。",), kind="policy",
)
def buy_a_pile(world: BoxOffice, rng: Random) -> Goal:
    """Ask to get around the limit."""
    show = rng.choice(list(world.shows.values()))
    return Goal((), told(act=show.act, city=show.city, tickets=rng.randint(8, 40)))


DOMAIN = domain_of(
    sys.modules[__name__], "a seller of concert tickets", "演出票务", seed,
    policies_en=("Never split a purchase into several orders to get around the limit.",),
    policies_zh=("不得把一次购买拆成多个订单以绕过限购。",),
)
