"""Somebody's bank: accounts, cards, payees and the transfers to them."""

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

AccountId = Annotated[str, Slot("account_id", "account id", "账户编号", "id", entity="accounts")]
SourceId = Annotated[str, Slot("source_id", "source account", "转出账户", "id", entity="accounts")]
TargetId = Annotated[str, Slot("target_id", "target account", "转入账户", "id", entity="accounts")]
CardId = Annotated[str, Slot("card_id", "card id", "银行卡编号", "id", entity="cards")]
PayeeId = Annotated[str, Slot("payee_id", "payee id", "收款人编号", "id", entity="payees")]
TransferId = Annotated[str, Slot("transfer_id", "transfer id", "转账号", "id", entity="transfers")]
AccountName = Annotated[str, Slot("account", "name of the account", "账户名称")]
Balance = Annotated[float, Slot("balance", "balance", "余额", "money")]
Digits = Annotated[str, Slot("digits", "last four digits of the card", "卡号后四位")]
CardState = Annotated[Literal["active", "frozen", "stolen"], Slot("card_state", "state", "卡状态")]
Reason = Annotated[Literal["lost", "stolen", "pause"], Slot("reason", "reason", "原因")]
Payee = Annotated[str, Slot("payee", "name of the payee", "收款人名称")]
Number = Annotated[str, Slot("number", "account number of the payee", "收款账号")]
Amount = Annotated[float, Slot("amount", "amount", "金额", "money")]
Day = Annotated[str, Slot("day", "day of the transfer", "转账日期", "date")]
State = Annotated[Literal["done", "scheduled", "cancelled"], Slot("state", "state", "转账状态")]
Note = Annotated[str, Slot("note", "note for the payee", "附言")]
Currency = Annotated[Literal["EUR", "GBP", "JPY", "CNY"], Slot("currency", "currency", "币种")]

LARGEST_TRANSFER = 5000


@dataclass(frozen=True, slots=True)
class Account:
    """Where money is kept."""

    id: AccountId
    name: AccountName
    balance: Balance


@dataclass(frozen=True, slots=True)
class Card:
    """What one pays with."""

    id: CardId
    account_id: AccountId
    digits: Digits
    state: CardState


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody who can be paid."""

    id: PayeeId
    name: Payee
    number: Number


@dataclass(frozen=True, slots=True)
class Transfer:
    """Money that went to a payee or will."""

    id: TransferId
    account_id: AccountId
    payee_id: PayeeId
    amount: Amount
    day: Day
    state: State
    note: str = ""


@dataclass(slots=True)
class Bank(World):
    """Everything there is."""

    accounts: dict[str, Account] = field(default_factory=dict[str, Account])
    cards: dict[str, Card] = field(default_factory=dict[str, Card])
    payees: dict[str, Recipient] = field(default_factory=dict[str, Recipient])
    transfers: dict[str, Transfer] = field(default_factory=dict[str, Transfer])


ACCOUNTS = (
    "Everyday", "Rainy day", "Holiday pot", "Joint", "New roof", "Studio", "Kids", "Car fund",
    "Wedding", "Student", "Emergency", "Allotment",
)  # fmt: skip
QUALITIES = (
    "Northside", "Silverline", "Old Mill", "Greenfield", "Harbourview", "Twin Oaks", "Sunrise",
    "Blackstone", "Riverbend", "Kestrel", "Meadow", "Copperfield",
)  # fmt: skip
TRADES = (
    "Dental", "Plumbing", "Letting", "Water", "Nursery", "Telecom", "Gym", "Bakery", "Roofing",
    "Music School", "Vets", "Energy",
)  # fmt: skip
NOTES = ("March rent", "thank you", "invoice 77", "deposit", "second part", "for the tickets",
         "room 12", "membership", "房租", "学费")  # fmt: skip
RATES = {"EUR": 0.92, "GBP": 0.79, "JPY": 150.0, "CNY": 7.2}
REASONS = {
    "lost": ("I lost it", "丢了"),
    "stolen": ("it was stolen", "被偷了"),
    "pause": ("I just want to pause it", "只是想暂停使用"),
}


def seed(rng: Random) -> Bank:
    """Make some months of transfers; two payees share a name."""
    today = date(2026, 2, 10) + timedelta(days=rng.randrange(290))
    world = Bank(f"{today} 12:00")
    for name in rng.sample(ACCOUNTS, 5):
        key = new_id(world.accounts, "A", name)
        world.accounts[key] = Account(key, name, round(rng.uniform(150, 4000), 2))
    for digits in rng.sample(range(1000, 10000), 6):
        key, account = new_id(world.cards, "K", digits), rng.choice(list(world.accounts))
        card = rng.choice(("active", "active", "frozen")) if world.cards else "stolen"
        world.cards[key] = Card(key, account, f"{digits}", card)
    names = [f"{rng.choice(QUALITIES)} {trade}" for trade in rng.sample(TRADES, 7)]
    for name in (*names, rng.choice(names)):
        _add_payee(world, name, _some_number(rng))
    payees = list(world.payees) * 2
    for gap, payee in zip(rng.sample(range(-60, 30), 14), payees, strict=False):
        state: State = "done" if gap < 1 else rng.choice(("scheduled", "scheduled", "cancelled"))
        day, amount = str(today + timedelta(days=gap)), round(rng.uniform(9, 140), 2)
        key = new_id(world.transfers, "T", payee, day)
        account = rng.choice(list(world.accounts))
        world.transfers[key] = Transfer(key, account, payee, amount, day, state)
    return world


def _some_number(rng: Random) -> str:
    return f"{rng.randint(10, 99)}-{rng.randint(100000, 999999)}"


def _add_payee(world: Bank, name: str, number: str) -> Recipient:
    key = new_id(world.payees, "P", number)
    world.payees[key] = Recipient(key, name, number)
    return world.payees[key]


def _take(world: Bank, account_id: str, amount: float) -> None:
    account = find(world.accounts, account_id, "account")
    enough = account.balance >= amount
    check(enough, "insufficient_funds", f"The balance is only {account.balance:.2f}.")
    world.accounts[account_id] = replace(account, balance=round(account.balance - amount, 2))


# --- tools ---------------------------------------------------------------------------------------


@tool("List the accounts, all or those of a name.", "列出账户，可按名称筛选。")
def list_accounts(world: Bank, name: AccountName | None = None) -> list[Account]:
    """Return at most five."""
    return [account for account in world.accounts.values() if has(name, account.name)][:5]


@tool("Show one account.", "查看一个账户。", errors=("not_found",))
def get_account(world: Bank, account_id: AccountId) -> Account:
    """Return the account."""
    return find(world.accounts, account_id, "account")


@tool("Move money between two own accounts; returns the one that it came from.",
      "在自己的两个账户之间转钱，返回转出账户。", writes=True,
      errors=("not_found", "same_account", "insufficient_funds"))  # fmt: skip
def move_money(world: Bank, source_id: SourceId, target_id: TargetId, amount: Amount) -> Account:
    """Take from one account what another gets."""
    target = find(world.accounts, target_id, "account")
    check(source_id != target_id, "same_account", "These are the same account.")
    _take(world, source_id, amount)
    world.accounts[target_id] = replace(target, balance=round(target.balance + amount, 2))
    return world.accounts[source_id]


@tool("Find payees by name, account number, or both.", "按名称、账号或两者查找收款人。")
def find_payees(
    world: Bank, name: Payee | None = None, number: Number | None = None
) -> list[Recipient]:
    """Return at most five."""
    found = [one for one in world.payees.values() if has(name, one.name)]
    return [one for one in found if same(number, one.number)][:5]


@tool("Add a payee. Returns the payee.", "添加收款人，返回该收款人。", writes=True,
      errors=("already_there",))  # fmt: skip
def add_payee(world: Bank, name: Payee, number: Number) -> Recipient:
    """Add somebody whose account number is new."""
    known = any(one.number == number for one in world.payees.values())
    check(not known, "already_there", "There is a payee with this account number.")
    return _add_payee(world, name, number)


@tool("Pay a payee at once, or on a later day. Returns the transfer.",
      "立即或在以后某天向收款人付款，返回该转账。", writes=True,
      errors=("not_found", "in_the_past", "limit_exceeded", "insufficient_funds"))  # fmt: skip
def pay(
    world: Bank, account_id: AccountId, payee_id: PayeeId, amount: Amount,
    day: Day | None = None, note: Note = "",
) -> Transfer:  # fmt: skip
    """Take the money now; what is scheduled is only written down."""
    find(world.accounts, account_id, "account")
    find(world.payees, payee_id, "payee")
    day = day or world.today
    check(day >= world.today, "in_the_past", "That day is over.")
    within = amount <= LARGEST_TRANSFER
    check(within, "limit_exceeded", f"A transfer can be {LARGEST_TRANSFER} at most.")
    if day == world.today:
        _take(world, account_id, amount)
    key = new_id(world.transfers, "T", account_id, payee_id, amount, day, note)
    state = "done" if day == world.today else "scheduled"
    world.transfers[key] = Transfer(key, account_id, payee_id, amount, day, state, note)
    return world.transfers[key]


@tool("List the transfers to a payee, the latest first.", "列出给某收款人的转账，最新的在前。",
      errors=("not_found",))  # fmt: skip
def payee_transfers(world: Bank, payee_id: PayeeId, state: State | None = None) -> list[Transfer]:
    """Return at most five."""
    find(world.payees, payee_id, "payee")
    found = [one for one in world.transfers.values() if one.payee_id == payee_id]
    found = [one for one in found if same(state, one.state)]
    return sorted(found, key=lambda one: one.day, reverse=True)[:5]


@tool("Cancel a transfer that is scheduled.", "取消预定的转账。", writes=True,
      errors=("not_found", "already_done", "already_cancelled"))  # fmt: skip
def call_off_transfer(world: Bank, transfer_id: TransferId) -> Transfer:
    """Stop what has not been carried out."""
    transfer = find(world.transfers, transfer_id, "transfer")
    check(transfer.state != "done", "already_done", "The money has been sent.")
    check(transfer.state != "cancelled", "already_cancelled", "The transfer is cancelled.")
    world.transfers[transfer_id] = replace(transfer, state="cancelled")
    return world.transfers[transfer_id]


@tool("List the cards, all or the one that ends with four digits.",
      "列出银行卡，可按后四位筛选。")  # fmt: skip
def find_cards(world: Bank, digits: Digits | None = None) -> list[Card]:
    """Return at most five."""
    return [card for card in world.cards.values() if same(digits, card.digits)][:5]


@tool("Block a card.", "冻结银行卡。", writes=True,
      errors=("not_found", "already_blocked"))  # fmt: skip
def freeze_card(world: Bank, card_id: CardId, reason: Reason) -> Card:
    """Block a card; one that was stolen stays known as such."""
    card = find(world.cards, card_id, "card")
    check(card.state == "active", "already_blocked", f"The card is {card.state} already.")
    state = "stolen" if reason == "stolen" else "frozen"
    world.cards[card_id] = replace(card, state=state)
    return world.cards[card_id]


@tool("Make a blocked card usable again.", "解冻银行卡。", writes=True,
      errors=("not_found", "not_blocked"))  # fmt: skip
def unfreeze_card(world: Bank, card_id: CardId) -> Card:
    """Unblock a card."""
    card = find(world.cards, card_id, "card")
    check(card.state != "active", "not_blocked", "The card is not blocked.")
    world.cards[card_id] = replace(card, state="active")
    return world.cards[card_id]


@tool("Compute what an amount is in another currency, after a fee of 1 %.",
      "计算某金额兑换成另一币种后的数额，手续费1%。")  # fmt: skip
def quote_exchange(world: Bank, amount: Amount, currency: Currency) -> dict[str, float]:
    """Multiply; nothing is exchanged."""
    _ = world
    return {"rate": RATES[currency], "gives": round(amount * 0.99 * RATES[currency], 2)}


# --- what users want -----------------------------------------------------------------------------


def _account(world: Bank, rng: Random, least: float = 0) -> Account:
    return rng.choice([one for one in world.accounts.values() if one.balance >= least])


def _card(world: Bank, rng: Random, *states: str) -> Card | None:
    found = [card for card in list(world.cards.values()) if card.state in states]
    return rng.choice(found) if found else None


def _card_goal(tool_name: str, card: Card | None, **more: Fact) -> Goal | None:
    """Return a call on a card, whose other arguments are the facts."""
    if card is None:
        return None
    arguments = {name: fact.value for name, fact in more.items()}
    call = Call(tool_name, {"card_id": card.id, **arguments})
    return Goal((call,), {"digits": Fact("digits", card.digits), **more})


@intent(
    en=("How much is in my {account} account?", "What's left on {account}?",
        "Could you check the balance of {account} for me?"),
    zh=("我的{account}账户还有多少钱？", "查一下{account}的余额。"),
    reply_en=("{account} holds {result.balance}.", "There is {result.balance} on {account}."),
    reply_zh=("{account}的余额是{result.balance}。",),
)  # fmt: skip
def ask_balance(world: Bank, rng: Random) -> Goal:
    """Learn a balance."""
    account = _account(world, rng)
    return Goal((Call("get_account", {"account_id": account.id}),), told(account=account.name))


def _move(world: Bank, rng: Random, amount: float, source: Account) -> Goal:
    target = rng.choice([one for one in world.accounts.values() if one.id != source.id])
    ids = {"source_id": source.id, "target_id": target.id}
    names = {"source": Fact("account", source.name), "target": Fact("account", target.name)}
    return Goal((Call("move_money", {**ids, "amount": amount}),), {**names, **told(amount=amount)})


@intent(
    en=("Move {amount} from {source} to {target}.",
        "I want {amount} less on {source} and more on {target}, can you shift it?",
        "Top up {target} out of {source}[ with {amount}]."),
    zh=("从{source}转{amount}到{target}。", "把{source}里的钱[{amount}]挪到{target}。"),
    reply_en=("{amount} went from {source} to {target}; {source} now holds {result.balance}.",),
    reply_zh=("已从{source}转{amount}到{target}，{source}还剩{result.balance}。",),
)  # fmt: skip
def move(world: Bank, rng: Random) -> Goal:
    """Move money that is there."""
    source = _account(world, rng)
    return _move(world, rng, float(rng.randint(10, int(source.balance))), source)


@intent(
    en=("Put {amount} from {source} into {target}.",
        "Please transfer {amount}[, from {source}] to my {target} account.",
        "{target} needs {amount}. Take it out of {source}."),
    zh=("从{source}拿{amount}放到{target}。", "{target}需要{amount}，从{source}转过去。"),
    reply_en=("There is not enough money on {source} to move {amount}.",),
    reply_zh=("{source}余额不足，无法转出{amount}。",),
    kind="fails",
)  # fmt: skip
def move_too_much(world: Bank, rng: Random) -> Goal:
    """Move more than there is."""
    source = _account(world, rng)
    return _move(world, rng, float(int(source.balance) + rng.randint(20, 900)), source)


@intent(
    en=("Pay {payee} {amount} from {account} and write \"{note}\".",
        "I owe {payee} {amount}. Use {account}[, with the note {note}].",
        "{amount} to {payee}, please[, out of {account}][, note: {note}]."),
    zh=("从{account}付{amount}给{payee}，附言“{note}”。",
        "给{payee}转{amount}[，用{account}][，备注{note}]。"),
    reply_en=("{payee} gets {amount} from {account}; the transfer is {result.id}.",),
    reply_zh=("已从{account}付给{payee}{amount}，转账编号{result.id}。",),
)  # fmt: skip
def pay_now(world: Bank, rng: Random) -> Goal:
    """Pay a known payee."""
    account, payee = _account(world, rng, 100), rng.choice(list(world.payees.values()))
    what = {"amount": round(rng.uniform(5, 99), 2), "note": rng.choice(NOTES)}
    call = Call("pay", {"account_id": account.id, "payee_id": payee.id, **what})
    facts = told(account=account.name, payee=payee.name, **what)
    return Goal((call,), facts, told(number=payee.number))


@intent(
    en=("There's a new firm to pay: {payee}, {number}. Send {amount} from {account} on {day}.",
        "Add {payee} ({number}) to my payees and schedule {amount} for {day}[ from {account}].",
        "On {day} please pay {amount} out of {account} to {payee}. They are new: {number}."),
    zh=("新收款人{payee}，账号{number}，{day}从{account}付{amount}。",
        "先添加{payee}（{number}），再安排{day}付{amount}[，用{account}]。"),
    reply_en=("{payee} is added, and {amount} will go out on {day}; the transfer is {result.id}.",),
    reply_zh=("已添加{payee}，{day}将付{amount}，转账编号{result.id}。",),
)  # fmt: skip
def pay_new(world: Bank, rng: Random) -> Goal:
    """Add a payee and schedule a transfer."""
    account, name = _account(world, rng), f"{rng.choice(QUALITIES)} & {rng.choice(QUALITIES)}"
    number, day = _some_number(rng), date.fromisoformat(world.today)
    what = {"amount": float(rng.randint(40, 900)), "day": str(day + timedelta(rng.randint(2, 40)))}
    payee = new_id(world.payees, "P", number)
    call = Call("pay", {"account_id": account.id, "payee_id": payee, **what})
    first = Call("add_payee", {"name": name, "number": number})
    return Goal((first, call), told(account=account.name, payee=name, number=number, **what))


def _transfer(world: Bank, rng: Random, state: str) -> Goal | None:
    found = [one for one in world.transfers.values() if one.state == state]
    if not found:
        return None
    transfer = rng.choice(found)
    payee = world.payees[transfer.payee_id]
    call = Call("call_off_transfer", {"transfer_id": transfer.id})
    return Goal((call,), told(payee=payee.name, day=transfer.day), told(number=payee.number))


@intent(
    en=("Don't send {payee} the money on {day} after all.",
        "Cancel the transfer to {payee}[ that is planned for {day}].",
        "I had something scheduled for {day}, to {payee}. Please stop it."),
    zh=("取消{day}给{payee}的转账。", "给{payee}的那笔预定转账[（{day}）]不要付了。"),
    reply_en=("The transfer of {result.amount} to {payee} is cancelled.",),
    reply_zh=("给{payee}的{result.amount}转账已取消。",),
)  # fmt: skip
def cancel(world: Bank, rng: Random) -> Goal | None:
    """Cancel a scheduled transfer."""
    return _transfer(world, rng, "scheduled")


@intent(
    en=("Please call back what I sent {payee} on {day}.",
        "The payment to {payee} on {day} was a mistake, cancel it!",
        "Can you stop my transfer to {payee}[ of {day}]?"),
    zh=("{day}付给{payee}的钱能撤回吗？请取消。", "给{payee}的转账[（{day}）]付错了，取消掉。"),
    reply_en=("That is too late: the transfer of {day} to {payee} has been carried out.",),
    reply_zh=("{day}给{payee}的转账已经完成，无法取消。",),
    kind="fails",
)  # fmt: skip
def cancel_done(world: Bank, rng: Random) -> Goal | None:
    """Cancel what has been carried out."""
    return _transfer(world, rng, "done")


@intent(
    en=("What have I paid {payee} so far?", "List the amounts that went to {payee}.",
        "{payee}: which payments did I make to them?"),
    zh=("我给{payee}付过哪些钱？", "列出已付给{payee}的款项。"),
    reply_en=("You made {count} payments to {payee}: {rows.amount}, on {rows.day}.",),
    reply_zh=("给{payee}共有{count}笔：{rows.amount}，日期{rows.day}。",),
)  # fmt: skip
def ask_paid(world: Bank, rng: Random) -> Goal:
    """Learn what was paid to somebody."""
    transfer = rng.choice([one for one in world.transfers.values() if one.state == "done"])
    payee, state = world.payees[transfer.payee_id], Fact("state", "done", ("done", "已完成"))
    call = Call("payee_transfers", {"payee_id": payee.id, "state": "done"})
    return Goal((call,), told(payee=payee.name, state=state), told(number=payee.number))


@intent(
    en=("Block my card ending in {digits}: {reason}.", "Freeze {digits}[ please, {reason}].",
        "The card with {digits} at the end has to be stopped[, {reason}]."),
    zh=("冻结尾号{digits}的卡，{reason}。", "尾号{digits}的卡请停用[，{reason}]。"),
    reply_en=("The card ending in {digits} is now {result.state}.",),
    reply_zh=("尾号{digits}的卡现在的状态是{result.state}。",),
)  # fmt: skip
def freeze(world: Bank, rng: Random) -> Goal | None:
    """Block a card."""
    reason = rng.choice(list(REASONS))
    words = Fact("reason", reason, REASONS[reason])
    return _card_goal("freeze_card", _card(world, rng, "active"), reason=words)


@intent(
    en=("My card {digits} works again, right? If not, unblock it.", "Please unfreeze {digits}.",
        "I'd like to use the card ending {digits} again, take off the block."),
    zh=("解冻尾号{digits}的卡。", "尾号{digits}的卡我要重新用，请解除冻结。"),
    reply_en=("The card ending in {digits} is active again.",),
    reply_zh=("尾号{digits}的卡已恢复使用。",),
)  # fmt: skip
def unfreeze(world: Bank, rng: Random) -> Goal | None:
    """Unblock a card that was paused."""
    return _card_goal("unfreeze_card", _card(world, rng, "frozen"))


@intent(
    en=("Found it! Please unblock {digits}.", "Make the card {digits} usable again.",
        "Could you reactivate the one ending in {digits}?"),
    zh=("找到了！请解冻尾号{digits}的卡。", "把尾号{digits}的卡重新启用。"),
    reply_en=("I may not: this card is {rows.state}. Please order a new one at a branch.",),
    reply_zh=("不可以：这张卡的状态是{rows.state}，请到网点补办新卡。",),
    kind="policy",
)  # fmt: skip
def unfreeze_stolen(world: Bank, rng: Random) -> Goal | None:
    """Ask to unblock a stolen card."""
    card = _card(world, rng, "stolen")
    if card is None:
        return None
    return Goal((Call("find_cards", {"digits": card.digits}),), told(digits=card.digits))


@intent(
    en=("What do I get in {currency} for {amount}?", "Changing {amount} into {currency}: how much?",
        "I travel soon. {amount} would be what[ in {currency}]?"),
    zh=("{amount}能换多少{currency}？", "我要出国，{amount}可以兑多少[{currency}]？"),
    reply_en=("You would get {result.gives} {currency}, at a rate of {result.rate}.",),
    reply_zh=("可以换{result.gives}{currency}，汇率{result.rate}。",),
)  # fmt: skip
def ask_exchange(_: Bank, rng: Random) -> Goal:
    """Learn what an amount is elsewhere."""
    facts = told(amount=float(rng.randint(30, 2500)), currency=rng.choice(list(RATES)))
    return Goal((Call("quote_exchange", {k: f.value for k, f in facts.items()}),), facts)


DOMAIN = domain_of(
    sys.modules[__name__],
    "a customer's online bank",
    "客户的网上银行",
    seed,
    policies_en=("Never unblock a card that was reported stolen.",),
    policies_zh=("不得解冻已报失窃的银行卡。",),
)
