"""A file system that one walks one folder at a time.

In: a tree of folders and files. Out: the pack's functions on it.
Must not know: the machine's own files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from openk2.evals.bfcl_worlds.world import Config, Json, Refused

_FORBIDDEN = frozenset('|/\\?%*:"><')


@dataclass
class File:
    """A file; it is the same as another with its name and content."""

    name: str
    content: str = ""


@dataclass
class Folder:
    """A folder; it is the same as another with its name and contents, wherever it is."""

    name: str
    parent: Folder | None = field(default=None, compare=False, repr=False)
    contents: dict[str, File | Folder] = field(default_factory=dict[str, "File | Folder"])


class GorillaFileSystem:
    """The file system; functions act in the current folder."""

    def __init__(self, config: Config) -> None:
        """Build the tree of `root`."""
        root: dict[str, Json] = config.get("root") or {"/": {"contents": {}}}
        name = next(iter(root))
        self._root = _built(name, root[name]["contents"], None)
        self._here = self._root

    def state(self) -> Any:
        """Return the tree; where one stands does not count."""
        return self._root

    def pwd(self) -> Json:
        """Say where one stands."""
        names: list[str] = []
        folder: Folder | None = self._here
        while folder is not None:
            names.append(folder.name)
            folder = folder.parent
        return {"current_working_directory": "/" + "/".join(reversed(names))}

    def ls(self, a: bool = False) -> Json:
        """List the folder."""
        names = [name for name in self._here.contents if a or not name.startswith(".")]
        return {"current_directory_content": names}

    def cd(self, folder: str) -> Json:
        """Go to a folder in this one, to the one above, or to the root."""
        folder = folder.rstrip("/") or "/"
        if folder == "..":
            if self._here.parent is None:
                raise Refused("cd: this is the root, there is nothing above it")
            self._here = self._here.parent
            return {}
        if folder != "/" and "/" in folder:
            raise Refused(f"cd: {folder}: only one level at a time")
        self._here = self._at(folder, "cd")
        return {"current_working_directory": self._here.name}

    def mkdir(self, dir_name: str) -> None:
        """Make a folder."""
        self._free(dir_name, "mkdir")
        self._here.contents[dir_name] = Folder(dir_name, self._here)

    def touch(self, file_name: str) -> None:
        """Make an empty file."""
        self._free(file_name, "touch")
        self._here.contents[file_name] = File(file_name)

    def echo(self, content: str, file_name: str | None = None) -> Json | None:
        """Write into a file that there is, or show."""
        if file_name:
            _check_name(file_name, "echo")
            item = self._here.contents.get(file_name)
            if item is None:
                raise Refused(f"echo: {file_name}: there is no such file")
            if isinstance(item, Folder):
                raise ValueError("a folder cannot be written to")
            item.content = content
            return None
        return {"terminal_output": content}

    def cat(self, file_name: str) -> Json:
        """Show a file."""
        _check_name(file_name, "cat")
        if isinstance(self._here.contents.get(file_name), Folder):
            raise Refused(f"cat: {file_name}: is a folder")
        return {"file_content": self._file(file_name, "cat").content}

    def find(self, path: str = ".", name: str | None = None) -> Json:
        """List everything below a folder, or what has a part of a name."""
        found: list[str] = []

        def walk(folder: Folder, base: str) -> None:
            for item_name, item in folder.contents.items():
                if name is None or name in item_name:
                    found.append(f"{base}/{item_name}")
                if isinstance(item, Folder):
                    walk(item, f"{base}/{item_name}")

        walk(self._at(path, "find"), path.rstrip("/"))
        return {"matches": found}

    def wc(self, file_name: str, mode: str = "l") -> Json:
        """Count a file's lines, words or characters."""
        if mode not in ("l", "w", "c"):
            raise Refused(f"wc: {mode!r} is none of l, w, c")
        content = self._file(file_name, "wc").content
        match mode:
            case "l":
                return {"count": len(content.splitlines()), "type": "lines"}
            case "w":
                return {"count": len(content.split()), "type": "words"}
            case _:
                return {"count": len(content), "type": "characters"}

    def sort(self, file_name: str) -> Json:
        """Show a file's lines in order."""
        lines = self._file(file_name, "sort").content.splitlines()
        return {"sorted_content": "\n".join(sorted(lines))}

    def grep(self, file_name: str, pattern: str) -> Json:
        """Show the lines that have a text."""
        lines = self._file(file_name, "grep").content.splitlines()
        return {"matching_lines": [line for line in lines if pattern in line]}

    def du(self, human_readable: bool = False) -> Json:
        """Sum up the sizes below the folder."""
        size: float = _size(self._here)
        if not human_readable:
            return {"disk_usage": f"{size} bytes"}
        for unit in ("B", "KB", "MB", "GB", "TB"):
            if size < 1024:
                return {"disk_usage": f"{size:.2f} {unit}"}
            size /= 1024
        return {"disk_usage": f"{size:.2f} PB"}

    def tail(self, file_name: str, lines: int = 10) -> Json:
        """Show a file's last lines."""
        content = self._file(file_name, "tail").content.splitlines()
        return {"last_lines": "\n".join(content[-min(lines, len(content)) :])}

    def diff(self, file_name1: str, file_name2: str) -> Json:
        """Show the lines that differ, place by place."""
        first, second = (self._file(name, "diff").content for name in (file_name1, file_name2))
        pairs = zip(first.splitlines(), second.splitlines(), strict=False)
        return {"diff_lines": "\n".join(f"- {a}\n+ {b}" for a, b in pairs if a != b)}

    def mv(self, source: str, destination: str) -> Json:
        """Move or rename."""
        item = self._item(source, "mv")
        folder, name = self._target(source, destination, "mv")
        if name in folder.contents:
            raise Refused(f"mv: {destination}/{source}: is there already")
        del self._here.contents[source]
        _put(folder, name, item, shared=True)
        place = name if folder is self._here else f"{destination}/{source}"
        return {"result": f"{source!r} moved to {place!r}"}

    def cp(self, source: str, destination: str) -> Json:
        """Copy."""
        item = self._item(source, "cp")
        folder, name = self._target(source, destination, "cp")
        if name in folder.contents:
            raise ValueError(f"{name!r} is there already")
        _put(folder, name, item, shared=False)
        place = name if folder is self._here else f"{destination}/{source}"
        return {"result": f"{source!r} copied to {place!r}"}

    def rm(self, file_name: str) -> Json:
        """Remove a file or a folder."""
        self._item(file_name, "rm")
        del self._here.contents[file_name]
        return {"result": f"{file_name!r} removed"}

    def rmdir(self, dir_name: str) -> Json:
        """Remove an empty folder."""
        item = self._item(dir_name, "rmdir")
        if isinstance(item, File):
            raise Refused(f"rmdir: {dir_name}: is no folder")
        if item.contents:
            raise Refused(f"rmdir: {dir_name}: is not empty")
        del self._here.contents[dir_name]
        return {"result": f"{dir_name!r} removed"}

    def _at(self, path: str, who: str) -> Folder:
        folder = self._root if path.startswith("/") else self._here
        for step in path.strip("/").split("/"):
            item = folder if step in (".", "") else folder.contents.get(step)
            if not isinstance(item, Folder):
                raise Refused(f"{who}: {path}: there is no such folder")
            folder = item
        return folder

    def _file(self, name: str, who: str) -> File:
        item = self._here.contents.get(name)
        if not isinstance(item, File):
            raise Refused(f"{who}: {name}: there is no such file")
        return item

    def _item(self, name: str, who: str) -> File | Folder:
        if name not in self._here.contents:
            raise Refused(f"{who}: {name}: there is no such file or folder")
        return self._here.contents[name]

    def _free(self, name: str, who: str) -> None:
        _check_name(name, who)
        if name in self._here.contents:
            raise Refused(f"{who}: {name}: is there already")

    def _target(self, source: str, destination: str, who: str) -> tuple[Folder, str]:
        if "/" in destination:
            raise Refused(f"{who}: the destination is a name, not a path")
        item = self._here.contents.get(destination)
        if isinstance(item, File):
            raise Refused(f"{who}: {source} to {destination}: is no folder")
        return (self._here, destination) if item is None else (item, source)


def _built(name: str, tree: Config, parent: Folder | None) -> Folder:
    folder = Folder(name, parent)
    for item_name, item in tree.items():
        if item["type"] == "directory":
            folder.contents[item_name] = _built(item_name, item["contents"], folder)
        else:
            folder.contents[item_name] = File(item_name, item["content"])
    return folder


def _put(folder: Folder, name: str, item: File | Folder, *, shared: bool) -> None:
    if isinstance(item, File):
        folder.contents[name] = File(name, item.content)
    else:
        contents = item.contents if shared else dict(item.contents)
        folder.contents[name] = Folder(name, folder, contents)


def _check_name(name: str, who: str) -> None:
    if _FORBIDDEN & set(name):
        raise Refused(f"{who}: {name}: has a character that names may not have")


def _size(item: File | Folder) -> int:
    if isinstance(item, File):
        return len(item.content.encode())
    return sum(_size(child) for child in item.contents.values())
