"""Values written as Java or JavaScript source, as BFCL's scorer reads them.

In: a string of source and the declared type. Out: the value; the string itself if it is not of it.
Must not know: what the value is compared with.

The reading is that of the public scorer (`bfcl-eval` 2026.3.23), its limits included, because a
score that reads more generously is not BFCL's: a Java `String[]` keeps the quotes of its items, a
list of JavaScript is cut at every comma, numbers must be written as Java's types want them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_EXPONENT = r"-?\d+(\.\d+)?([eE][+-]?\d+)?"


def _number(pattern: str, make: Callable[[str], Any], suffix: str = "") -> Callable[[str], Any]:
    compiled = re.compile(rf"(?:{pattern}){suffix}")

    def read(text: str) -> Any:
        # `$` of the public scorer also matches before a last line break.
        whole = text.removesuffix("\n")
        return make(whole[:-1] if suffix else whole) if compiled.fullmatch(whole) else text

    return read


def _boolean(text: str) -> Any:
    return text == "true" if text in ("true", "false") else text


def _itself(text: str) -> Any:
    return text


_JAVA_SCALARS: dict[str, Callable[[str], Any]] = {
    "byte": _number(r"-?\d+", int),
    "short": _number(r"-?\d+", int),
    "integer": _number(r"-?\d+", int),
    "long": _number(r"-?\d+", int, "[lL]"),
    "float": _number(_EXPONENT, float, "[fF]"),
    "double": _number(_EXPONENT, float),
    "boolean": _boolean,
    "char": _itself,
    "String": _itself,
    "any": _itself,
}


def java_value(text: str, kind: str, items: str | None = None) -> Any:
    """Read Java source.

    Args:
        text: The source.
        kind: The declared type.
        items: The declared type of a list's items.

    Raises:
        ValueError: The type is none that the packs declare.
    """
    if kind in _JAVA_SCALARS:
        return _JAVA_SCALARS[kind](text)
    match kind:
        case "Array":
            return _java_array(text, items)
        case "ArrayList":
            return _java_list(text, items)
        case "HashMap":
            return _java_map(text)
        case _:
            raise ValueError(f"no value can be of the Java type {kind!r} in these packs")


def _java_array(text: str, items: str | None) -> Any:
    found = re.search(r"new\s+\w+\[\]\s*\{(.*?)\}", text)
    if not found:
        return text
    parts = (part.strip() for part in found.group(1).split(","))
    return [java_value(part, items) if items else _java_guess(part) for part in parts if part]


def _java_list(text: str, items: str | None) -> Any:
    if found := re.search(r"new\s+ArrayList<\w*>\(Arrays\.asList\((.+?)\)\)", text):
        return [_java_item(part.strip(), items) for part in found.group(1).split(",")]
    if found := re.search(r"new\s+ArrayList<\w*>\(\)\s*\{\{\s*(.+?)\s*\}\}", text, re.DOTALL):
        return [_java_item(part.strip(), items) for part in re.findall(r"add\((.+?)\)", found[1])]
    return [] if re.search(r"new\s+ArrayList<\w*>\(\)", text) else text


def _java_item(text: str, items: str | None) -> Any:
    if items in ("char", "String"):
        return text[1:-1]
    return java_value(text, items) if items else _java_guess(text)


def _java_map(text: str) -> Any:
    start = r"new\s+HashMap<.*?>\s*\(\)"
    if found := re.search(start + r"\s*\{\s*\{?\s*(.*?)\s*\}?\s*\}", text, re.DOTALL):
        pairs = re.findall(r"put\(\"(.*?)\",\s*(.*?)\)", found[1])
        return {key: _java_guess(value.strip()) for key, value in pairs}
    return {} if re.search(start, text) else text


def _java_guess(text: str) -> Any:
    """Read a value of an undeclared type."""
    if text in ("true", "false"):
        return text == "true"
    if text.startswith('"') and text.endswith('"'):
        return text[1:-1]
    for kind in ("long", "float"):
        value = java_value(text, kind)
        if value is not text:
            return value
    return _python_number(text)


def _python_number(text: str) -> Any:
    for make in (int, float):
        try:
            return make(text)
        except ValueError:
            continue
    return text


def _quoted(text: str) -> bool:
    return any(text.startswith(mark) and text.endswith(mark) for mark in "\"'")


_JAVASCRIPT_SCALARS: dict[str, Callable[[str], Any]] = {
    "String": lambda text: text[1:-1] if _quoted(text) else text,
    "integer": _number(r"-?\d+", int),
    "float": _number(r"-?\d+(\.\d+)?", float),
    "Bigint": _number(r"-?\d+", int, "n"),
    "Boolean": _boolean,
    "any": _itself,
}


def javascript_value(text: str, kind: str, items: str | None = None) -> Any:
    """Read JavaScript source.

    Args:
        text: The source.
        kind: The declared type.
        items: The declared type of a list's items.

    Raises:
        ValueError: The type is none that the packs declare.
    """
    if kind in _JAVASCRIPT_SCALARS:
        return _JAVASCRIPT_SCALARS[kind](text)
    match kind:
        case "array":
            return _javascript_list(text.strip(), items)
        case "dict":
            return _javascript_object(text.strip())
        case _:
            raise ValueError(f"no value can be of the JavaScript type {kind!r} in these packs")


_LISTS = re.compile(
    r"\[\s*\[.*?\]\s*(,\s*\[.*?\]\s*)*\]|\bnew\s+Array\(\s*\[.*?\]\s*(,\s*\[.*?\]\s*)*\)"
)
_LIST = re.compile(r"\[(.*?)\]|\bnew\s+Array\((.*?)\)")


def _javascript_list(text: str, items: str | None) -> Any:
    if found := _LISTS.match(text):
        inner = [part.strip().removeprefix("[") for part in re.findall(r"\[(.*?)\]", found[0])]
        return [[_javascript_guess(item) for item in part.split(",")] for part in inner]
    found = _LIST.match(text)
    if not found:
        return text
    body = (found[1] if found[1] is not None else found[2]).strip()
    parts = [part.strip() for part in body.split(",")] if body else []
    return [javascript_value(part, items) if items else _javascript_guess(part) for part in parts]


def _javascript_object(text: str) -> Any:
    if text == "{}":
        return {}
    found = re.match(r"\{(.*?)\}", text)
    if not found:
        return text
    pairs = re.findall(r"([^:]+):\s*(.*?)(?:,\s*(?=[^,]+:)|$)", found[1])
    return {key.strip().strip("'\""): _javascript_entry(value.strip()) for key, value in pairs}


def _javascript_entry(text: str) -> Any:
    if text.startswith("[") and text.endswith("]"):
        return _javascript_list(text, None)
    if text.startswith("{") and text.endswith("}"):
        return _javascript_object(text)
    return _javascript_guess(text.strip("'\""))


def _javascript_guess(text: str) -> Any:
    """Read a value of an undeclared type."""
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    return text[1:-1] if _quoted(text) else _python_number(text)
