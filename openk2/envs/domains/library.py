"""A public library: books, their copies in the branches, members, loans and reservations."""

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
BookId = Annotated[str, Slot("book_id", "book id", "图书编号", "id", entity="books")]
CopyId = Annotated[str, Slot("copy_id", "copy id", "馆藏本编号", "id", entity="copies")]
MemberId = Annotated[str, Slot("member_id", "member id", "读者编号", "id", entity="members")]
LoanId = Annotated[str, Slot("loan_id", "loan id", "借阅编号", "id", entity="loans")]
HoldId = Annotated[str, Slot("hold_id", "reservation id", "预约编号", "id", entity="holds")]
Title = Annotated[str, Slot("title", "title of the book", "书名")]
Author = Annotated[str, Slot("author", "author", "作者")]
Genre = Annotated[Literal["novel", "history", "science", "travel", "poetry", "reference"],
                  Slot("genre", "genre", "类别")]
BranchName = Literal["Harbour", "Old Town", "Riverside", "University", "Northgate"]
Branch = Annotated[BranchName, Slot("branch", "branch", "分馆")]
CopyStatus = Annotated[Literal["available", "on_loan"], Slot("copy_status", "status", "馆藏状态")]
LoanStatus = Annotated[Literal["open", "returned"], Slot("loan_status", "status", "借阅状态")]
Name = Annotated[str, Slot("name", "name of the member", "读者姓名")]
Email = Annotated[str, Slot("email", "e-mail address", "邮箱地址", "email")]
Due = Annotated[str, Slot("due", "due date", "到期日", "date")]
Owed = Annotated[int, Slot("owed", "fees owed", "欠费金额", "money")]
Amount = Annotated[int, Slot("amount", "amount to pay", "缴费金额", "money", accepts=("owed",))]

LOAN_DAYS = 21
RENEWAL_LIMIT = 2


@dataclass(frozen=True, slots=True)
class Book:
    """A title, of which there are copies."""
    id: BookId
    title: Title
    author: Author
    genre: Genre


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of a book; a branch has at most one of each."""
    id: CopyId
    book_id: BookId
    branch: Branch
    status: CopyStatus = "available"


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody who may borrow."""
    id: MemberId
    name: Name
    email: Email
    owed: Owed = 0


@dataclass(frozen=True, slots=True)
class Loan:
    """A copy that a member took home."""
    id: LoanId
    member_id: MemberId
    copy_id: CopyId
    title: Title
    due: Due
    renewals: int = 0
    status: LoanStatus = "open"
    fee: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """A book that a member waits for."""
    id: HoldId
    member_id: MemberId
    book_id: BookId
    title: Title
    branch: Branch


@dataclass(slots=True)
class Library(World):
    """Everything there is."""
    books: dict[str, Book] = field(default_factory=dict[str, Book])
    copies: dict[str, Copy] = field(default_factory=dict[str, Copy])
    members: dict[str, Member] = field(default_factory=dict[str, Member])
    loans: dict[str, Loan] = field(default_factory=dict[str, Loan])
    holds: dict[str, Hold] = field(default_factory=dict[str, Hold])


HEADS = ("The Salt", "A Winter", "The Glass", "Her Second", "Seven Quiet", "The Copper", "An Open",
         "The Last", "Beyond the", "Notes on a", "The Borrowed", "A Brief", "The Sleeping", "Blue")
TAILS = ("Road", "Atlas", "Orchard", "Harvest", "Rivers", "Compass", "Letter", "Island", "Meridian",
         "Garden", "Century", "Glacier", "Library", "Voyage", "Alphabet", "Moth")
CHINESE_TITLES = ("长河落日", "南城旧事", "山中来信", "海的目录", "夜航船记", "北方的树")
FIRST = ("Ingrid", "Tomas", "Amara", "Luca", "Priya", "Yusuf", "Marisol", "Oskar", "Mei", "Nadia",
         "Viktor", "Zofia", "Kenji", "Leila", "Pascal", "Rhea")
LAST = ("Lindqvist", "Moreau", "Adeyemi", "Castellano", "Raman", "Haddad", "Kowalska", "Tanaka",
        "Brandt", "Okafor", "Zhang", "Ferreira", "Nilsen", "Varga")
WRITERS = ("M. Aldana", "Petra Holm", "J. K. Osei", "Lin Qiao", "R. Duval", "Sunniva Dahl",
           "T. Iwata", "Carla Bento", "E. Whitlock", "沈一舟")
BRANCHES: dict[BranchName, str] = {"Harbour": "港口", "Old Town": "老城", "Riverside": "河畔",
                                   "University": "大学城", "Northgate": "北门"}


def seed(rng: Random) -> Library:
    """Make a small stock; a title or a member's name sometimes occurs twice."""
    world = Library(f"{date(2026, 2, 2) + timedelta(days=rng.randrange(280))} 10:00")
    titles = [f"{rng.choice(HEADS)} {rng.choice(TAILS)}" for _ in range(9)]
    titles += [*rng.sample(CHINESE_TITLES, 2), *rng.choices(titles, k=rng.randint(0, 1))]
    for number, title in enumerate(titles):
        author = WRITERS[number % len(WRITERS)]
        genre: Genre = "reference" if number < 2 else rng.choice(("novel", "history", "travel"))
        key = new_id(world.books, "B", title, author)
        world.books[key] = Book(key, title, author, genre)
        for branch in rng.sample(list(BRANCHES), rng.randint(1, 3)):
            copy = new_id(world.copies, "C", key, branch)
            world.copies[copy] = Copy(copy, key, branch)
    names = [f"{rng.choice(FIRST)} {rng.choice(LAST)}" for _ in range(7)]
    for number, name in enumerate((*names, names[0])):
        email = f"{name.lower().replace(' ', '.')}{number or ''}@post.example"
        key = new_id(world.members, "M", email)
        world.members[key] = Member(key, name, email, rng.choice((0, 0, 3, 7, 12)))
    _lend_some(world, rng)
    return world


def _lend_some(world: Library, rng: Random) -> None:
    for copy in rng.sample(list(world.copies.values()), 10):
        book, member = world.books[copy.book_id], rng.choice(list(world.members.values()))
        theirs = [loan for loan in world.loans.values() if loan.member_id == member.id]
        if book.genre == "reference" or len(theirs) > 3 or book.title in {x.title for x in theirs}:
            continue
        status: LoanStatus = rng.choice(("open", "open", "open", "returned"))
        due = f"{date.fromisoformat(world.today) + timedelta(days=rng.randint(-9, 18))}"
        key = new_id(world.loans, "L", copy.id, member.id, due)
        facts = (book.title, due, rng.choice((0, 0, 1, RENEWAL_LIMIT)), status)
        world.loans[key] = Loan(key, member.id, copy.id, *facts)
        out: CopyStatus = "on_loan" if status == "open" else "available"
        world.copies[copy.id] = replace(copy, status=out)
    for book in rng.sample([book for book in world.books.values() if book.genre != "reference"], 5):
        member = rng.choice(list(world.members.values()))
        _hold(world, book, member.id, rng.choice(list(BRANCHES)))


def _hold(world: Library, book: Book, member_id: str, branch: BranchName) -> Hold:
    key = new_id(world.holds, "H", member_id, book.id)
    world.holds[key] = Hold(key, member_id, book.id, book.title, branch)
    return world.holds[key]


def _late_fee(world: Library, loan: Loan) -> int:
    return max(0, (date.fromisoformat(world.today) - date.fromisoformat(loan.due)).days)


def _waited_for(world: Library, loan: Loan) -> bool:
    book = world.copies[loan.copy_id].book_id
    return any(hold.book_id == book for hold in world.holds.values())


# --- tools ---------------------------------------------------------------------------------------


@tool("Search books by words of the title, the author, the genre, or several of them.",
      "按书名中的词、作者、类别或其中几项搜索图书。")
def search_books(world: Library, title: Title | None = None, author: Author | None = None,
                 genre: Genre | None = None) -> list[Book]:
    """Return at most five, by title."""
    found = [book for book in world.books.values() if has(title, book.title)
             and has(author, book.author) and same(genre, book.genre)]
    return sorted(found, key=lambda book: (book.title, book.id))[:5]


@tool("List the copies of a book, in all branches or in one.", "列出一本书的馆藏本，可限定分馆。",
      errors=("not_found",))
def list_copies(world: Library, book_id: BookId, branch: Branch | None = None) -> list[Copy]:
    """Return at most five, by branch."""
    find(world.books, book_id, "book")
    copies = [copy for copy in world.copies.values() if copy.book_id == book_id
              and same(branch, copy.branch)]
    return sorted(copies, key=lambda copy: copy.branch)[:5]


@tool("Find members by name or e-mail address.", "按姓名或邮箱查找读者。")
def find_members(world: Library, name: Name | None = None, email: Email | None = None
                 ) -> list[Member]:
    """Return at most five."""
    return [member for member in world.members.values() if has(name, member.name)
            and same(email, member.email)][:5]


@tool("List the loans of a member.", "列出读者的借阅记录。")
def list_loans(world: Library, member_id: MemberId) -> list[Loan]:
    """Return at most five, the first due first."""
    loans = [loan for loan in world.loans.values() if loan.member_id == member_id]
    return sorted(loans, key=lambda loan: (loan.due, loan.id))[:5]


@tool("List the reservations of a member.", "列出读者的预约。")
def list_holds(world: Library, member_id: MemberId) -> list[Hold]:
    """Return at most five."""
    return [hold for hold in world.holds.values() if hold.member_id == member_id][:5]


@tool("Work out when a loan is due and what late fee returning it today would cost.",
      "计算借阅的到期日和今天归还的逾期费。", errors=("not_found", "already_closed"))
def quote_late_fee(world: Library, loan_id: LoanId) -> dict[str, str | int]:
    """Return the due date and the fee."""
    loan = find(world.loans, loan_id, "loan")
    check(loan.status == "open", "already_closed", f"This loan is {loan.status}.")
    return {"due": loan.due, "fee": _late_fee(world, loan)}


@tool("Lend a copy to a member for three weeks. Returns the loan.",
      "把馆藏本借给读者三周，返回借阅记录。", writes=True,
      errors=("not_found", "not_available", "fees_owed"))
def check_out(world: Library, copy_id: CopyId, member_id: MemberId) -> Loan:
    """Open a loan."""
    copy, member = find(world.copies, copy_id, "copy"), find(world.members, member_id, "member")
    check(copy.status == "available", "not_available", f"This copy is {copy.status}.")
    check(member.owed == 0, "fees_owed", f"The member owes {member.owed} in fees.")
    due = f"{date.fromisoformat(world.today) + timedelta(days=LOAN_DAYS)}"
    key = new_id(world.loans, "L", copy_id, member_id, due)
    world.loans[key] = Loan(key, member_id, copy_id, world.books[copy.book_id].title, due)
    world.copies[copy_id] = replace(copy, status="on_loan")
    return world.loans[key]


@tool("Take back a loan; a late fee is added to the member's account.",
      "归还一笔借阅，逾期费记入读者账户。", writes=True, errors=("not_found", "already_closed"))
def return_loan(world: Library, loan_id: LoanId) -> Loan:
    """Close a loan."""
    loan = find(world.loans, loan_id, "loan")
    check(loan.status == "open", "already_closed", f"This loan is {loan.status}.")
    member, fee = world.members[loan.member_id], _late_fee(world, loan)
    world.members[member.id] = replace(member, owed=member.owed + fee)
    world.copies[loan.copy_id] = replace(world.copies[loan.copy_id], status="available")
    world.loans[loan_id] = replace(loan, status="returned", fee=fee)
    return world.loans[loan_id]


@tool("Renew a loan: it is due three weeks from today.", "续借：到期日改为今天起三周后。",
      writes=True, errors=("not_found", "already_closed", "limit_exceeded", "reserved"))
def renew_loan(world: Library, loan_id: LoanId) -> Loan:
    """Put off the due date."""
    loan = find(world.loans, loan_id, "loan")
    check(loan.status == "open", "already_closed", f"This loan is {loan.status}.")
    check(loan.renewals < RENEWAL_LIMIT, "limit_exceeded", "It was renewed twice already.")
    check(not _waited_for(world, loan), "reserved", "Somebody else waits for this book.")
    due = f"{date.fromisoformat(world.today) + timedelta(days=LOAN_DAYS)}"
    world.loans[loan_id] = replace(loan, due=due, renewals=loan.renewals + 1)
    return world.loans[loan_id]


@tool("Reserve a book for a member, to be picked up in a branch.",
      "为读者预约图书，到指定分馆取书。", writes=True, errors=("not_found", "already_reserved"))
def reserve_book(world: Library, book_id: BookId, member_id: MemberId, branch: Branch) -> Hold:
    """Add a reservation."""
    book = find(world.books, book_id, "book")
    find(world.members, member_id, "member")
    taken = {(hold.book_id, hold.member_id) for hold in world.holds.values()}
    check((book_id, member_id) not in taken, "already_reserved", "It is reserved already.")
    return _hold(world, book, member_id, branch)


@tool("Cancel a reservation.", "取消预约。", writes=True, errors=("not_found",))
def cancel_hold(world: Library, hold_id: HoldId) -> Hold:
    """Remove a reservation."""
    find(world.holds, hold_id, "reservation")
    return world.holds.pop(hold_id)


@tool("Pay fees of a member.", "为读者缴纳欠费。", writes=True,
      errors=("not_found", "exceeds_debt"))
def pay_fees(world: Library, member_id: MemberId, amount: Amount) -> Member:
    """Lower what a member owes."""
    member = find(world.members, member_id, "member")
    check(amount <= member.owed, "exceeds_debt", f"The member owes only {member.owed}.")
    world.members[member_id] = replace(member, owed=member.owed - amount)
    return world.members[member_id]


# --- what users want -----------------------------------------------------------------------------


def _branch(name: BranchName) -> Fact:
    return Fact("branch", name, (name, BRANCHES[name]))


def _about(world: Library, rng: Random, loans: list[Loan], name: str) -> Goal | None:
    if not loans:
        return None
    member = world.members[(loan := rng.choice(loans)).member_id]
    facts = told(name=member.name, title=loan.title)
    return Goal((Call(name, {"loan_id": loan.id}),), facts, told(email=member.email))


def _lend(world: Library, rng: Random, members: list[Member], copies: list[Copy],
          settle: bool = False) -> Goal | None:
    if not members or not copies:
        return None
    member, copy = rng.choice(members), rng.choice(copies)
    book, calls = world.books[copy.book_id], ()
    if settle:
        pay = Call("pay_fees", {"member_id": member.id, "amount": member.owed})
        calls = (Call("find_members", {"name": member.name}), pay)
    lend = Call("check_out", {"copy_id": copy.id, "member_id": member.id})
    facts = told(name=member.name, title=book.title, branch=_branch(copy.branch))
    return Goal((*calls, lend), facts, told(email=member.email, author=book.author))


def _copies(world: Library, status: str) -> list[Copy]:
    return [copy for copy in world.copies.values() if copy.status == status
            and world.books[copy.book_id].genre != "reference"]


def _loans(world: Library) -> list[Loan]:
    return [loan for loan in world.loans.values() if loan.status == "open"]


LEND_EN = ("{name} would like to take {title} home from {branch}.",
           "Could you check {title} out to me? I'm {name}[ and I'm at the {branch} branch].",
           "hi, {name} here, standing at the {branch} desk with {title}. Can I borrow it?")
LEND_ZH = ("我是{name}，想在{branch}分馆借{title}。",
           "请帮{name}办理《{title}》的借书手续[，在{branch}分馆]。")


@intent(
    en=LEND_EN, zh=LEND_ZH,
    reply_en=("{title} is yours until {result.due}.", "Lent: {title}, due back on {result.due}."),
    reply_zh=("{title}已借出，{result.due}到期。",),
)
def borrow(world: Library, rng: Random) -> Goal | None:
    """Lend a copy."""
    members = [member for member in world.members.values() if not member.owed]
    return _lend(world, rng, members, _copies(world, "available"))


@intent(
    en=("I'm {name}. Let me pay all I owe, then I'd like {title} from {branch}.",
        "Please settle {name}'s fees in full and lend them {title}[ at {branch}] afterwards."),
    zh=("我是{name}，先把欠费全部缴清，再从{branch}分馆借{title}。",
        "帮{name}缴清所有欠费，然后借出{title}[，{branch}分馆]。"),
    reply_en=("The fees are paid and {title} is lent until {result.due}.",),
    reply_zh=("欠费已缴清，{title}已借出，{result.due}到期。",),
)
def settle_and_borrow(world: Library, rng: Random) -> Goal | None:
    """Pay what is owed, as seen in the account, then lend."""
    debtors = [member for member in world.members.values() if member.owed]
    return _lend(world, rng, debtors, _copies(world, "available"), settle=True)


RENEW_EN = ("{name} at the counter: can I keep {title} for longer?",
            "Please renew {title} for {name}.",
            "I haven't finished {title} yet, can I extend it? My name is {name}.")
RENEW_ZH = ("我是{name}，{title}还没看完，能续借吗？", "请帮{name}续借{title}。")


@intent(
    en=RENEW_EN, zh=RENEW_ZH,
    reply_en=("{title} is renewed until {result.due}.",
              "You can keep {title} until {result.due}."),
    reply_zh=("{title}已续借到{result.due}。",),
)
def renew(world: Library, rng: Random) -> Goal | None:
    """Renew a loan."""
    free = [x for x in _loans(world) if x.renewals < RENEWAL_LIMIT and not _waited_for(world, x)]
    return _about(world, rng, free, "renew_loan")


@intent(
    en=("{name} brings back {title}.", "I'm returning {title}, the name is {name}.",
        "Here's {title} again. Do I have to pay anything? {name}."),
    zh=("{name}来还{title}。", "我还{title}，名字是{name}，要付逾期费吗？"),
    reply_en=("{title} is back, thank you. Late fee: {result.fee}.",),
    reply_zh=("{title}已归还，逾期费{result.fee}元。",),
)
def give_back(world: Library, rng: Random) -> Goal | None:
    """Return a loan."""
    return _about(world, rng, _loans(world), "return_loan")


@intent(
    en=("By when must {name} return {title}, and is there a late fee so far?",
        "When is {title} due? And would I owe a fee today? It's on {name}'s card.",
        "{name} asks how long {title} may stay out."),
    zh=("{name}借的{title}什么时候到期？今天还要逾期费吗？",
        "我是{name}，{title}哪天要还，会收多少钱？"),
    reply_en=("{title} is due on {result.due}; the late fee today is {result.fee}.",),
    reply_zh=("{title}的到期日是{result.due}，今天的逾期费是{result.fee}元。",),
)
def ask_due(world: Library, rng: Random) -> Goal | None:
    """Learn when a loan is due."""
    return _about(world, rng, _loans(world), "quote_late_fee")


@intent(
    en=("Which branches have {title}?", "Where could I find a copy of {title}?",
        "Do you own {title}? Where?"), zh=("哪些分馆有{title}？", "{title}在哪里可以借到？"),
    reply_en=("Copies of {title}: {count}, in {rows.branch}.",),
    reply_zh=("{title}共有{count}本：{rows.branch}。",),
)
def ask_where(world: Library, rng: Random) -> Goal:
    """Learn which branches have a book."""
    book = rng.choice(list(world.books.values()))
    look = Call("list_copies", {"book_id": book.id})
    return Goal((look,), told(title=book.title), told(author=book.author))


@intent(
    en=("Put {name} down for {title}[, pick-up at {branch}].",
        "I'd like to reserve {title} and fetch it at {branch}. {name} is my name.",
        "Can you keep {title} for me, {name}, in {branch}?"),
    zh=("我是{name}，想预约{title}[，到{branch}分馆取]。",
        "请为{name}预约{title}，在{branch}分馆取书。"),
    reply_en=("{title} is reserved for {name} at {branch}.",),
    reply_zh=("已为{name}预约{title}，到{branch}分馆取。",),
)
def reserve(world: Library, rng: Random) -> Goal | None:
    """Reserve a book."""
    member, copy = rng.choice(list(world.members.values())), rng.choice(_copies(world, "available"))
    book, branch = world.books[copy.book_id], rng.choice(list(BRANCHES))
    ids = {"book_id": book.id, "member_id": member.id}
    if any((x.book_id, x.member_id) == (book.id, member.id) for x in world.holds.values()):
        return None
    facts = told(name=member.name, title=book.title, branch=_branch(branch))
    clues = told(email=member.email, author=book.author)
    return Goal((Call("reserve_book", ids | {"branch": branch}),), facts, clues)


@intent(
    en=("{name} no longer needs {title}; drop the reservation.",
        "Cancel my reservation of {title}, please. {name}."),
    zh=("取消{name}对{title}的预约。", "我是{name}，预约的{title}不要了。"),
    reply_en=("The reservation of {title} is cancelled.",), reply_zh=("{title}的预约已取消。",),
)
def drop_reservation(world: Library, rng: Random) -> Goal | None:
    """Cancel a reservation."""
    hold = rng.choice(list(world.holds.values()))
    member, call = world.members[hold.member_id], Call("cancel_hold", {"hold_id": hold.id})
    return Goal((call,), told(name=member.name, title=hold.title), told(email=member.email))


@intent(
    en=LEND_EN, zh=LEND_ZH,
    reply_en=("I can't lend {title}: the copy in {branch} is not available.",),
    reply_zh=("{branch}分馆的{title}目前不在馆，无法借出。",), kind="fails",
)
def borrow_what_is_out(world: Library, rng: Random) -> Goal | None:
    """Ask for a copy that somebody has."""
    return _lend(world, rng, list(world.members.values()), _copies(world, "on_loan"))


@intent(
    en=RENEW_EN, zh=RENEW_ZH,
    reply_en=("{title} can't be renewed again: it was renewed twice already.",),
    reply_zh=("{title}已经续借过两次，不能再续。",), kind="fails",
)
def renew_too_often(world: Library, rng: Random) -> Goal | None:
    """Renew a loan beyond the limit."""
    worn = [loan for loan in _loans(world) if loan.renewals >= RENEWAL_LIMIT]
    return _about(world, rng, worn, "renew_loan")


@intent(
    en=LEND_EN, zh=LEND_ZH,
    reply_en=("{title} is a reference book and has to stay in the library.",),
    reply_zh=("{title}是工具书，只能在馆内阅览，不能外借。",), kind="policy",
)
def borrow_reference(world: Library, rng: Random) -> Goal:
    """Ask for a book that may not leave the house."""
    member = rng.choice(list(world.members.values()))
    book = rng.choice([one for one in world.books.values() if one.genre == "reference"])
    copy = next(one for one in world.copies.values() if one.book_id == book.id)
    facts = told(name=member.name, title=book.title, branch=_branch(copy.branch))
    return Goal((Call("search_books", {"title": book.title}),), facts, told(author=book.author))


DOMAIN = domain_of(
    sys.modules[__name__],
    "the lending desk of a public library",
    "公共图书馆的借阅台",
    seed,
    policies_en=(
        "Reference books never leave the library: do not lend them.",
        "Fees are never waived or lowered.",
    ),
    policies_zh=("工具书（reference）不得外借。", "不得减免欠费。"),
)
