"""Python functions as tools: read, never imported or run.

In: the source of a module. Out: its public functions as `specs` checks them: type hints become a
schema, docstrings descriptions. Must not know: files.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from openk2.synth.spec_check import Found, SpecError

_PLAIN: Mapping[str, dict[str, Any]] = {
    "str": {"type": "string"}, "int": {"type": "integer"}, "float": {"type": "number"},
    "bool": {"type": "boolean"}, "dict": {"type": "object"}, "list": {"type": "array"},
    "tuple": {"type": "array"}, "set": {"type": "array", "uniqueItems": True}, "Any": {},
    "object": {}, "None": {"type": "null"}, "bytes": {"type": "string"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "time": {"type": "string", "format": "time"}, "UUID": {"type": "string", "format": "uuid"},
    "Path": {"type": "string"}, "Decimal": {"type": "number"}, "Mapping": {"type": "object"},
    "Sequence": {"type": "array"}, "Iterable": {"type": "array"},
    "EmailStr": {"type": "string", "format": "email"},
    "HttpUrl": {"type": "string", "format": "uri"}, "AnyUrl": {"type": "string", "format": "uri"},
}  # fmt: skip
_LISTS = ("list", "List", "Sequence", "Iterable", "tuple", "Tuple", "set", "Set", "frozenset")
_MAPS = ("dict", "Dict", "Mapping", "MutableMapping")
_ITEM = re.compile(r"^\s*(?::param\s+(?:\w+\s+)?)?(\w+)\s*(?:\([^)]*\))?\s*:\s*(.+)$")
_HEADS = re.compile(r"^\s*(Args|Arguments|Parameters|Params|参数)\s*[:：]?\s*$")
_END = re.compile(r"^\s*(Returns?|Raises|Yields|Examples?|Notes?|返回)\s*[:：]?")


class _Unknown(ValueError):
    """A type hint means nothing to JSON."""


def python_tools(source: str, name: str = "module") -> Iterator[Found]:
    """Yield the public functions of a module.

    Args:
        source: Its text.
        name: What it is called in messages.

    Raises:
        SpecError: It is not Python.
    """
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SpecError(f"{name} is not Python: {str(error)[:200]}") from error
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    names = {
        target.id: node.value
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    known = _Types(classes, names)
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
            yield _function(node, known)


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef, known: _Types) -> Found:
    where = f"line {node.lineno}"
    if node.args.vararg or node.args.kwarg:
        problem = "takes *args or **kwargs: what they may be is said nowhere"
        return Found(where, node.name, None, None, problem=problem)
    text, told = _docstring(ast.get_docstring(node) or "")
    positional = [*node.args.posonlyargs, *node.args.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
    defaults += node.args.defaults
    pairs = [*zip(positional, defaults, strict=True)]
    pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for argument, default in pairs:
        if argument.arg in ("self", "cls", "ctx", "context") and argument.annotation is None:
            continue
        try:
            schema = known.schema(argument.annotation)
        except _Unknown as problem:
            return Found(where, node.name, None, None, problem=f"{argument.arg}: {problem}")
        if argument.arg in told:
            schema["description"] = told[argument.arg]
        if default is None:
            required.append(argument.arg)
        elif (value := _constant(default)) is not None:
            schema["default"] = value
        properties[argument.arg] = schema
    parameters = {"type": "object", "properties": properties, "required": required}
    return Found(where, node.name, text, parameters)


def _constant(node: ast.expr) -> Any:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return None
    return value if isinstance(value, str | int | float | bool) else None


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """Split a docstring into what the function does and what its arguments are."""
    lines = text.splitlines()
    told: dict[str, str] = {}
    head: list[str] = []
    inside = ended = False
    for line in lines:
        if _HEADS.match(line):
            inside = True
        elif _END.match(line):
            inside, ended = False, True
        elif line.lstrip().startswith(":param") and (item := _ITEM.match(line)):
            told[item[1]] = item[2].strip()
            ended = True
        elif inside and (item := _ITEM.match(line)):
            told[item[1]] = item[2].strip()
        elif inside and told and line.strip():
            last = next(reversed(told))
            told[last] += " " + line.strip()
        elif not inside and not ended:
            head.append(line.strip())
    return " ".join(part for part in head if part), told


class _Types:
    """What type hints of a module mean to JSON Schema."""

    def __init__(self, classes: Mapping[str, ast.ClassDef], names: Mapping[str, ast.expr]) -> None:
        self._classes = classes
        self._names = names
        self._open: tuple[str, ...] = ()

    def schema(self, hint: ast.expr | None) -> dict[str, Any]:
        """Return the schema of a type hint; without one, a text is expected."""
        if hint is None:
            return {"type": "string"}
        if isinstance(hint, ast.Constant) and isinstance(hint.value, str):
            try:
                return self.schema(ast.parse(hint.value, mode="eval").body)
            except SyntaxError as error:
                raise _Unknown(f"the type {hint.value[:60]!r} is not Python") from error
        if isinstance(hint, ast.Constant) and hint.value is None:
            return {"type": "null"}
        if isinstance(hint, ast.Name | ast.Attribute):
            return self._named(hint.id if isinstance(hint, ast.Name) else hint.attr)
        if isinstance(hint, ast.BinOp) and isinstance(hint.op, ast.BitOr):
            return _either([self.schema(hint.left), self.schema(hint.right)])
        if isinstance(hint, ast.Subscript):
            return self._generic(hint)
        raise _Unknown(f"the type {ast.unparse(hint)[:60]!r} means nothing to JSON")

    def _named(self, name: str) -> dict[str, Any]:
        if name in self._classes:
            return self._class(self._classes[name])
        if name in self._names and name not in self._open:
            self._open = (*self._open, name)
            try:
                return self.schema(self._names[name])
            finally:
                self._open = self._open[:-1]
        if name in _PLAIN:
            return dict(_PLAIN[name])
        raise _Unknown(f"the type {name!r} is not defined in this file")

    def _generic(self, hint: ast.Subscript) -> dict[str, Any]:
        base = hint.value
        name = base.id if isinstance(base, ast.Name) else getattr(base, "attr", "")
        inner = hint.slice.elts if isinstance(hint.slice, ast.Tuple) else [hint.slice]
        if name == "Optional":
            return _either([self.schema(inner[0]), {"type": "null"}])
        if name == "Union":
            return _either([self.schema(one) for one in inner])
        if name == "Literal":
            return {"enum": [_literal(one) for one in inner]}
        if name == "Annotated":
            schema = self.schema(inner[0])
            texts = [_constant(one) for one in inner[1:]]
            told = [text for text in texts if isinstance(text, str)]
            told += [_described(one) for one in inner[1:] if _described(one)]
            return {**schema, "description": told[0]} if told else schema
        if name in _LISTS:
            return {"type": "array", "items": self.schema(inner[0])}
        if name in _MAPS:
            return {"type": "object", "additionalProperties": self.schema(inner[-1])}
        raise _Unknown(f"the type {ast.unparse(hint)[:60]!r} means nothing to JSON")

    def _class(self, node: ast.ClassDef) -> dict[str, Any]:
        """Read a dataclass, a TypedDict, a pydantic model, or an enumeration."""
        if node.name in self._open:
            raise _Unknown(f"the type {node.name!r} holds itself")
        bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        if bases & {"Enum", "StrEnum", "IntEnum"}:
            values = [_constant(item.value) for item in node.body if isinstance(item, ast.Assign)]
            return {"enum": [value for value in values if value is not None]}
        self._open = (*self._open, node.name)
        try:
            fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
            properties = {
                item.target.id: self.schema(item.annotation)
                for item in fields
                if isinstance(item.target, ast.Name)
            }
        finally:
            self._open = self._open[:-1]
        needed = [i.target.id for i in fields if isinstance(i.target, ast.Name) and not i.value]
        return {"type": "object", "properties": properties, "required": needed}


def _either(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """Join alternatives; None beside one type only says that it may be left out."""
    told = [schema for schema in schemas if schema != {"type": "null"}]
    return dict(told[0]) if len(told) == 1 else {"anyOf": told}


def _literal(node: ast.expr) -> Any:
    value = _constant(node)
    if value is None:
        raise _Unknown(f"the value {ast.unparse(node)[:60]!r} is not a literal")
    return value


def _described(node: ast.expr) -> str:
    """Return the description of pydantic's `Field(description=…)`."""
    if not isinstance(node, ast.Call):
        return ""
    for keyword in node.keywords:
        if keyword.arg == "description":
            value = _constant(keyword.value)
            return value if isinstance(value, str) else ""
    return ""
