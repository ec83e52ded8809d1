"""What a shell text would run: every simple command in it, wherever it hides.

In: text for `bash -c`. Out: commands as words, with what they redirect, and a mark wherever the
text does not say what will run.
Must not know: what is allowed, who wrote the text, or how it will be run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from openk2.agent.command_prefixes import Inner, look_into
from openk2.agent.shell_words import UNKNOWN, heredoc_text, is_whole, source_of, unquoted

if TYPE_CHECKING:
    from tree_sitter import Node

LONGEST = 100_000
MOST_NODES = 3_000
DEEPEST = 60
DEEPEST_TEXTS = 30
"""A text that is longer, has more parts, is nested deeper, or holds more texts in texts or wrappers
around wrappers, is opaque: people do not write such commands."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """A file that a command reads or writes without naming it among its words."""

    path: str
    """As written, relative to the working folder; may hold UNKNOWN."""
    kind: Literal["read", "write"]


@dataclass(frozen=True, slots=True)
class Command:
    """One simple command."""

    words: tuple[str, ...]
    """The program and its arguments, unquoted; UNKNOWN where only running it would tell. None for
    a bare assignment or redirection."""
    environment: tuple[str, ...] = ()
    """Names of variables that are set for it."""
    redirects: tuple[Redirect, ...] = ()
    starts_next: bool = False
    """Does nothing but start the commands that follow it in the list, as `timeout 5 make` does."""
    opaque: str = ""
    """Why it cannot be told what runs here; `words` is then UNKNOWN alone."""

    @property
    def literal(self) -> bool:
        """Whether every word is known."""
        return not any(UNKNOWN in word for word in self.words)


@dataclass(frozen=True, slots=True)
class Script:
    """All that a text would run."""

    commands: tuple[Command, ...]
    """In the order of the text; those inside a substitution before the command that has it."""
    moves: bool = False
    """Changes its working folder: relative paths in it cannot be told."""

    @property
    def opaque(self) -> tuple[str, ...]:
        """Why parts of it cannot be understood."""
        return tuple(command.opaque for command in self.commands if command.opaque)


def parse_commands(text: str) -> Script:
    """List the commands of a shell text; what is not understood for certain is opaque."""
    commands = tuple(_Reader(depth=0).read(text))
    moves = any(command.words[:1] in _MOVES for command in commands)
    return Script(commands, moves)


_MOVES = {("cd",), ("pushd",), ("popd",)}

_ODD = re.compile(r"[^\S \t\n]|[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
"""Blanks and control characters on which a grammar and a real shell may disagree."""

_PLAIN = frozenset(
    [
        "program",
        "pipeline",
        "list",
        "subshell",
        "compound_statement",
        "if_statement",
        "elif_clause",
        "else_clause",
        "while_statement",
        "case_statement",
        "case_item",
        "do_group",
        "function_definition",
        "negated_command",
        "unset_command",
        "test_command",
        "variable_assignments",
        "comment",
        "word",
        "string",
        "string_content",
        "raw_string",
        "ansi_c_string",
        "translated_string",
        "number",
        "concatenation",
        "simple_expansion",
        "expansion",
        "command_substitution",
        "process_substitution",
        "variable_name",
        "special_variable_name",
        "arithmetic_expansion",
        "binary_expression",
        "unary_expression",
        "parenthesized_expression",
        "postfix_expression",
        "ternary_expression",
        "test_operator",
        "subscript",
        "array",
        "brace_expression",
        "file_descriptor",
        "extglob_pattern",
        "regex",
        "heredoc_start",
        "heredoc_end",
        "heredoc_body",
        "heredoc_content",
        "c_style_for_statement",
    ]
)
"""Kinds of nodes that run nothing themselves: only what is inside them can."""

_NUMERIC = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-v"})


def _opaque(why: str) -> Command:
    return Command((UNKNOWN,), opaque=why)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Walks the tree of one text; texts inside it (`sh -c '…'`) are read by deeper ones."""

    depth: int

    def read(self, text: str) -> Iterator[Command]:
        if self.depth > DEEPEST_TEXTS or len(text) > LONGEST:
            yield _opaque("it is too long or nested too deep to be checked")
            return
        if _ODD.search(text):
            yield _opaque("it holds control characters or unusual blanks")
            return
        try:
            import tree_sitter
            import tree_sitter_bash
        except ImportError:
            yield _opaque("commands can be checked after: pip install 'openk2[agent]'")
            return
        source = text.encode()
        language = tree_sitter.Language(tree_sitter_bash.language())
        root = tree_sitter.Parser(language).parse(source).root_node
        around = source[: root.start_byte] + source[root.end_byte :]
        if root.descendant_count > MOST_NODES:
            yield _opaque("it is too long or nested too deep to be checked")
            return
        if root.has_error or around.strip(b" \t\n"):
            yield _opaque("it is not shell text that can be understood for certain")
        yield from self._visit(root, 0)

    def _visit(self, node: Node, level: int) -> Iterator[Command]:
        if level > DEEPEST:
            yield _opaque("it is nested too deep to be checked")
            return
        match node.type:
            case "command" | "declaration_command":
                yield from self._command(node, level)
                return
            case "redirected_statement":
                yield from self._redirected(node, level)
                return
            case "variable_assignment":
                yield from _assigned(node.child_by_field_name("name"))
            case "for_statement":
                yield from _assigned(node.child_by_field_name("variable"))
            case "expansion" | "simple_expansion" if _evaluates(node):
                yield _opaque("it expands a variable into a name or a subscript")
            case "compound_statement" | "arithmetic_expansion" | "c_style_for_statement" if (
                _is_arithmetic(node)
            ):
                yield from _arithmetic(node)
            case "test_command":
                yield from _test(node)
            case kind if node.is_named and kind not in _PLAIN:
                yield _opaque(f"it holds {kind.replace('_', ' ').lower()}")
            case _:
                pass
        yield from self._inside(node, level)

    def _inside(self, node: Node, level: int) -> Iterator[Command]:
        if not is_whole(node):
            yield _opaque(_QUOTED)
        for child in node.children:
            yield from self._visit(child, level + 1)

    def _redirected(self, node: Node, level: int) -> Iterator[Command]:
        draft = _Draft()
        body = node.child_by_field_name("body")
        simple = body is not None and body.type in ("command", "declaration_command")
        if not is_whole(node):
            yield _opaque(_QUOTED)
        if body is not None and simple:
            yield from self._gather(body, draft, level)
        for child in node.children:
            if child != body:
                draft.add_redirect(child)
                # The rest of the first line, `cat <<EOF | sh`, hangs in the redirection.
                yield from self._inside(child, level)
        if body is not None and not simple:
            if draft.words:
                yield _opaque("it has words where none can be")
            yield from self._visit(body, level + 1)
        yield from self._unwrapped(draft.command(), draft.stdin)

    def _command(self, node: Node, level: int) -> Iterator[Command]:
        draft = _Draft()
        yield from self._gather(node, draft, level)
        yield from self._unwrapped(draft.command(), draft.stdin)

    def _gather(self, node: Node, draft: _Draft, level: int) -> Iterator[Command]:
        """Put the words of one command into a draft; yield the commands inside them."""
        if not is_whole(node):
            yield _opaque(_QUOTED)
        end = -1
        for child in node.children:
            yield from self._argument(child, level)
            name = child.child_by_field_name("name")
            if child.type == "variable_assignment" and not draft.words:
                draft.environment.append(source_of(name) if name else UNKNOWN)
            elif child.type in ("file_redirect", "herestring_redirect"):
                draft.add_redirect(child)
            elif child.type in (";", "\n", ";;", "&", "|"):
                pass
            elif child.start_byte == end and draft.words:
                # The grammar sees two words where no blank is: a shell sees one.
                draft.words[-1] = UNKNOWN
            else:
                draft.words.append(unquoted(child))
            end = child.end_byte

    def _argument(self, child: Node, level: int) -> Iterator[Command]:
        if child.type == "variable_assignment":
            yield from self._inside(child, level)
        else:
            inner = child.type in ("file_redirect", "herestring_redirect", "command_name")
            yield from self._inside(child, level) if inner else self._visit(child, level + 1)

    def _unwrapped(self, command: Command, stdin: str) -> Iterator[Command]:
        """Yield a command, then what it would start."""
        if command == Command(()):
            return
        inner = look_into(command.words, stdin)
        yield replace(command, starts_next=inner is not None and inner.transparent)
        if inner is None:
            return
        if inner.opaque:
            yield _opaque(inner.opaque)
        if inner.text is not None:
            if UNKNOWN in inner.text:
                yield _opaque("it runs a text that is only known when it runs")
            yield from _Reader(self.depth + 1).read(inner.text.replace(UNKNOWN, "${_}"))
        yield from self._started(command, inner)

    def _started(self, command: Command, inner: Inner) -> Iterator[Command]:
        for words in inner.commands:
            if self.depth > DEEPEST_TEXTS:
                yield _opaque("it is nested too deep to be checked")
                return
            environment = (*command.environment, *inner.environment)
            yield from _Reader(self.depth + 1)._unwrapped(Command(words, environment), "")


_QUOTED = "it is quoted in a way that is not understood for certain"


@dataclass(slots=True)
class _Draft:
    """A simple command while its parts are put together."""

    words: list[str] = field(default_factory=list[str])
    environment: list[str] = field(default_factory=list[str])
    redirects: list[Redirect] = field(default_factory=list[Redirect])
    stdin: str = ""

    def command(self) -> Command:
        return Command(tuple(self.words), tuple(self.environment), tuple(self.redirects))

    def add_redirect(self, node: Node) -> None:
        """Add a redirection; the grammar hangs the words that follow one into it."""
        match node.type:
            case "file_redirect":
                self._add_file(node)
            case "herestring_redirect":
                parts = [unquoted(part) for part in node.children if part.type != "<<<"]
                self.stdin = "".join(parts[:1]) or UNKNOWN
                self.words += parts[1:]
            case "heredoc_redirect":
                self.stdin = heredoc_text(node)
                for part in node.named_children:
                    if part.type == "file_redirect":
                        self._add_file(part)
                    elif part.type in _WORDS:
                        self.words.append(unquoted(part))
            case _:
                pass

    def _add_file(self, node: Node) -> None:
        parts = [child for child in node.children if child.type != "file_descriptor"]
        operator = parts[0].type
        paths = [unquoted(part) for part in parts[1:]]
        self.words += paths[1:]
        descriptor = operator in ("<&", ">&") and re.fullmatch(r"\d+|-", "".join(paths[:1]))
        if operator.endswith("-") or descriptor:
            return
        kind = "read" if operator in ("<", "<&") else "write"
        self.redirects.append(Redirect(paths[0] if paths else UNKNOWN, kind))


_WORDS = frozenset(
    [
        "word",
        "string",
        "raw_string",
        "ansi_c_string",
        "concatenation",
        "number",
        "simple_expansion",
        "expansion",
        "command_substitution",
        "process_substitution",
        "arithmetic_expansion",
    ]
)


def _assigned(name: Node | None) -> Iterator[Command]:
    # A variable in lower case is the script's own; PATH, IFS or LD_PRELOAD decide what runs.
    text = source_of(name) if name else UNKNOWN
    if not re.fullmatch(r"[a-z][a-z0-9_]*(?<!_proxy)", text):
        yield Command((), environment=(text,))


def _evaluates(node: Node) -> bool:
    # `${!name}`, `${x@P}` and `${a[…]}` run substitutions that stand in a variable's value.
    return bool(re.match(r"\$\{(?:!|\w+@|\w+\[)", source_of(node))) or any(
        child.type in ("subscript", "@", "!") for child in node.children
    )


def _is_arithmetic(node: Node) -> bool:
    return source_of(node).startswith(("((", "$((", "$[", "for"))


def _arithmetic(node: Node) -> Iterator[Command]:
    # Bash evaluates the *values* of variables here, `a[$(…)]` in one of them included.
    if any(child.type in ("variable_name", "subscript") for child in _all_named(node)):
        yield _opaque("it calculates with variables, whose values may hold commands")


def _test(node: Node) -> Iterator[Command]:
    operators = {source_of(child) for child in _all_named(node) if child.type == "test_operator"}
    if operators & _NUMERIC and any("expansion" in child.type for child in _all_named(node)):
        yield _opaque("it calculates with variables, whose values may hold commands")


def _all_named(node: Node) -> Iterator[Node]:
    open_nodes = [node]
    while open_nodes:
        found = open_nodes.pop()
        yield found
        if found.type not in ("do_group", "command_substitution"):
            open_nodes += found.named_children
