"""The words of shell text: what a node of its syntax tree says once quotes are gone.

In: a node. Out: its text, UNKNOWN where only running it would tell; whether the grammar read it as
a shell would. Must not know: commands.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node

UNKNOWN = "\0"
"""Stands for any text, several words or none included: no word of a command can hold a NUL."""

LONG = 4_096
"""A word that is longer and not known for certain is not known at all."""

_BY_BYTES = frozenset({"string", "heredoc_redirect", "heredoc_body", "test_command", "regex"})
"""Their blanks are text, or part of what is read by its bytes."""
_OF_LINES = frozenset(
    [
        "program",
        "list",
        "pipeline",
        "subshell",
        "compound_statement",
        "do_group",
        "if_statement",
        "elif_clause",
        "else_clause",
        "while_statement",
        "for_statement",
        "c_style_for_statement",
        "case_statement",
        "case_item",
        "function_definition",
        "command_substitution",
        "process_substitution",
        "array",
        "arithmetic_expansion",
        "binary_expression",
        "parenthesized_expression",
        "ternary_expression",
    ]
)
"""A new line may stand between their parts."""
_OPENED = frozenset({"negated_command", "compound_statement"})
_BLANKS = re.compile(rb"(?:\\\n)*[ \t](?:[ \t]|\\\n)*")
_LINES = re.compile(rb"(?:\\\n)*[ \t\n](?:[ \t\n]|\\\n)*")


def is_whole(node: Node) -> bool:
    r"""Whether nothing but blanks is between a node's parts, and blanks where a shell needs them.

    The grammar drops the backslash of `\ a`, takes `!a` for `! a` and `{}` for an empty group.
    """
    whole, at = node.text or b"", 0
    if node.type == "word":
        return not re.search(rb"(?:^|[^\\])(?:\\\\)*[ \t\n]", whole)
    if any(not child.is_named and source_of(child) != child.type for child in node.children):
        return False
    if not node.children or node.type in _BY_BYTES:
        return node.type != "file_descriptor" or whole.isdigit()
    if node.type == "concatenation":
        return sum(len(child.text or b"") for child in node.children) == len(whole)
    between = _LINES if node.type in _OF_LINES else _BLANKS
    opened = node.children[0].type in ("!", "{") and node.type in _OPENED
    target = False
    for child in node.children:
        begin = child.start_byte - node.start_byte
        if begin > at and not between.fullmatch(whole, at, begin):
            return False
        if begin == at and opened and child == node.children[1]:
            return False
        if begin == at and node.type == "file_redirect" and target and child.is_named:
            return False
        target = child.is_named and child.type != "file_descriptor"
        at = max(at, child.end_byte - node.start_byte)
    return at == len(whole) or _LINES.fullmatch(whole, at) is not None


def source_of(node: Node) -> str:
    """Return a node's text as it was written."""
    return (node.text or b"").decode(errors="replace")


def heredoc_text(node: Node) -> str:
    """Return what a here-document holds; UNKNOWN where the shell would expand parts of it."""
    start = next((child for child in node.children if child.type == "heredoc_start"), None)
    body = next((child for child in node.children if child.type == "heredoc_body"), None)
    if start is None or body is None:
        return UNKNOWN
    text = source_of(body)
    quoted = any(mark in source_of(start) for mark in "'\"\\")
    return text if quoted or not re.search(r"[$`\\]", text) else UNKNOWN


def unquoted(node: Node) -> str:
    """Unquote one word; UNKNOWN stands for what only running it would tell."""
    text = _unquoted(node)
    return UNKNOWN if len(text) > LONG and UNKNOWN in text else text


def _unquoted(node: Node) -> str:
    match node.type:
        case "command_name" | "concatenation":
            text = source_of(node)
            if node.type == "concatenation" and re.search(r"\{.*(?:,|\.\.)", text):
                return UNKNOWN
            return "".join(unquoted(child) for child in node.children)
        case "word" | "number" | "variable_name" | "extglob_pattern" | "test_operator":
            return _bare(source_of(node))
        case "raw_string":
            return source_of(node)[1:-1]
        case "string":
            return _double_quoted(node)
        case "variable_assignment":
            return "".join(unquoted(child) for child in node.children)
        case "=" | "+=" | "{" | "}" | "[" | "]" | "export" | "declare" | "local" | "readonly":
            return source_of(node)
        case "typeset":
            return source_of(node)
        case _:
            return UNKNOWN


def _bare(text: str) -> str:
    if re.search(r"(?<!\\)(?:\{.*(?:,|\.\.).*\}|\[|[@!+](?=\())", text):
        return UNKNOWN
    # A shell puts a home folder for `~` at a word's start, and in what looks like an assignment.
    text = re.sub(r"(^|[=:])~[^/:]*", lambda found: found[1] + UNKNOWN, text)
    return re.sub(r"\\(\n|.)|([*?])", _unescape, text, flags=re.DOTALL)


def _unescape(found: re.Match[str]) -> str:
    if found[2]:
        return UNKNOWN
    return "" if found[1] == "\n" else found[1]


def _double_quoted(node: Node) -> str:
    """Read a string by its bytes: the grammar drops blanks between its parts."""
    whole = node.text or b""
    pieces: list[str] = []
    at = 1
    for child in node.named_children:
        if child.type == "string_content":
            continue
        begin = child.start_byte - node.start_byte
        pieces += [_quoted_text(whole[at:begin]), UNKNOWN]
        at = child.end_byte - node.start_byte
    return "".join([*pieces, _quoted_text(whole[at:-1])])


def _quoted_text(text: bytes) -> str:
    # Inside double quotes a backslash means something before these four and a line's end only.
    return re.sub(r'\\([$`"\\])|\\\n', lambda found: found[1] or "", text.decode(errors="replace"))
