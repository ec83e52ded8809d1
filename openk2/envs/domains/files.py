"""A cloud drive: folders, files, people and shares."""

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

FolderId = Annotated[str, Slot("folder_id", "folder id", "文件夹编号", "id", entity="folders")]
FileId = Annotated[str, Slot("file_id", "file id", "文件编号", "id", entity="files")]
PersonId = Annotated[str, Slot("person_id", "person id", "用户编号", "id", entity="people")]
ShareId = Annotated[str, Slot("share_id", "share id", "共享编号", "id", entity="shares")]
FolderName = Annotated[str, Slot("folder_name", "name of the folder", "文件夹名称")]
FileName = Annotated[str, Slot("file_name", "name of the file", "文件名")]
Words = Annotated[str, Slot("words", "words in the name", "名称中的词", accepts=("file_name",))]
TypeName = Literal["document", "sheet", "slides", "image", "archive"]
FileType = Annotated[TypeName, Slot("file_type", "type of the file", "文件类型")]
Changed = Annotated[str, Slot("changed", "day of the last change", "最后修改日期", "date")]
Size = Annotated[int, Slot("size_mb", "size in megabytes", "大小（MB）", "count")]
PersonName = Annotated[str, Slot("person_name", "name of the person", "用户姓名")]
Email = Annotated[str, Slot("email", "e-mail address", "邮箱地址", "email")]
Right = Annotated[Literal["view", "edit"], Slot("right", "permission", "权限")]


@dataclass(frozen=True, slots=True)
class Folder:
    """A place for files."""

    id: FolderId
    folder_name: FolderName


@dataclass(frozen=True, slots=True)
class File:
    """A file in a folder, or in the trash."""

    id: FileId
    file_name: FileName
    folder_id: FolderId
    file_type: FileType
    size_mb: Size
    changed: Changed
    state: Literal["active", "trashed"] = "active"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody to share with."""

    id: PersonId
    person_name: PersonName
    email: Email


@dataclass(frozen=True, slots=True)
class Share:
    """What a person may do with a file."""

    id: ShareId
    file_id: FileId
    person_id: PersonId
    email: Email
    right: Right


@dataclass(slots=True)
class Drive(World):
    """Everything there is."""

    quota_mb: int = 0
    folders: dict[str, Folder] = field(default_factory=dict[str, Folder])
    files: dict[str, File] = field(default_factory=dict[str, File])
    people: dict[str, Person] = field(default_factory=dict[str, Person])
    shares: dict[str, Share] = field(default_factory=dict[str, Share])


FOLDERS = (
    "Taxes", "Holidays", "Thesis", "Band", "Recipes", "House move", "Scans", "Job search",
    "Garden", "Wedding", "Invoices", "Old laptop", "School", "Marathon", "Translations", "Podcast",
)  # fmt: skip
STEMS = (
    "budget", "itinerary", "chapter", "setlist", "dumplings", "floor plan", "passport", "sketch",
    "cover letter", "seedlings", "guest list", "receipt", "backup", "homework", "glossary",
)  # fmt: skip
MARKS = ("2023", "2024", "2025", "v2", "final", "draft", "copy", "spring", "Q3", "signed")
TYPES: dict[TypeName, tuple[str, str, str]] = {
    "document": ("docx", "documents", "文档"), "sheet": ("xlsx", "spreadsheets", "表格"),
    "slides": ("pptx", "presentations", "演示文稿"), "image": ("png", "images", "图片"),
    "archive": ("zip", "archives", "压缩包"),
}  # fmt: skip
FIRST = ("Astrid", "Bao", "Catalina", "Dmitri", "Elodie", "Femi", "Giulia", "Hamza", "Ilse",
         "Joaquin", "Keiko", "Ludvik", "Maeve", "Nikhil", "Ottilie", "Paulo")  # fmt: skip
LAST = ("Achterberg", "Bianchi", "Cho", "Demir", "Engstrom", "Faria", "Grabowski", "Huang", "Iyer",
        "Johansen", "Kimura", "Laurent", "Marchetti")  # fmt: skip
RIGHTS: dict[Literal["view", "edit"], tuple[str, str]] = {
    "view": ("view it", "查看"), "edit": ("edit it", "编辑")
}  # fmt: skip
COPY_LIMIT = 50
"""Megabytes above which the operator forbids copies."""


def seed(rng: Random) -> Drive:
    """Make a drive that is nearly full; a name can occur in two folders."""
    today = date(2026, 3, 1) + timedelta(days=rng.randrange(250))
    world = Drive(f"{today} 10:15")
    for name in rng.sample(FOLDERS, 6):
        key = new_id(world.folders, "F", name)
        world.folders[key] = Folder(key, name)
    for first, last in zip(rng.sample(FIRST, 6), rng.choices(LAST, k=6), strict=True):
        key = new_id(world.people, "U", first, last)
        address = f"{first}.{last}@example.net".lower()
        world.people[key] = Person(key, f"{first} {last}", address)
    names = [(stem, rng.choice(MARKS)) for stem in rng.sample(STEMS, 13)]
    days = [str(today - timedelta(days=days)) for days in rng.sample(range(1, 200), 14)]
    for number, (stem, mark) in enumerate((*names, names[0])):
        kind = rng.choice(list(TYPES))
        name = f"{stem} {mark}.{TYPES[kind][0]}"
        if number == 13:  # a file of the same name in another folder
            twin = next(iter(world.files.values()))
            name, kind = twin.file_name, twin.file_type
        folder = list(world.folders)[number % 6]
        key, size = new_id(world.files, "D", name, folder), rng.choice((1, 2, 4, 9, 23, 41, 64, 88))
        state = "trashed" if number in (3, 8) else "active"
        world.files[key] = File(key, name, folder, kind, size, days[number], state)
    for file in rng.sample(_active(world), 6):
        person, right = rng.choice(list(world.people.values())), rng.choice(list(RIGHTS))
        key = new_id(world.shares, "S", file.id, person.id)
        world.shares[key] = Share(key, file.id, person.id, person.email, right)
    world.quota_mb = _used(world) + rng.choice((5, 12, 25, 30))
    return world


def _active(world: Drive) -> list[File]:
    return [file for file in world.files.values() if file.state == "active"]


def _used(world: Drive) -> int:
    return sum(file.size_mb for file in world.files.values())


def _check_name(world: Drive, name: str, folder_id: str) -> None:
    taken = any(f.file_name == name and f.folder_id == folder_id for f in _active(world))
    check(not taken, "name_taken", "The folder has a file of that name.")


def _open(world: Drive, file_id: str) -> File:
    file = find(world.files, file_id, "file")
    check(file.state == "active", "in_trash", "The file is in the trash.")
    return file


# --- tools ---------------------------------------------------------------------------------------


@tool("Find folders by words of the name.", "按名称中的词查找文件夹。")
def find_folders(world: Drive, folder_name: FolderName) -> list[Folder]:
    """Return at most five."""
    return [f for f in world.folders.values() if has(folder_name, f.folder_name)][:5]


@tool("List what is in a folder, of one type or all.", "列出文件夹中的文件，可按类型筛选。",
      errors=("not_found",))  # fmt: skip
def open_folder(world: Drive, folder_id: FolderId, file_type: FileType | None = None) -> list[File]:
    """Return at most five files that are not in the trash."""
    find(world.folders, folder_id, "folder")
    files = [f for f in _active(world) if f.folder_id == folder_id and same(file_type, f.file_type)]
    return files[:5]


@tool("Find files, trash included, by words of the name or the day of the last change.",
      "按名称或最后修改日期查找文件（含回收站）。")  # fmt: skip
def search_files(
    world: Drive, words: Words | None = None, changed: Changed | None = None
) -> list[File]:
    """Return at most five, the latest change first."""
    found = [
        f for f in world.files.values() if has(words, f.file_name) and same(changed, f.changed)
    ]
    return sorted(found, key=lambda file: file.changed, reverse=True)[:5]


@tool("Show one file.", "查看一个文件的信息。", errors=("not_found",))
def file_info(world: Drive, file_id: FileId) -> File:
    """Return the file."""
    return find(world.files, file_id, "file")


@tool("Move a file to another folder.", "把文件移到另一个文件夹。", writes=True,
      errors=("not_found", "in_trash", "name_taken"))  # fmt: skip
def move_file(world: Drive, file_id: FileId, folder_id: FolderId) -> File:
    """Change the folder of a file."""
    file = _open(world, file_id)
    find(world.folders, folder_id, "folder")
    _check_name(world, file.file_name, folder_id)
    world.files[file_id] = replace(file, folder_id=folder_id)
    return world.files[file_id]


@tool("Copy a file into another folder. Returns the copy.", "把文件复制到另一个文件夹，返回副本。",
      writes=True, errors=("not_found", "in_trash", "name_taken", "quota_exceeded"))  # fmt: skip
def copy_file(world: Drive, file_id: FileId, folder_id: FolderId) -> File:
    """Add a copy where there is room for it."""
    file = _open(world, file_id)
    find(world.folders, folder_id, "folder")
    _check_name(world, file.file_name, folder_id)
    free = world.quota_mb - _used(world)
    check(file.size_mb <= free, "quota_exceeded", f"Only {free} MB are free.")
    key = new_id(world.files, "D", file.file_name, folder_id)
    world.files[key] = replace(file, id=key, folder_id=folder_id, changed=world.today)
    return world.files[key]


@tool("Move a file to the trash.", "把文件移到回收站。", writes=True,
      errors=("not_found", "in_trash"))  # fmt: skip
def trash_file(world: Drive, file_id: FileId) -> File:
    """Mark a file as trashed; its shares stay."""
    world.files[file_id] = replace(_open(world, file_id), state="trashed")
    return world.files[file_id]


@tool("Take a file out of the trash.", "从回收站恢复文件。", writes=True,
      errors=("not_found", "not_in_trash", "name_taken"))  # fmt: skip
def restore_file(world: Drive, file_id: FileId) -> File:
    """Bring a file back to its folder."""
    file = find(world.files, file_id, "file")
    check(file.state == "trashed", "not_in_trash", "The file is not in the trash.")
    _check_name(world, file.file_name, file.folder_id)
    world.files[file_id] = replace(file, state="active")
    return world.files[file_id]


@tool("Make a folder. Returns it.", "新建文件夹，返回该文件夹。", writes=True,
      errors=("name_taken",))  # fmt: skip
def make_folder(world: Drive, folder_name: FolderName) -> Folder:
    """Add a folder whose name is free."""
    taken = any(folder.folder_name == folder_name for folder in world.folders.values())
    check(not taken, "name_taken", "There is a folder of that name.")
    key = new_id(world.folders, "F", folder_name)
    world.folders[key] = Folder(key, folder_name)
    return world.folders[key]


@tool("Tell how much room is used and free, in megabytes.", "查询已用和剩余空间（MB）。")
def storage(world: Drive) -> dict[str, int]:
    """Return both."""
    return {"used": _used(world), "free": world.quota_mb - _used(world)}


@tool("Find people by name or e-mail.", "按姓名或邮箱查找用户。")
def find_people(
    world: Drive, person_name: PersonName | None = None, email: Email | None = None
) -> list[Person]:
    """Return at most five."""
    people = [p for p in world.people.values() if has(person_name, p.person_name)]
    return [person for person in people if same(email, person.email)][:5]


@tool("Share a file with a person. Returns the share.", "把文件共享给用户，返回该共享。",
      writes=True, errors=("not_found", "in_trash", "already_shared"))  # fmt: skip
def share_file(world: Drive, file_id: FileId, person_id: PersonId, right: Right = "view") -> Share:
    """Add a share."""
    _open(world, file_id)
    person = find(world.people, person_id, "person")
    shared = any(s.file_id == file_id and s.person_id == person_id for s in world.shares.values())
    check(not shared, "already_shared", "The file is shared with this person already.")
    key = new_id(world.shares, "S", file_id, person_id)
    world.shares[key] = Share(key, file_id, person_id, person.email, right)
    return world.shares[key]


@tool("List with whom a file is shared.", "列出文件的共享对象。", errors=("not_found",))
def list_shares(world: Drive, file_id: FileId) -> list[Share]:
    """Return at most five."""
    find(world.files, file_id, "file")
    return [share for share in world.shares.values() if share.file_id == file_id][:5]


@tool("End a share.", "取消共享。", writes=True, errors=("not_found",))
def end_share(world: Drive, share_id: ShareId) -> dict[str, str]:
    """Remove a share."""
    share = find(world.shares, share_id, "share")
    del world.shares[share_id]
    return {"no_longer_shared_with": share.email}


# --- what users want -----------------------------------------------------------------------------


def _about(file: File, *calls: Call, **facts: Json) -> Goal:
    """Make a goal about a file; its last change tells it from its namesakes."""
    return Goal(calls, told(file_name=file.file_name, **facts), told(changed=file.changed))


def _elsewhere(world: Drive, file: File, rng: Random) -> Folder:
    """Draw a folder that has no file of that name."""
    having = [f.folder_id for f in world.files.values() if f.file_name == file.file_name]
    return rng.choice([folder for folder in world.folders.values() if folder.id not in having])


def _to_folder(call: str, file: File, folder: Folder) -> Goal:
    one = Call(call, {"file_id": file.id, "folder_id": folder.id})
    return _about(file, one, folder_name=folder.folder_name)


@intent(
    en=("Move {file_name}[ to {folder_name}].",
        "{file_name} belongs in {folder_name}, put it there.",
        "Could you file {file_name}[ under {folder_name}]?"),
    zh=("把{file_name}移[到{folder_name}]。",
        "{file_name}应该放在{folder_name}文件夹里，挪一下。"),
    reply_en=("{file_name} is now in {folder_name}.",),
    reply_zh=("{file_name}已移到{folder_name}。",),
)  # fmt: skip
def move(world: Drive, rng: Random) -> Goal:
    """Move a file."""
    file = rng.choice(_active(world))
    return _to_folder("move_file", file, _elsewhere(world, file, rng))


@intent(
    en=("Put {file_name} into {folder_name}.", "Move {file_name} over to the {folder_name} folder.",
        "{file_name} to {folder_name} please."),
    zh=("把{file_name}放进{folder_name}。", "将{file_name}移动到{folder_name}文件夹。"),
    reply_en=("I could not move it: {folder_name} already has a file called {file_name}.",),
    reply_zh=("无法移动：{folder_name}里已有名为{file_name}的文件。",), kind="fails",
)  # fmt: skip
def move_onto_twin(world: Drive, rng: Random) -> Goal | None:
    """Move a file to where its name is taken."""
    files = _active(world)
    pairs = [(f, g) for f in files for g in files if f.id != g.id and f.file_name == g.file_name]
    if not pairs:
        return None
    file, twin = rng.choice(pairs)
    return _to_folder("move_file", file, world.folders[twin.folder_id])


def _copy(world: Drive, rng: Random, low: int, high: int) -> Goal | None:
    fitting = [file for file in _active(world) if low < file.size_mb <= high]
    if not fitting:
        return None
    file = rng.choice(fitting)
    return _to_folder("copy_file", file, _elsewhere(world, file, rng))


@intent(
    en=("Copy {file_name}[ to {folder_name}].", "I want {file_name} in {folder_name} as well.",
        "Make a copy of {file_name}[ in the folder {folder_name}], please."),
    zh=("把{file_name}复制[到{folder_name}]。", "{folder_name}里也要一份{file_name}。"),
    reply_en=("There is a copy of {file_name} in {folder_name} now.",),
    reply_zh=("{folder_name}里已有{file_name}的副本。",),
)  # fmt: skip
def copy(world: Drive, rng: Random) -> Goal | None:
    """Copy a file that fits."""
    return _copy(world, rng, 0, min(COPY_LIMIT, world.quota_mb - _used(world)))


@intent(
    en=("Copy {file_name} to {folder_name}.", "Duplicate {file_name} into {folder_name}.",
        "{folder_name} needs {file_name} too."),
    zh=("把{file_name}复制到{folder_name}。", "在{folder_name}里放一份{file_name}的副本。"),
    reply_en=("There is not enough free space for a copy of {file_name}.",),
    reply_zh=("剩余空间不足，无法复制{file_name}。",), kind="fails",
)  # fmt: skip
def copy_without_room(world: Drive, rng: Random) -> Goal | None:
    """Copy a file that does not fit."""
    return _copy(world, rng, world.quota_mb - _used(world), COPY_LIMIT)


@intent(
    en=("Copy {file_name} to {folder_name}.", "I need a second {file_name}, in {folder_name}.",
        "Clone {file_name} into {folder_name}."),
    zh=("把{file_name}复制到{folder_name}。", "请在{folder_name}再放一份{file_name}。"),
    reply_en=("{file_name} is larger than 50 MB, so I may not copy it.",),
    reply_zh=("{file_name}超过50MB，不允许复制。",), kind="policy",
)  # fmt: skip
def copy_large(world: Drive, rng: Random) -> Goal | None:
    """Copy a file that is too large for the operator."""
    goal = _copy(world, rng, COPY_LIMIT, 1000)
    if goal is None:
        return None
    read = (Call("file_info", {"file_id": goal.calls[0].arguments["file_id"]}),)
    return Goal(read, goal.facts, goal.clues)


@intent(
    en=("Delete {file_name}.", "{file_name} can go, I don't need it.", "Bin {file_name} please."),
    zh=("删除{file_name}。", "{file_name}不要了，扔掉吧。"),
    reply_en=("{file_name} is in the trash.",), reply_zh=("{file_name}已移到回收站。",),
)  # fmt: skip
def trash(world: Drive, rng: Random) -> Goal:
    """Trash a file."""
    file = rng.choice(_active(world))
    return _about(file, Call("trash_file", {"file_id": file.id}))


@intent(
    en=("I deleted {file_name} by mistake, can you get it back?", "Restore {file_name}.",
        "Undo the deletion of {file_name}."),
    zh=("我误删了{file_name}，能恢复吗？", "恢复{file_name}。"),
    reply_en=("{file_name} is back in its folder.",), reply_zh=("{file_name}已恢复到原文件夹。",),
)  # fmt: skip
def restore(world: Drive, rng: Random) -> Goal:
    """Restore a file."""
    file = rng.choice([file for file in world.files.values() if file.state == "trashed"])
    return _about(file, Call("restore_file", {"file_id": file.id}))


@intent(
    en=("Share {file_name} with {person_name}[ so that they can {right}].",
        "{person_name} needs {file_name}[ and should be able to {right}].",
        "Give {person_name} access to {file_name}[; they may {right}]."),
    zh=("把{file_name}共享给{person_name}[，允许{right}]。",
        "{person_name}需要{file_name}，请共享[，对方可以{right}]。"),
    reply_en=("{file_name} is shared with {person_name}, who can {right}.",),
    reply_zh=("{file_name}已共享给{person_name}，对方可以{right}。",),
)  # fmt: skip
def share(world: Drive, rng: Random) -> Goal:
    """Share a file with somebody who has no access."""
    file, right = rng.choice(_active(world)), rng.choice(list(RIGHTS))
    having = [s.person_id for s in world.shares.values() if s.file_id == file.id]
    person = rng.choice([one for one in world.people.values() if one.id not in having])
    said = Fact("right", right, RIGHTS[right])
    one = Call("share_file", {"file_id": file.id, "person_id": person.id, "right": right})
    return _about(file, one, person_name=person.person_name, right=said)


@intent(
    en=("{email} should no longer see {file_name}.", "Stop sharing {file_name}[ with {email}].",
        "Take {file_name} away from {email}."),
    zh=("不要再把{file_name}共享给{email}。", "取消{file_name}[对{email}]的共享。"),
    reply_en=("{file_name} is no longer shared with {email}.",),
    reply_zh=("{file_name}已不再共享给{email}。",),
)  # fmt: skip
def unshare(world: Drive, rng: Random) -> Goal:
    """End a share."""
    one = rng.choice(list(world.shares.values()))
    end = Call("end_share", {"share_id": one.id})
    return _about(world.files[one.file_id], end, email=one.email)


@intent(
    en=("What is in {folder_name}?", "List the files of my {folder_name} folder.",
        "Show me {folder_name}."),
    zh=("{folder_name}里有什么？", "列出{folder_name}文件夹的文件。"),
    reply_en=("Files in {folder_name}: {count}, namely {rows.file_name}.",),
    reply_zh=("{folder_name}里有{count}个文件：{rows.file_name}。",),
)  # fmt: skip
def ask_folder(world: Drive, rng: Random) -> Goal:
    """Learn what a folder holds."""
    folder = world.folders[rng.choice(_active(world)).folder_id]
    goal = (Call("open_folder", {"folder_id": folder.id}),)
    return Goal(goal, told(folder_name=folder.folder_name))


@intent(
    en=("Am I running out of space?", "How much storage do I have left?", "How full is my drive?"),
    zh=("我的空间还剩多少？", "网盘快满了吗？"),
    reply_en=("You use {result.used} MB; {result.free} MB are free.",),
    reply_zh=("已用 {result.used} MB，还剩 {result.free} MB。",),
)  # fmt: skip
def ask_space(_world: Drive, _rng: Random) -> Goal:
    """Learn how full the drive is."""
    return Goal((Call("storage", {}),), {})


@intent(
    en=("Make a folder {folder_name} and put {file_name} in it.",
        "I need a new folder called {folder_name}; {file_name} goes there.",
        "Start a {folder_name} folder with {file_name}."),
    zh=("新建文件夹{folder_name}，把{file_name}放进去。",
        "建一个{folder_name}文件夹，然后把{file_name}移过去。"),
    reply_en=("{folder_name} exists now and holds {file_name}.",),
    reply_zh=("已新建{folder_name}，{file_name}已放入其中。",),
)  # fmt: skip
def start_folder(world: Drive, rng: Random) -> Goal:
    """Make a folder for a file."""
    file, used = rng.choice(_active(world)), [f.folder_name for f in world.folders.values()]
    name = rng.choice([name for name in FOLDERS if name not in used])
    new = Call("make_folder", {"folder_name": name})
    move_it = Call("move_file", {"file_id": file.id, "folder_id": new_id(world.folders, "F", name)})
    return _about(file, new, move_it, folder_name=name)


DOMAIN = domain_of(
    sys.modules[__name__], "a cloud drive", "云盘", seed,
    policies_en=("Never copy a file that is larger than 50 MB.",),
    policies_zh=("不得复制超过50MB的文件。",),
)  # fmt: skip
