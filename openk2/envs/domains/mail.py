"""A mailbox: messages, folders, contacts and what was sent."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from random import Random
from typing import Annotated

from openk2.envs.authoring import has, same, told
from openk2.envs.domain import Call, Fact, Goal, domain_of, intent
from openk2.envs.slots import Slot
from openk2.envs.tool import tool
from openk2.envs.world import World, check, find, new_id

MailId = Annotated[str, Slot("mail_id", "message id", "邮件编号", "id", entity="inbox")]
FolderId = Annotated[str, Slot("folder_id", "folder id", "文件夹编号", "id", entity="folders")]
ContactId = Annotated[str, Slot("contact_id", "contact id", "联系人编号", "id", entity="contacts")]
SentId = Annotated[
    str, Slot("sent_id", "id of the sent message", "已发邮件编号", "id", entity="sent")
]
Sender = Annotated[str, Slot("sender", "name of the sender", "发件人")]
Subject = Annotated[str, Slot("subject", "subject", "主题")]
Words = Annotated[str, Slot("words", "words in the subject", "主题中的词", accepts=("subject",))]
Day = Annotated[str, Slot("day", "day it came", "收到日期", "date")]
Unread = Annotated[bool, Slot("unread", "whether unread", "是否未读")]
Starred = Annotated[bool, Slot("starred", "whether starred", "是否加星标")]
FolderName = Annotated[str, Slot("folder", "name of the folder", "文件夹名称")]
Name = Annotated[str, Slot("name", "name of the contact", "联系人姓名")]
Email = Annotated[str, Slot("email", "e-mail address", "邮箱地址", "email")]
Company = Annotated[str, Slot("company", "company", "公司")]
Body = Annotated[str, Slot("body", "text to send", "正文")]


@dataclass(frozen=True, slots=True)
class Mail:
    """A message that came in."""

    id: MailId
    sender: Sender
    subject: Subject
    text: Annotated[str, Slot("text", "what it says", "内容")]
    day: Day
    folder_id: FolderId
    unread: Unread = False
    starred: Starred = False


@dataclass(frozen=True, slots=True)
class Folder:
    """Where messages are kept."""

    id: FolderId
    name: FolderName


@dataclass(frozen=True, slots=True)
class Contact:
    """Somebody in the address book."""

    id: ContactId
    name: Name
    email: Email
    company: Company


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that went out."""

    id: SentId
    to: str
    subject: Subject
    body: Body


@dataclass(slots=True)
class Mailbox(World):
    """Everything there is."""

    inbox: dict[str, Mail] = field(default_factory=dict[str, Mail])
    folders: dict[str, Folder] = field(default_factory=dict[str, Folder])
    contacts: dict[str, Contact] = field(default_factory=dict[str, Contact])
    sent: dict[str, Sent] = field(default_factory=dict[str, Sent])


FIRST = (
    "Agnieszka", "Bastien", "Chidi", "Dorothea", "Enzo", "Freya", "Gideon", "Hyun", "Isabel",
    "Jarek", "Kamala", "Leonie", "Matteo", "Noor", "Olga", "Pritam", "Rosalind", "Sven", "Tomoko",
)  # fmt: skip
LAST = (
    "Albrecht", "Boateng", "Cordero", "Dvorak", "Engstrom", "Ferrante", "Grant", "Hosseini",
    "Ionescu", "Jung", "Kettunen", "Larsen", "Mitra", "Novotny", "Oyelaran", "Pham", "Quist",
)  # fmt: skip
COMPANIES = (
    "Bluefin Labs", "Corvid Press", "Dune Logistics", "Elm & Sons", "Fjord Energy", "Granite Bank",
    "Helio Travel", "Indigo Films",
)  # fmt: skip
QUALITIES = ("Updated", "Final", "Missing", "Signed", "Draft of the", "About the", "Your", "Next")
THINGS = (
    "invoice", "floor plan", "guest list", "travel dates", "slides", "contract", "translation",
    "price list", "test report", "shift plan", "press release", "survey", "warranty", "menu",
)  # fmt: skip
FOLDERS = (
    "Taxes", "Family", "Clients", "Archive", "Receipts", "Travel", "Hiring", "Newsletters",
    "Legal", "Garden", "School", "Suppliers", "Choir", "Insurance",
)  # fmt: skip
BODIES = (
    "Thanks, I will look at it tonight", "Let us talk on Friday", "I agree with all of it",
    "Please send me the numbers again", "Sorry for the delay, it is done now",
    "The second page is missing", "Count me in", "We need two more days", "I paid it this morning",
    "谢谢，已经收到了", "明天上午给你答复", "请把附件再发一次",
)  # fmt: skip


def seed(rng: Random) -> Mailbox:
    """Make some weeks of messages; a subject comes twice, and two contacts share a name."""
    today = date(2026, 1, 20) + timedelta(days=rng.randrange(300))
    world = Mailbox(f"{today} 07:45")
    for name in ("Inbox", *rng.sample(FOLDERS, 5)):
        key = new_id(world.folders, "D", name)
        world.folders[key] = Folder(key, name)
    names = [f"{a} {b}" for a, b in zip(rng.sample(FIRST, 7), rng.sample(LAST, 7), strict=True)]
    for number, name in enumerate((*names, rng.choice(names))):
        company = COMPANIES[(number + len(name)) % len(COMPANIES)]
        email = f"{name.split()[number % 2].lower()}{number}@{company.split()[0].lower()}.example"
        key = new_id(world.contacts, "N", email)
        world.contacts[key] = Contact(key, name, email, company)
    subjects = [f"{rng.choice(QUALITIES)} {thing}" for thing in rng.sample(THINGS, 11)]
    places = list(world.folders)[:5]
    days = sorted(rng.sample(range(40), 13))
    for number, subject in enumerate((*subjects, *rng.sample(subjects, 2))):
        day = str(today - timedelta(days=days[number]))
        _seed_mail(world, rng, subject, day, places[0 if number < 7 else number % 5])
    contact = rng.choice(list(world.contacts.values()))
    _send(world, contact.email, rng.choice(subjects), rng.choice(BODIES))
    return world


def _seed_mail(world: Mailbox, rng: Random, subject: str, day: str, folder: str) -> None:
    twins = [mail for mail in world.inbox.values() if mail.subject == subject]
    sender = twins[0].sender if twins else rng.choice(list(world.contacts.values())).name
    number, hour = rng.randint(11, 980), rng.randint(8, 19)
    text = rng.choice((
        f"The total is {number} euros.", f"We meet at {hour}:15 in hall {number % 9 + 1}.",
        f"The code for the gate is {number}.", f"Please answer before {hour} o'clock.",
        f"Number {number} is still open.", f"There are {number % 40 + 2} people on the list.",
    ))  # fmt: skip
    key = new_id(world.inbox, "M", sender, subject, day)
    unread, starred = rng.random() < 0.5, rng.random() < 0.3
    world.inbox[key] = Mail(key, sender, subject, text, day, folder, unread, starred)


def _send(world: Mailbox, to: str, subject: str, body: str) -> Sent:
    key = new_id(world.sent, "S", to, subject, body)
    world.sent[key] = Sent(key, to, subject, body)
    return world.sent[key]


# --- tools ---------------------------------------------------------------------------------------


@tool("Search messages by what is known of them, the latest first.",
      "按已知条件搜索邮件，最新的在前。")  # fmt: skip
def search_mail(
    world: Mailbox, sender: Sender | None = None, words: Words | None = None,
    unread: Unread | None = None, folder_id: FolderId | None = None,
) -> list[Mail]:  # fmt: skip
    """Return at most five."""
    found = [
        mail
        for mail in world.inbox.values()
        if has(sender, mail.sender)
        and has(words, mail.subject)
        and same(unread, mail.unread)
        and same(folder_id, mail.folder_id)
    ]
    return sorted(found, key=lambda mail: mail.day, reverse=True)[:5]


@tool("Show one message.", "查看一封邮件。", errors=("not_found",))
def read_mail(world: Mailbox, mail_id: MailId) -> Mail:
    """Return the message."""
    return find(world.inbox, mail_id, "message")


@tool("Move a message to a folder.", "把邮件移到文件夹。", writes=True,
      errors=("not_found", "already_there"))  # fmt: skip
def move_mail(world: Mailbox, mail_id: MailId, folder_id: FolderId) -> Mail:
    """Change where a message is kept."""
    mail = find(world.inbox, mail_id, "message")
    find(world.folders, folder_id, "folder")
    check(mail.folder_id != folder_id, "already_there", "The message is in that folder.")
    world.inbox[mail_id] = replace(mail, folder_id=folder_id)
    return world.inbox[mail_id]


@tool("Delete a message for good.", "彻底删除邮件。", writes=True,
      errors=("not_found",))  # fmt: skip
def delete_mail(world: Mailbox, mail_id: MailId) -> dict[str, str]:
    """Remove a message."""
    mail = find(world.inbox, mail_id, "message")
    del world.inbox[mail_id]
    return {"deleted": mail.subject}


@tool("Find folders by name; without one, list some.",
      "按名称查找文件夹；不给名称则列出若干。")  # fmt: skip
def find_folders(world: Mailbox, name: FolderName | None = None) -> list[Folder]:
    """Return at most five."""
    return [folder for folder in world.folders.values() if has(name, folder.name)][:5]


@tool("Create a folder. Returns it.", "新建文件夹，返回该文件夹。", writes=True,
      errors=("name_taken",))  # fmt: skip
def create_folder(world: Mailbox, name: FolderName) -> Folder:
    """Add a folder of a new name."""
    taken = any(folder.name.lower() == name.lower() for folder in world.folders.values())
    check(not taken, "name_taken", "There is a folder of this name.")
    key = new_id(world.folders, "D", name)
    world.folders[key] = Folder(key, name)
    return world.folders[key]


@tool("Find contacts by name, e-mail address, or both.",
      "按姓名、邮箱或两者查找联系人。")  # fmt: skip
def find_contacts(
    world: Mailbox, name: Name | None = None, email: Email | None = None
) -> list[Contact]:
    """Return at most five."""
    found = [one for one in world.contacts.values() if has(name, one.name)]
    return [one for one in found if same(email, one.email)][:5]


@tool("Add a contact. Returns it.", "添加联系人，返回该联系人。", writes=True,
      errors=("email_taken",))  # fmt: skip
def save_contact(world: Mailbox, name: Name, email: Email, company: Company = "") -> Contact:
    """Add somebody whose address is new."""
    taken = any(contact.email == email for contact in world.contacts.values())
    check(not taken, "email_taken", "There is a contact with this address.")
    key = new_id(world.contacts, "N", email)
    world.contacts[key] = Contact(key, name, email, company)
    return world.contacts[key]


@tool("Send a new message to a contact. Returns it.", "给联系人发新邮件，返回该邮件。", writes=True,
      errors=("not_found",))  # fmt: skip
def send_mail(world: Mailbox, contact_id: ContactId, subject: Subject, body: Body) -> Sent:
    """Write to somebody in the address book."""
    contact = find(world.contacts, contact_id, "contact")
    return _send(world, contact.email, subject, body)


@tool("Answer a message. Returns the answer.", "回复邮件，返回回复。", writes=True,
      errors=("not_found",))  # fmt: skip
def reply(world: Mailbox, mail_id: MailId, body: Body) -> Sent:
    """Write to whoever sent a message."""
    mail = find(world.inbox, mail_id, "message")
    return _send(world, mail.sender, f"Re: {mail.subject}", body)


@tool("Forward a message to a contact. Returns what was sent.",
      "把邮件转发给联系人，返回已发邮件。", writes=True, errors=("not_found",))  # fmt: skip
def forward(world: Mailbox, mail_id: MailId, contact_id: ContactId) -> Sent:
    """Pass a message on."""
    mail = find(world.inbox, mail_id, "message")
    contact = find(world.contacts, contact_id, "contact")
    return _send(world, contact.email, f"Fwd: {mail.subject}", mail.text)


# --- what users want -----------------------------------------------------------------------------


def _mail(world: Mailbox, rng: Random, *, starred: bool | None = None) -> Mail:
    return rng.choice([mail for mail in world.inbox.values() if same(starred, mail.starred)])


def _of(mail: Mail) -> tuple[dict[str, Fact], dict[str, Fact]]:
    """Return how the owner names a message, and what tells apart those of one subject."""
    return told(sender=mail.sender, subject=mail.subject), told(day=mail.day)


def _contact(world: Mailbox, rng: Random) -> Contact:
    return rng.choice(list(world.contacts.values()))


@intent(
    en=("What does the mail from {sender} about \"{subject}\" say?",
        "Read me {sender}'s message, the one called {subject}.",
        "Quick one: {subject}, from {sender} - what's in it?"),
    zh=("{sender}发来的“{subject}”写了什么？", "念一下{sender}那封主题为{subject}的邮件。"),
    reply_en=("{sender} writes: {result.text}", "It says: {result.text}"),
    reply_zh=("{sender}写道：{result.text}", "内容是：{result.text}"),
)  # fmt: skip
def ask_text(world: Mailbox, rng: Random) -> Goal:
    """Learn what a message says."""
    mail = _mail(world, rng)
    return Goal((Call("read_mail", {"mail_id": mail.id}),), *_of(mail))


@intent(
    en=("Is there anything unread from {sender}?", "What have I not read yet of {sender}'s mails?",
        "Show me unread messages by {sender}."),
    zh=("{sender}有没有我没读的邮件？", "列出{sender}的未读邮件。"),
    reply_en=("There are {count} unread from {sender}: {rows.subject}.",),
    reply_zh=("{sender}有{count}封未读邮件：{rows.subject}。",),
)  # fmt: skip
def ask_unread(world: Mailbox, rng: Random) -> Goal | None:
    """Learn what is unread of somebody."""
    found = [mail.sender for mail in world.inbox.values() if mail.unread]
    if not found:
        return None
    sender = rng.choice(found)
    call = Call("search_mail", {"sender": sender, "unread": True})
    return Goal((call,), told(sender=sender, unread=True))


@intent(
    en=("Put \"{subject}\" from {sender} into {folder}.",
        "The {subject} mail by {sender} belongs in my {folder} folder.",
        "File {sender}'s message {subject}[ under {folder}], would you?"),
    zh=("把{sender}的“{subject}”放进{folder}文件夹。", "{sender}那封{subject}请归档[到{folder}]。"),
    reply_en=("\"{subject}\" is now in {folder}.",),
    reply_zh=("“{subject}”已移到{folder}。",),
)  # fmt: skip
def file_mail(world: Mailbox, rng: Random) -> Goal:
    """Move a message to another folder."""
    mail = _mail(world, rng)
    folder = rng.choice([one for one in world.folders.values() if one.id != mail.folder_id])
    facts, clues = _of(mail)
    call = Call("move_mail", {"mail_id": mail.id, "folder_id": folder.id})
    return Goal((call,), {**facts, **told(folder=folder.name)}, clues)


@intent(
    en=("Create a folder called {folder}, please.", "I need one more folder: {folder}.",
        "Could you set up {folder} as a folder?"),
    zh=("新建一个叫{folder}的文件夹。", "帮我建个文件夹，名字是{folder}。"),
    reply_en=("You already have a folder called {folder}.",),
    reply_zh=("已经有名为{folder}的文件夹了。",),
    kind="fails",
)  # fmt: skip
def repeat_folder(world: Mailbox, rng: Random) -> Goal:
    """Create a folder that is there."""
    name = rng.choice(list(world.folders.values())).name
    return Goal((Call("create_folder", {"name": name}),), told(folder=name))


@intent(
    en=("Delete {sender}'s mail \"{subject}\".", "I don't need {subject} by {sender}, bin it.",
        "Get rid of the message {subject} that {sender} sent."),
    zh=("删掉{sender}的“{subject}”。", "{sender}那封{subject}没用了，删除吧。"),
    reply_en=("\"{subject}\" is deleted.",),
    reply_zh=("“{subject}”已删除。",),
)  # fmt: skip
def delete(world: Mailbox, rng: Random) -> Goal:
    """Delete a message without a star."""
    mail = _mail(world, rng, starred=False)
    return Goal((Call("delete_mail", {"mail_id": mail.id}),), *_of(mail))


@intent(
    en=("Please delete \"{subject}\" from {sender}.", "Bin the {subject} mail {sender} wrote me.",
        "{subject} by {sender}: away with it."),
    zh=("请删除{sender}的“{subject}”。", "把{sender}写的{subject}扔掉。"),
    reply_en=("That message, of {result.day}, has a star, and I may not delete those.",),
    reply_zh=("这封{result.day}的邮件有星标，不能删除。",),
    kind="policy",
)  # fmt: skip
def delete_starred(world: Mailbox, rng: Random) -> Goal | None:
    """Ask to delete what has a star."""
    starred = [mail for mail in world.inbox.values() if mail.starred]
    if not starred:
        return None
    mail = rng.choice(starred)
    return Goal((Call("read_mail", {"mail_id": mail.id}),), *_of(mail))


@intent(
    en=("Write to {name}, subject \"{subject}\": {body}",
        "Send {name} a mail[ about {subject}][ saying: {body}]",
        "New message for {name}. Subject {subject}. Text: {body}"),
    zh=("给{name}写邮件，主题“{subject}”，正文：{body}",
        "发封邮件给{name}[，主题{subject}][，内容是{body}]"),
    reply_en=("Your mail \"{subject}\" went to {result.to}.",),
    reply_zh=("邮件“{subject}”已发到{result.to}。",),
)  # fmt: skip
def write(world: Mailbox, rng: Random) -> Goal:
    """Send a new message."""
    contact = _contact(world, rng)
    text = {"subject": f"{rng.choice(QUALITIES)} {rng.choice(THINGS)}", "body": rng.choice(BODIES)}
    facts = told(name=contact.name, **text)
    call = Call("send_mail", {"contact_id": contact.id, **text})
    return Goal((call,), facts, told(email=contact.email))


@intent(
    en=("Answer {sender}'s mail about {subject}: {body}",
        "Reply to {subject} from {sender}[ with: {body}]",
        "Tell {sender}, in reply to \"{subject}\": {body}"),
    zh=("回复{sender}的“{subject}”：{body}", "给{sender}的{subject}回信[，写{body}]"),
    reply_en=("Your answer to {sender} is sent as \"{result.subject}\".",),
    reply_zh=("给{sender}的回复已发出，主题为“{result.subject}”。",),
)  # fmt: skip
def answer(world: Mailbox, rng: Random) -> Goal:
    """Answer a message."""
    mail, body = _mail(world, rng), rng.choice(BODIES)
    facts, clues = _of(mail)
    call = Call("reply", {"mail_id": mail.id, "body": body})
    return Goal((call,), {**facts, **told(body=body)}, clues)


@intent(
    en=("Forward \"{subject}\" by {sender} to {name}.",
        "{name} should see the mail {subject} I got from {sender}; pass it on.",
        "Can {name} have a copy of {sender}'s {subject}?"),
    zh=("把{sender}的“{subject}”转发给{name}。", "{sender}那封{subject}，也发给{name}看看。"),
    reply_en=("I forwarded it to {result.to}.",),
    reply_zh=("已转发到{result.to}。",),
)  # fmt: skip
def pass_on(world: Mailbox, rng: Random) -> Goal:
    """Forward a message."""
    mail, contact = _mail(world, rng), _contact(world, rng)
    facts, clues = _of(mail)
    call = Call("forward", {"mail_id": mail.id, "contact_id": contact.id})
    return Goal(
        (call,), {**facts, **told(name=contact.name)}, {**clues, **told(email=contact.email)}
    )


@intent(
    en=("Make a folder {folder} and put {sender}'s \"{subject}\" there.",
        "I want {subject} by {sender} kept apart, in a new folder called {folder}.",
        "New folder please: {folder}. The {subject} mail from {sender} is to be the first in it."),
    zh=("新建文件夹{folder}，把{sender}的“{subject}”放进去。",
        "{sender}那封{subject}单独放，建个{folder}文件夹吧。"),
    reply_en=("The folder {folder} is there, with \"{subject}\" in it.",),
    reply_zh=("已建好{folder}，“{subject}”已放入。",),
)  # fmt: skip
def keep_apart(world: Mailbox, rng: Random) -> Goal:
    """Create a folder for a message."""
    mail, known = _mail(world, rng), [folder.name for folder in world.folders.values()]
    name = rng.choice([folder for folder in FOLDERS if folder not in known])
    (facts, clues), key = _of(mail), new_id(world.folders, "D", name)
    move = Call("move_mail", {"mail_id": mail.id, "folder_id": key})
    return Goal(
        (Call("create_folder", {"name": name}), move), {**facts, **told(folder=name)}, clues
    )


@intent(
    en=("Add {name} to my contacts: {email}[, works at {company}].",
        "Save a contact for me, {name} of {company}, {email}."),
    zh=("把{name}加到通讯录，邮箱{email}[，公司{company}]。",
        "存一下联系人{name}（{company}），{email}。"),
    reply_en=("I could not add {name}: the address {email} is in your contacts already.",),
    reply_zh=("无法添加{name}：邮箱{email}已在通讯录中。",),
    kind="fails",
)  # fmt: skip
def add_known(world: Mailbox, rng: Random) -> Goal:
    """Add a contact whose address is there."""
    return _addition(_contact(world, rng).email, rng)


@intent(
    en=("New contact: {name}, {email}[, {company}].",
        "I met {name} from {company}, please keep the address {email}."),
    zh=("新联系人：{name}，{email}[，{company}]。",
        "认识了{company}的{name}，邮箱{email}，帮我存一下。"),
    reply_en=("{name} is in your contacts with {email}.",),
    reply_zh=("{name}已加入通讯录，邮箱{email}。",),
)  # fmt: skip
def add_new(_: Mailbox, rng: Random) -> Goal:
    """Add a contact."""
    return _addition(f"hello{rng.randint(100, 999)}@studio.example", rng)


def _addition(email: str, rng: Random) -> Goal:
    name = f"{rng.choice(FIRST)} {rng.choice(LAST)}"
    values = {"name": name, "email": email, "company": rng.choice(COMPANIES)}
    return Goal((Call("save_contact", values),), told(**values))


DOMAIN = domain_of(
    sys.modules[__name__],
    "somebody's mailbox",
    "个人邮箱",
    seed,
    policies_en=("Never delete a message that has a star.",),
    policies_zh=("不得删除带星标的邮件。",),
)
