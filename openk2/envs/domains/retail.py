"""The service desk of an online shop: customers, orders, their items, refunds and exchanges."""

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

CustomerId = Annotated[
    str, Slot("customer_id", "customer id", "顾客编号", "id", entity="customers")
]
OrderId = Annotated[str, Slot("order_id", "order number", "订单号", "id", entity="orders")]
ItemId = Annotated[str, Slot("item_id", "item id", "订单商品编号", "id", entity="items")]
VariantId = Annotated[str, Slot("variant_id", "variant id", "款式编号", "id", entity="variants")]
RefundId = Annotated[str, Slot("refund_id", "refund id", "退款编号", "id", entity="refunds")]
Name = Annotated[str, Slot("name", "name of the customer", "顾客姓名")]
Email = Annotated[str, Slot("email", "e-mail address", "邮箱地址", "email")]
Ordered = Annotated[str, Slot("ordered", "day of the order", "下单日期", "date")]
Address = Annotated[str, Slot("address", "delivery address", "收货地址")]
Product = Annotated[str, Slot("product", "product", "商品名称")]
Tint = Literal["red", "navy", "olive", "black", "grey", "teal"]
Colour = Annotated[Tint, Slot("colour", "colour", "颜色")]
Price = Annotated[float, Slot("price", "price", "价格", "money")]
Amount = Annotated[float, Slot("amount", "amount", "金额", "money")]
Stock = Annotated[int, Slot("stock", "number in stock", "库存数量")]
Status = Annotated[Literal["placed", "shipped", "delivered", "cancelled"],
                   Slot("status", "status of the order", "订单状态")]  # fmt: skip
State = Annotated[Literal["kept", "returned", "exchanged"], Slot("state", "state", "商品状态")]
Reason = Annotated[Literal["changed_mind", "damaged", "arrived_late"],
                   Slot("reason", "reason", "原因")]  # fmt: skip
Way = Annotated[Literal["card", "store_credit"], Slot("way", "way of the refund", "退款方式")]


@dataclass(frozen=True, slots=True)
class Customer:
    """Somebody with an account."""

    id: CustomerId
    name: Name
    email: Email


@dataclass(frozen=True, slots=True)
class Variant:
    """A product in one colour."""

    id: VariantId
    product: Product
    colour: Colour
    price: Price
    stock: Stock


@dataclass(frozen=True, slots=True)
class Order:
    """What was bought at once."""

    id: OrderId
    customer_id: CustomerId
    ordered: Ordered
    status: Status
    address: Address


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of an order."""

    id: ItemId
    order_id: OrderId
    product: Product
    colour: str
    price: Price
    state: State = "kept"


@dataclass(frozen=True, slots=True)
class Refund:
    """Money given back."""

    id: RefundId
    item_id: ItemId
    amount: Amount
    way: Way
    reason: Reason


@dataclass(slots=True)
class Shop(World):
    """Everything there is."""

    customers: dict[str, Customer] = field(default_factory=dict[str, Customer])
    variants: dict[str, Variant] = field(default_factory=dict[str, Variant])
    orders: dict[str, Order] = field(default_factory=dict[str, Order])
    items: dict[str, Item] = field(default_factory=dict[str, Item])
    refunds: dict[str, Refund] = field(default_factory=dict[str, Refund])


FIRST = (
    "Anton", "Bianca", "Cyrus", "Delphine", "Ebele", "Florin", "Greta", "Hamid", "Ilse", "Jamal",
    "Kirsi", "Luca", "Marit", "Nadia", "Orhan", "Petra", "Ravi", "Soledad", "Tariq", "Uma",
)  # fmt: skip
LAST = (
    "Achterberg", "Bianchi", "Chowdhury", "Dubois", "Eze", "Figueroa", "Grigorescu", "Haddad",
    "Iversen", "Jansson", "Kowalczyk", "Lombardi", "Mbeki", "Nyström", "Okafor", "Papadakis",
)  # fmt: skip
PRODUCTS = (
    "desk lamp", "rain jacket", "travel mug", "wool blanket", "yoga mat", "bike helmet",
    "coffee grinder", "sleeping bag", "linen shirt", "wall clock", "backpack", "hand mixer",
    "garden chair", "shower curtain", "chess set", "picnic basket", "toaster", "parasol",
)  # fmt: skip
COLOURS: dict[Tint, str] = {"red": "红色", "navy": "藏青色", "olive": "橄榄绿", "black": "黑色",
                            "grey": "灰色", "teal": "青色"}  # fmt: skip
STREETS = (
    "Harbour Lane", "Mill Road", "Linden Street", "Station Square", "Orchard Way", "Canal Street",
    "Castle Hill", "Market Place", "Chapel Row", "Bridge Street", "Vine Avenue",
)  # fmt: skip
REASONS = {"changed_mind": ("I changed my mind", "改主意了"), "damaged": ("it is damaged", "坏了"),
           "arrived_late": ("it came too late", "到得太晚")}  # fmt: skip
WAYS = {"card": ("to my card", "退回银行卡"), "store_credit": ("as store credit", "退成余额")}


def seed(rng: Random) -> Shop:
    """Make two months of orders; two customers share a name."""
    today = date(2026, 3, 1) + timedelta(days=rng.randrange(250))
    world = Shop(f"{today} 10:30")
    names = [f"{a} {b}" for a, b in zip(rng.sample(FIRST, 7), rng.sample(LAST, 7), strict=True)]
    for number, name in enumerate((*names, rng.choice(names))):
        first, last = name.lower().replace("ö", "o").split()
        address = f"{first}{last[:3]}@example.com" if number < 7 else f"{last}@example.org"
        key = new_id(world.customers, "C", address)
        world.customers[key] = Customer(key, name, address)
    for product in rng.sample(PRODUCTS, 6):
        price = rng.randint(8, 120) + rng.choice((0.0, 0.5, 0.9))
        for number, colour in enumerate(rng.sample(list(COLOURS), 3)):
            key = new_id(world.variants, "V", product, colour)
            stock = rng.randint(1, 9) if number else rng.choice((0, 0, 5))
            world.variants[key] = Variant(key, product, colour, price, stock)
    ages = [*rng.sample(range(4), 4), *rng.sample(range(4, 9), 2)]
    ages += [*rng.sample(range(9, 29), 5), *rng.sample(range(32, 75), 3)]
    twice = [*world.customers, *world.customers]
    rng.shuffle(twice)
    for customer, age in zip(twice, ages, strict=False):
        status = "placed" if age < 4 else "shipped" if age < 9 else "delivered"
        _seed_order(world, rng, customer, str(today - timedelta(days=age)), status)
    for item in rng.sample([item for item in world.items.values() if _arrived(world, item)], 2):
        _give_back(world, item, "card", "damaged")
    return world


def _seed_order(world: Shop, rng: Random, customer: str, ordered: str, status: Status) -> None:
    key = new_id(world.orders, "W", customer, ordered)
    world.orders[key] = Order(key, customer, ordered, status, _some_address(rng))
    variants = {one.product: one for one in rng.sample(list(world.variants.values()), 3)}
    for variant in variants.values():
        _add_item(world, key, variant)


def _some_address(rng: Random) -> str:
    return f"{rng.randint(1, 140)} {rng.choice(STREETS)}"


def _add_item(world: Shop, order_id: str, variant: Variant) -> Item:
    key = new_id(world.items, "I", order_id, variant.id)
    world.items[key] = Item(key, order_id, variant.product, variant.colour, variant.price)
    return world.items[key]


def _give_back(world: Shop, item: Item, way: Way, reason: Reason) -> Refund:
    world.items[item.id] = replace(item, state="returned")
    key = new_id(world.refunds, "F", item.id)
    world.refunds[key] = Refund(key, item.id, item.price, way, reason)
    return world.refunds[key]


def _arrived(world: Shop, item: Item) -> bool:
    return world.orders[item.order_id].status == "delivered"


def _open(world: Shop, order_id: str) -> Order:
    order = find(world.orders, order_id, "order")
    check(order.status != "cancelled", "already_cancelled", "The order is cancelled.")
    check(order.status == "placed", "already_shipped", "The order has left the warehouse.")
    return order


def _kept(world: Shop, item_id: str) -> Item:
    item = find(world.items, item_id, "item")
    check(_arrived(world, item), "not_delivered", "The order has not been delivered.")
    check(item.state == "kept", "returned", "The item was returned or exchanged before.")
    return item


# --- tools ---------------------------------------------------------------------------------------


@tool("Find customers by name, e-mail address, or both.",
      "按姓名、邮箱或两者查找顾客。")  # fmt: skip
def find_customers(
    world: Shop, name: Name | None = None, email: Email | None = None
) -> list[Customer]:
    """Return at most five."""
    found = [one for one in world.customers.values() if has(name, one.name)]
    return [one for one in found if same(email, one.email)][:5]


@tool("List a customer's orders, the latest first.", "列出顾客的订单，最近的在前。",
      errors=("not_found",))  # fmt: skip
def customer_orders(world: Shop, customer_id: CustomerId) -> list[Order]:
    """Return at most five."""
    find(world.customers, customer_id, "customer")
    found = [order for order in world.orders.values() if order.customer_id == customer_id]
    return sorted(found, key=lambda order: order.ordered, reverse=True)[:5]


@tool("Show one order.", "查看一个订单。", errors=("not_found",))
def get_order(world: Shop, order_id: OrderId) -> Order:
    """Return the order."""
    return find(world.orders, order_id, "order")


@tool("List what is in an order.", "列出订单里的商品。", errors=("not_found",))
def order_items(world: Shop, order_id: OrderId) -> list[Item]:
    """Return at most five."""
    find(world.orders, order_id, "order")
    return [item for item in world.items.values() if item.order_id == order_id][:5]


@tool("Find what the shop sells of a product, with colours and stock.",
      "查找某商品的颜色和库存。")  # fmt: skip
def find_variants(world: Shop, product: Product, colour: Colour | None = None) -> list[Variant]:
    """Return at most five."""
    found = [one for one in world.variants.values() if has(product, one.product)]
    return [one for one in found if same(colour, one.colour)][:5]


@tool("Cancel an order that has not been shipped.", "取消尚未发货的订单。", writes=True,
      errors=("not_found", "already_cancelled", "already_shipped"))  # fmt: skip
def call_off_order(world: Shop, order_id: OrderId) -> Order:
    """Cancel everything of an order."""
    order = _open(world, order_id)
    world.orders[order_id] = replace(order, status="cancelled")
    return world.orders[order_id]


@tool("Send an order that has not been shipped to another address.",
      "修改尚未发货的订单的收货地址。", writes=True,
      errors=("not_found", "already_cancelled", "already_shipped"))  # fmt: skip
def redirect_order(world: Shop, order_id: OrderId, address: Address) -> Order:
    """Change where an order goes."""
    order = _open(world, order_id)
    world.orders[order_id] = replace(order, address=address)
    return world.orders[order_id]


@tool("Add one piece of a variant to an order that has not been shipped.",
      "往尚未发货的订单里加一件商品。", writes=True,
      errors=("not_found", "already_cancelled", "already_shipped", "out_of_stock"))  # fmt: skip
def add_item(world: Shop, order_id: OrderId, variant_id: VariantId) -> Item:
    """Take a piece from the stock."""
    _open(world, order_id)
    return _add_item(world, order_id, _take(world, variant_id))


def _take(world: Shop, variant_id: str) -> Variant:
    variant = find(world.variants, variant_id, "variant")
    check(variant.stock > 0, "out_of_stock", "There is none of it in stock.")
    world.variants[variant_id] = replace(variant, stock=variant.stock - 1)
    return variant


@tool("Take a delivered item back and refund its price.", "为已送达的商品退货并退款。", writes=True,
      errors=("not_found", "not_delivered", "returned"))  # fmt: skip
def return_item(world: Shop, item_id: ItemId, reason: Reason, way: Way = "card") -> Refund:
    """Refund what an item cost."""
    return _give_back(world, _kept(world, item_id), way, reason)


@tool("Exchange a delivered item for another colour of the same product.",
      "把已送达的商品换成同款的另一种颜色。", writes=True,
      errors=("not_found", "not_delivered", "returned", "mismatch", "out_of_stock"))  # fmt: skip
def exchange_item(world: Shop, item_id: ItemId, variant_id: VariantId) -> Item:
    """Send another colour."""
    item, variant = _kept(world, item_id), find(world.variants, variant_id, "variant")
    check(item.product == variant.product, "mismatch", "It is not the same product.")
    _take(world, variant_id)
    world.items[item_id] = replace(item, colour=variant.colour, state="exchanged")
    return world.items[item_id]


# --- what users want -----------------------------------------------------------------------------


def _order(world: Shop, rng: Random, *statuses: str) -> Order:
    return rng.choice([order for order in world.orders.values() if order.status in statuses])


def _item(world: Shop, rng: Random, low: int, high: int) -> tuple[Order, Item] | None:
    """Draw an item that was kept, of an order so many days ago."""
    today = date.fromisoformat(world.today)
    days = {str(today - timedelta(days=age)) for age in range(low, high)}
    found = [
        (order, item)
        for item in world.items.values()
        for order in (world.orders[item.order_id],)
        if order.status == "delivered" and item.state == "kept" and order.ordered in days
    ]
    return rng.choice(found) if found else None


@intent(
    en=("Where is my order {order_id}?",
        "Hi, any news about {order_id}? Has it been sent?",
        "Could you look up the status of order {order_id} for me?"),
    zh=("订单{order_id}到哪儿了？", "帮我查一下{order_id}的状态。"),
    reply_en=("Order {order_id} is {result.status}; it goes to {result.address}.",),
    reply_zh=("订单{order_id}的状态是{result.status}，送往{result.address}。",),
)  # fmt: skip
def track(world: Shop, rng: Random) -> Goal:
    """Learn how far an order is."""
    order = rng.choice(list(world.orders.values()))
    return Goal((Call("get_order", {"order_id": order.id}),), told(order_id=order.id))


@intent(
    en=("What did I order on {ordered}? My mail is {email}.",
        "I forgot what was in my {ordered} order. Account: {email}.",
        "Please list the things from the order[ of {ordered}] under {email}."),
    zh=("我{ordered}买了哪些东西？邮箱是{email}。", "查一下{email}[在{ordered}]的订单里有什么。"),
    reply_en=("That order has {count} items: {rows.product}.",),
    reply_zh=("该订单有{count}件商品：{rows.product}。",),
)  # fmt: skip
def ask_items(world: Shop, rng: Random) -> Goal:
    """Learn what an order was made of."""
    order = rng.choice(list(world.orders.values()))
    facts = told(email=world.customers[order.customer_id].email, ordered=order.ordered)
    return Goal((Call("order_items", {"order_id": order.id}),), facts)


@intent(
    en=("{name} here. Please cancel what I ordered on {ordered}.",
        "I want to call off my order[ of {ordered}]. The name is {name}.",
        "Changed my mind about the order from {ordered}, so cancel it. I'm {name}."),
    zh=("我是{name}，请取消{ordered}的订单。", "{name}[在{ordered}]的订单不要了。"),
    reply_en=("The order of {ordered} is cancelled.",),
    reply_zh=("{ordered}的订单已取消。",),
)  # fmt: skip
def cancel(world: Shop, rng: Random) -> Goal:
    """Cancel an order in time."""
    order = _order(world, rng, "placed")
    customer = world.customers[order.customer_id]
    facts = told(name=customer.name, ordered=order.ordered)
    call = Call("call_off_order", {"order_id": order.id})
    return Goal((call,), facts, told(email=customer.email))


@intent(
    en=("Please stop order {order_id}, I don't need it any more.",
        "Cancel {order_id}!",
        "Is it possible to undo {order_id}? I'd like the whole thing cancelled."),
    zh=("取消订单{order_id}。", "{order_id}我不想要了，整单取消吧。"),
    reply_en=("Order {order_id} cannot be cancelled: it has already been shipped.",
              "Sorry, {order_id} has left our warehouse, so it is too late to cancel it."),
    reply_zh=("订单{order_id}已经发货，无法取消。",),
    kind="fails",
)  # fmt: skip
def cancel_too_late(world: Shop, rng: Random) -> Goal:
    """Cancel an order that is on its way."""
    order = _order(world, rng, "shipped", "delivered")
    return Goal((Call("call_off_order", {"order_id": order.id}),), told(order_id=order.id))


@intent(
    en=("I'd like to send back the {product} I ordered on {ordered}: {reason}. My e-mail is"
        " {email}, and I want the money {way}.",
        "Return of a {product}[, ordered {ordered}], account {email}[; {reason}][; refund it"
        " {way}].",
        "The {product} from {ordered} has to go back[, {reason}]. {email}[. Pay me {way}]."),
    zh=("我要退{ordered}买的{product}，{reason}，{way}，邮箱{email}。",
        "{email}[在{ordered}]下单的{product}想退货[，{reason}][，请{way}]。"),
    reply_en=("The {product} goes back, and you get {result.amount}; the refund is {result.id}.",),
    reply_zh=("{product}已办理退货，退款{result.amount}，退款编号{result.id}。",),
)  # fmt: skip
def send_back(world: Shop, rng: Random) -> Goal | None:
    """Return an item within thirty days."""
    found = _item(world, rng, 0, 30)
    if found is None:
        return None
    (order, item), way, reason = found, rng.choice(list(WAYS)), rng.choice(list(REASONS))
    facts = told(
        email=world.customers[order.customer_id].email, ordered=order.ordered, product=item.product
    )
    facts |= {"reason": Fact("reason", reason, REASONS[reason]), "way": Fact("way", way, WAYS[way])}
    call = Call("return_item", {"item_id": item.id, "reason": reason, "way": way})
    return Goal((call,), facts)


@intent(
    en=("The {product} of order {order_id} should go back, please refund me.",
        "Hi! Refund for the {product}, {order_id}? It broke in no time.",
        "I want my money for the {product} in {order_id}; it is damaged."),
    zh=("订单{order_id}的{product}要退款。", "{order_id}里的{product}坏了，我要退钱。"),
    reply_en=("That order is from {result.ordered}; we take nothing back after 30 days.",),
    reply_zh=("该订单下单于{result.ordered}，超过30天不能退换。",),
    kind="policy",
)  # fmt: skip
def send_back_late(world: Shop, rng: Random) -> Goal | None:
    """Ask to return what is too old."""
    found = _item(world, rng, 31, 80)
    if found is None:
        return None
    facts = told(order_id=found[0].id, product=found[1].product)
    return Goal((Call("get_order", {"order_id": found[0].id}),), facts)


def _colour(one: Variant) -> Fact:
    return Fact("colour", one.colour, (one.colour, COLOURS[one.colour]))


def _exchange(world: Shop, rng: Random, stocked: bool) -> Goal | None:
    found = _item(world, rng, 0, 30)
    if found is None:
        return None
    order, item = found
    others = [
        one
        for one in world.variants.values()
        if (one.product, one.stock > 0) == (item.product, stocked) and one.colour != item.colour
    ]
    if not others:
        return None
    variant = rng.choice(others)
    call = Call("exchange_item", {"item_id": item.id, "variant_id": variant.id})
    return Goal((call,), told(order_id=order.id, product=item.product, colour=_colour(variant)))


@intent(
    en=("Can I swap the {product} in order {order_id} for the {colour} one?",
        "Wrong colour! I'd rather have the {product} in {colour}. Order {order_id}.",
        "Exchange please: {product} from {order_id}[, new colour {colour}]."),
    zh=("订单{order_id}的{product}能换成{colour}的吗？",
        "{order_id}的{product}请换个颜色[，要{colour}]。"),
    reply_en=("Your {product} is exchanged; you get it in {colour}.",),
    reply_zh=("{product}已换成{colour}。",),
)  # fmt: skip
def swap(world: Shop, rng: Random) -> Goal | None:
    """Exchange an item for a colour in stock."""
    return _exchange(world, rng, stocked=True)


@intent(
    en=("I would like the {product} from {order_id} in {colour} instead.",
        "{order_id}: please exchange the {product} for the {colour} one.",
        "Do you still have the {product} in {colour}? If so, swap mine, order {order_id}."),
    zh=("想把{order_id}的{product}换成{colour}。", "订单{order_id}，{product}换{colour}，谢谢。"),
    reply_en=("I cannot exchange it: the {product} is out of stock in {colour}.",),
    reply_zh=("无法更换：{product}的{colour}缺货。",),
    kind="fails",
)  # fmt: skip
def swap_out_of_stock(world: Shop, rng: Random) -> Goal | None:
    """Exchange an item for a colour that is sold out."""
    return _exchange(world, rng, stocked=False)


@intent(
    en=("Please send order {order_id} to {address}, and add one {product} in {colour}.",
        "Two things about {order_id}: send it to {address}, and add one {product} in {colour}.",
        "I moved! {order_id} must go to {address}, and add a {product}[ in {colour}]."),
    zh=("订单{order_id}改送到{address}，再加一件{colour}的{product}。",
        "{order_id}换个地址：{address}，另外加个{product}[，颜色{colour}]。"),
    reply_en=("{order_id} goes to {address}, now with the {product} in {colour}, {result.price}.",),
    reply_zh=("订单{order_id}将送往{address}，并加了{colour}的{product}，价格{result.price}。",),
)  # fmt: skip
def redirect_and_add(world: Shop, rng: Random) -> Goal:
    """Change the address of an order and add to it."""
    order, address = _order(world, rng, "placed"), _some_address(rng)
    variant = rng.choice([one for one in world.variants.values() if one.stock])
    first = Call("redirect_order", {"order_id": order.id, "address": address})
    second = Call("add_item", {"order_id": order.id, "variant_id": variant.id})
    facts = told(product=variant.product, colour=_colour(variant), address=address)
    return Goal((first, second), {**facts, **told(order_id=order.id)})


DOMAIN = domain_of(
    sys.modules[__name__],
    "the service desk of an online shop",
    "网店的客服",
    seed,
    policies_en=("Never refund or exchange items that were ordered more than 30 days ago.",),
    policies_zh=("下单超过30天的商品一律不得退换。",),
)
