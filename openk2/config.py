"""TOML files and `a.b=c` overrides in, frozen dataclasses out.

In: a path, override strings, and the dataclass that the consumer owns. Out: an instance of it,
every value checked against its annotation. Must not know: any particular setting, any room.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import textwrap
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

T = TypeVar("T")


class ConfigError(ValueError):
    """A setting is unknown, missing or of the wrong type; the message names it."""


def load(cls: type[T], path: Path | None = None, overrides: Sequence[str] = ()) -> T:
    """Read a TOML file into `cls`, with `a.b=c` overrides on top.

    Args:
        cls: A dataclass; nested dataclasses are tables.
        path: The TOML file; None starts from the defaults.
        overrides: `key.key=value`; the value is TOML, or plain text where it does not parse.

    Raises:
        ConfigError: The file cannot be read, or a setting is unknown, missing or mistyped.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from error
    for override in overrides:
        _set(values, override)
    try:
        return from_mapping(cls, values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}" if path else str(error)) from error


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass `cls` from nested mappings, checking names and types.

    Args:
        cls: A dataclass type.
        values: Setting name to value.
        where: Dotted prefix for error messages.

    Raises:
        ConfigError: A setting is unknown, missing or mistyped, or the class refuses a value.
    """
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise ConfigError(_unknown(where + name, name, fields))
    hints = typing.get_type_hints(cls)
    built: dict[str, Any] = {}
    for name, field in fields.items():
        if name in values:
            built[name] = _convert(values[name], hints[name], where + name)
        elif _is_required(field):
            raise ConfigError(f"`{where + name}` is not set and has no default: add it")
    try:
        return cls(**built)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"`{where.rstrip('.') or cls.__name__}`: {error}") from error


def to_mapping(config: Any) -> dict[str, Any]:
    """Return the nested, JSON-ready form of a config dataclass; paths become strings."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def field_help(cls: type) -> dict[str, str]:
    """Return the string under each field of a dataclass; fields without one are left out.

    Nested dataclasses are followed, their fields named `outer.inner`.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    hints = typing.get_type_hints(cls)
    found: dict[str, str] = {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    for statement, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        name = statement.target.id
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[name] = inspect.cleandoc(str(after.value.value))
        if dataclasses.is_dataclass(hints.get(name)):
            inner = field_help(cast(type[Any], hints[name]))
            found |= {f"{name}.{key}": text for key, text in inner.items()}
    return found


def _unknown(full: str, name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean `{full.removesuffix(name)}{near[0]}`?" if near else ""
    return f"unknown setting `{full}`: {hint or 'known here are ' + ', '.join(sorted(known))}"


def _is_required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise ConfigError(f"override {override!r} is not of the form key.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for part in parts[:-1]:
        table: Any = values.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"override {override!r}: `{part}` is a value, not a table")
        values = cast(dict[str, Any], table)
    values[parts[-1]] = value


def _convert(value: Any, hint: Any, where: str) -> Any:
    if hint is Any:
        return value
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, arguments, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"`{where}` is {value!r}; it must be one of {list(arguments)}")
        return value
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"`{where}` is {value!r}; it must be a table")
        return from_mapping(cast(type[Any], hint), cast(Mapping[str, Any], value), f"{where}.")
    if origin is tuple:
        return _convert_tuple(value, arguments, where)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"`{where}` is {value!r}; it must be a table")
        table = cast(Mapping[str, Any], value)
        return {key: _convert(item, arguments[1], f"{where}.{key}") for key, item in table.items()}
    return _convert_scalar(value, hint, where)


def _convert_tuple(value: Any, arguments: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"`{where}` is {value!r}; it must be a list")
    items = cast(Sequence[Any], value)
    kinds = arguments[:1] * len(items) if arguments[-1] is Ellipsis else arguments
    if len(items) != len(kinds):
        raise ConfigError(f"`{where}` has {len(items)} values; it must have {len(kinds)}")
    pairs = zip(items, kinds, strict=True)
    return tuple(_convert(item, kind, f"{where}[{i}]") for i, (item, kind) in enumerate(pairs))


def _convert_union(value: Any, arguments: tuple[Any, ...], where: str) -> Any:
    if value is None or (isinstance(value, str) and value == "none" and type(None) in arguments):
        return None
    problem: ConfigError | None = None
    for option in arguments:
        if option is type(None):
            continue
        try:
            return _convert(value, option, where)
        except ConfigError as error:
            problem = problem or error
    raise problem or ConfigError(f"`{where}` cannot be {value!r}")


def _convert_scalar(value: Any, hint: type, where: str) -> Any:
    # bool is an int in Python; a config that says `steps = true` is a mistake.
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise ConfigError(
        f"`{where}` is {value!r} ({type(value).__name__}); it must be {hint.__name__}"
    )


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in cast(Mapping[str, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast(Sequence[Any], value)]
    return value
