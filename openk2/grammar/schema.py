"""JSON Schema to shapes: what can be enforced is, the rest is left out with a warning.

In: schemas of tools and answers, from strangers. Out: shapes, and warnings that say what was left
out, where.
Must not know: tokens, masks, budgets.

Everything that a shape allows satisfies the schema it was made of, unless a warning says otherwise.
The converse does not hold: objects have their declared properties only, in that order, unless
others are asked for; numbers and formats are written in fewer ways than exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from openk2.grammar.dfa import FAR
from openk2.grammar.keywords import (
    LIMITS,
    MAX_BRANCHES,
    MAX_DEPTH,
    MAX_LITERALS,
    MAX_PROPERTIES,
    MAX_STEPS,
    OF_TYPE,
    TYPES,
    UNENFORCED,
    SchemaError,
    write,
)
from openk2.grammar.merge import ANNOTATIONS, excludes, merge, same, type_of
from openk2.grammar.scalars import Scalars, Unenforceable
from openk2.grammar.shapes import (
    MAX_SHORTEST,
    Array,
    Literals,
    Object,
    Picks,
    Property,
    Reference,
    Shape,
    Union,
    settle,
)
from openk2.grammar.vocabulary import Vocabulary


class Compiler:
    """Turns the schemas of one request into shapes."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Start with no warning."""
        self.warnings: list[str] = []
        self._scalars = Scalars(vocabulary)
        self._plain: dict[str, Shape] = {}
        self._begin({}, "")

    def compile(self, schema: Any, path: str, arguments: bool = False) -> Shape:
        """Return the shape of a schema.

        Args:
            schema: Parsed JSON.
            path: What to call it in errors.
            arguments: Whether its values are a tool's arguments, and so objects.

        Raises:
            SchemaError: It is no schema, cannot be satisfied, is too big or refers to elsewhere.
        """
        try:
            self._begin(schema, path)
            if arguments and isinstance(schema, Mapping) and schema.get("type") != "object":
                schema = {"allOf": [{"type": "object"}, schema]}
            shape = self._value(schema, path, 0)
        except (RecursionError, ValueError, TypeError, OverflowError) as error:
            if isinstance(error, SchemaError):
                raise
            raise SchemaError(path, f"is no JSON Schema: {error or 'nested too deep'}") from error
        settle(self._made)
        if shape.bound >= FAR:
            problem = f"cannot be satisfied by any value of up to {MAX_SHORTEST} bytes"
            raise SchemaError(self._impossible or path, problem)
        return shape

    def _begin(self, root: Any, path: str) -> None:
        self._root, self._path = root, path
        self._made: list[Shape] = []
        self._references: dict[str, Reference] = {}
        self._impossible = ""
        self._properties = 0
        self._steps = 0

    def _keep(self, shape: Shape) -> Any:
        self._made.append(shape)
        return shape

    def _step(self) -> None:
        """Bound what a small schema of many references can become."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise SchemaError(self._path, "is too big once its parts are put together")

    def _warn(self, path: str, keyword: str, why: str = "") -> None:
        text = f"{path}.{keyword} is not enforced as written" + (f": {why}" if why else "")
        if text not in self.warnings:
            self.warnings.append(text)

    def _shared(self, name: str, make: Callable[[], Shape]) -> Shape:
        """Return a shape that does not depend on a schema."""
        if name not in self._plain:
            self._plain[name] = make()
            self._keep(self._plain[name])
        return self._plain[name]

    def _none(self, path: str) -> Shape:
        self._impossible = self._impossible or path
        return self._keep(Union(()))

    def _any(self) -> Shape:
        if "any" in self._plain:
            return self._plain["any"]
        value = Reference()
        text, number = self._text(), self._number()
        words = self._shared("words", lambda: Literals((b"false", b"null", b"true")))
        array = self._shared("array", lambda: Array((), value, 0, FAR))
        names = self._scalars.names()
        obj = self._shared("object", lambda: Object((), self._keep(names), value, 0, FAR))
        value.target = self._shared("value", lambda: Union((text, number, words, array, obj)))
        return self._shared("any", lambda: value)

    def _text(self) -> Shape:
        return self._shared("string", lambda: self._scalars.text({}))

    def _number(self) -> Shape:
        return self._shared("number", lambda: self._scalars.number({}, whole=False))

    # Schemas -------------------------------------------------------------------------------------

    def _value(self, schema: Any, path: str, depth: int) -> Shape:
        self._step()
        if schema is True or schema == {}:
            return self._any()
        if schema is False:
            return self._none(path)
        if not isinstance(schema, Mapping):
            raise SchemaError(path, "is no JSON Schema: it is neither an object nor a boolean")
        if depth > MAX_DEPTH:
            raise SchemaError(path, f"is nested in more than {MAX_DEPTH} schemas")
        if "$ref" in schema and all(k == "$ref" or k in ANNOTATIONS for k in schema):
            return self._reference(schema["$ref"], path, depth)
        if "$ref" in schema or "allOf" in schema:
            flat = self._flatten(schema, path, 0)
            if not isinstance(flat, Mapping):
                return self._value(flat, path, depth)
            schema = flat
        for keyword in schema.keys() & UNENFORCED:
            self._warn(path, keyword)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._branches(schema, keyword, path, depth)
        if "const" in schema or "enum" in schema:
            return self._literals(schema, path)
        return self._typed(schema, path, depth)

    def _reference(self, pointer: Any, path: str, depth: int) -> Shape:
        target = self._resolve(pointer, path)
        if pointer not in self._references:
            found = self._references[pointer] = self._keep(Reference())
            found.target = self._value(target, f"{self._path}{_dotted(pointer)}", depth + 1)
            self._made.remove(found)
            self._keep(found)
        return self._references[pointer]

    def _resolve(self, pointer: Any, path: str) -> Any:
        if not isinstance(pointer, str):
            raise SchemaError(f"{path}.$ref", "is no string")
        if not pointer.startswith("#"):
            raise SchemaError(f"{path}.$ref", f"{pointer!r} is not in this schema; put it in $defs")
        found = self._root
        for part in pointer[1:].split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                raise SchemaError(f"{path}.$ref", f"{pointer!r} does not exist in this schema")
        if pointer != "#" and not pointer.startswith("#/"):
            raise SchemaError(f"{path}.$ref", f"{pointer!r} is no JSON pointer")
        return found

    def _flatten(self, schema: Any, path: str, depth: int) -> Any:
        """Put `$ref` and `allOf` together with what stands beside them."""
        self._step()
        if not isinstance(schema, Mapping):
            if isinstance(schema, bool):
                return schema
            raise SchemaError(path, "is no JSON Schema: it is neither an object nor a boolean")
        if depth > MAX_DEPTH:
            raise SchemaError(path, "contains itself in allOf, or is nested too deep")
        rest = {k: v for k, v in schema.items() if k not in ("$ref", "allOf")}
        parts: list[Any] = []
        if "$ref" in schema:
            parts.append(self._resolve(schema["$ref"], path))
        if "allOf" in schema:
            parts += self._list(schema, "allOf", path)
        for i, part in enumerate(parts):
            flat = self._flatten(part, f"{path}.allOf[{i}]", depth + 1)
            if flat is False:
                return False
            if flat is not True:
                rest = dict(merge(rest, flat, lambda k: self._warn(f"{path}.allOf", k)))
        return rest

    def _list(self, schema: Mapping[str, Any], keyword: str, path: str) -> list[Any]:
        found = schema[keyword]
        if not isinstance(found, list) or not found:
            raise SchemaError(f"{path}.{keyword}", "is no list of schemas")
        if len(found) > MAX_BRANCHES:
            raise SchemaError(f"{path}.{keyword}", f"has more than {MAX_BRANCHES} schemas")
        return found

    def _branches(self, schema: Mapping[str, Any], keyword: str, path: str, depth: int) -> Shape:
        branches = self._list(schema, keyword, path)
        base = {k: v for k, v in schema.items() if k != keyword and k not in ANNOTATIONS}
        if base:
            branches = [{"allOf": [base, branch]} for branch in branches]
        numbered = list(enumerate(branches))
        if keyword == "oneOf":
            numbered = self._exclusive(branches, path)
        found = [self._value(s, f"{path}.{keyword}[{i}]", depth + 1) for i, s in numbered]
        return found[0] if len(found) == 1 else self._keep(Union(tuple(dict.fromkeys(found))))

    def _exclusive(self, branches: list[Any], path: str) -> list[Any]:
        """Keep the branches whose values satisfy no other one."""
        flat = [self._flatten(branch, f"{path}.oneOf[{i}]", 0) for i, branch in enumerate(branches)]
        kept = [
            (i, a)
            for i, a in enumerate(flat)
            if all(i == k or excludes(a, b) for k, b in enumerate(flat))
        ]
        if not kept:
            self._warn(path, "oneOf", "its schemas may overlap, and the first one is taken")
            return [(0, flat[0])]
        if len(kept) < len(branches):
            self._warn(path, "oneOf", "schemas that may overlap with others are left out")
        return kept

    # Values of a type ----------------------------------------------------------------------------

    def _literals(self, schema: Mapping[str, Any], path: str) -> Shape:
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        if not isinstance(values, list):
            raise SchemaError(f"{path}.enum", "is no list of values")
        if len(values) > MAX_LITERALS:
            raise SchemaError(f"{path}.enum", f"has more than {MAX_LITERALS} values")
        if "enum" in schema and "const" in schema:
            values = [v for v in values if same(v, schema["const"])]
        limits = schema.keys() & (LIMITS | {"type"})
        if limits:
            values = [v for v in values if self._admits(schema, v, path)]
        if not values:
            return self._none(path)
        return self._keep(Literals(tuple(sorted(set(map(write, values))))))

    def _admits(self, schema: Mapping[str, Any], value: Any, path: str) -> bool:
        """Whether a listed value satisfies what stands beside the list."""
        kind = type_of(value)
        kinds = self._types(schema, path)
        whole = kind == "number" and (isinstance(value, int) or value.is_integer())
        if "type" in schema and kind not in kinds and not (whole and "integer" in kinds):
            return False
        limits = {k: v for k, v in schema.items() if k in OF_TYPE.get(kind, ())}
        if not limits:
            return True
        if kind in ("string", "number"):
            try:
                return self._scalars.admits(limits, value, path)
            except Unenforceable as error:
                self._warn(path, error.keyword, str(error))
                return True
        self._warn(path, "enum", "together with " + ", ".join(sorted(limits)))
        return True

    def _types(self, schema: Mapping[str, Any], path: str) -> list[str]:
        kinds = schema.get("type")
        if kinds is None:
            found = [kind for kind, limits in OF_TYPE.items() if schema.keys() & limits]
            return found if len(found) == 1 else []
        found = [kinds] if isinstance(kinds, str) else kinds
        if not isinstance(found, list) or any(kind not in TYPES for kind in found):
            raise SchemaError(f"{path}.type", f"{kinds!r} is no type of JSON Schema")
        nullable: list[str] = []
        if schema.get("nullable") is True and "null" not in found:
            nullable = ["null"]
            self._warn(path, "nullable", "null is allowed, as OpenAPI 3.0 has it")
        return [kind for kind in found if kind != "integer" or "number" not in found] + nullable

    def _typed(self, schema: Mapping[str, Any], path: str, depth: int) -> Shape:
        kinds = self._types(schema, path)
        if not kinds:
            if "type" in schema:
                return self._none(path)
            for keyword in schema.keys() & LIMITS:
                self._warn(path, keyword, "no type says what it is about")
            return self._any()
        found = [self._of_type(kind, schema, path, depth) for kind in kinds]
        return found[0] if len(found) == 1 else self._keep(Union(found))

    def _of_type(self, kind: str, schema: Mapping[str, Any], path: str, depth: int) -> Shape:
        if kind == "boolean":
            return self._shared(kind, lambda: Literals((b"false", b"true")))
        if kind == "null":
            return self._shared(kind, lambda: Literals((b"null",)))
        if kind == "object":
            return self._object(schema, path, depth)
        if kind == "array":
            return self._array(schema, path, depth)
        limits = OF_TYPE["string" if kind == "string" else "number"]
        if not schema.keys() & limits:
            if kind == "integer":
                return self._shared(kind, lambda: self._scalars.number({}, whole=True))
            return self._text() if kind == "string" else self._number()
        return self._keep(self._scalar(kind, dict(schema), path))

    def _scalar(self, kind: str, schema: dict[str, Any], path: str) -> Shape:
        """Build a string or number, leaving out keywords until the rest can be enforced."""
        while True:
            try:
                if kind == "string":
                    return self._scalars.text(schema)
                return self._scalars.number(schema, whole=kind == "integer")
            except Unenforceable as error:
                if error.malformed:
                    raise SchemaError(f"{path}.{error.keyword}", str(error)) from error
                self._warn(path, error.keyword, str(error))
                del schema[error.keyword]

    def _count(self, schema: Mapping[str, Any], keyword: str, path: str, default: int) -> int:
        value = schema.get(keyword, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value % 1:
            raise SchemaError(f"{path}.{keyword}", "is no number of things")
        return min(int(value), FAR)

    def _array(self, schema: Mapping[str, Any], path: str, depth: int) -> Shape:
        prefix = schema.get("prefixItems", [])
        items = schema.get("items", True)
        place = f"{path}.items"
        if isinstance(items, list):  # as it was written until draft 2019-09
            prefix, items = items, schema.get("additionalItems", True)
        if not isinstance(prefix, list):
            raise SchemaError(f"{path}.prefixItems", "is no list of schemas")
        heads = tuple(
            self._value(s, f"{path}.prefixItems[{i}]", depth + 1) for i, s in enumerate(prefix)
        )
        rest = None if items is False else self._value(items, place, depth + 1)
        fewest = self._count(schema, "minItems", path, 0)
        most = self._count(schema, "maxItems", path, FAR)
        if rest is None:
            most = min(most, len(heads))
        if fewest > most:
            return self._none(path)
        if schema.get("uniqueItems") is True and most > 1:
            if isinstance(rest, Literals) and not heads:
                if fewest > len(rest.texts):
                    return self._none(path)
                return self._keep(Picks(rest.texts, fewest, min(most, len(rest.texts))))
            self._warn(path, "uniqueItems")
        return self._keep(Array(heads, rest, fewest, most))

    # Objects -------------------------------------------------------------------------------------

    def _mapping(self, schema: Mapping[str, Any], keyword: str, path: str) -> Mapping[str, Any]:
        found = schema.get(keyword, {})
        if not isinstance(found, Mapping):
            raise SchemaError(f"{path}.{keyword}", "is no object of schemas")
        return found

    def _object(self, schema: Mapping[str, Any], path: str, depth: int) -> Shape:
        declared = dict(self._mapping(schema, "properties", path))
        required = schema.get("required", [])
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            # Drafts 3 and OpenAPI 2 had a boolean in the property itself.
            if not isinstance(required, bool):
                raise SchemaError(f"{path}.required", "is no list of names")
            required = []
        self._properties += len(declared)
        if self._properties > MAX_PROPERTIES:
            raise SchemaError(path, f"more than {MAX_PROPERTIES} properties are declared")
        patterns = self._mapping(schema, "patternProperties", path)
        others = schema.get("additionalProperties", not declared and not patterns)
        for name in required:
            if name not in declared:
                declared[name] = True if patterns else schema.get("additionalProperties", True)
        if patterns:
            self._apply_patterns(declared, patterns, path)
        wanted = frozenset(required)
        names = self._names(schema, declared, wanted, path, depth)
        properties = tuple(
            Property(
                write(name) + b": ",
                self._value(value, f"{path}.properties.{name}", depth + 1),
                name in wanted,
            )
            for name, value in declared.items()
        )
        fewest = self._count(schema, "minProperties", path, 0)
        most = self._count(schema, "maxProperties", path, FAR)
        keys, values = self._others(schema, others, patterns, names, tuple(declared), path, depth)
        if fewest > 1 + len(wanted) and keys is not None:
            self._warn(path, "minProperties", "names may repeat")
        return self._keep(Object(properties, keys, values, fewest, most))

    def _apply_patterns(
        self, declared: dict[str, Any], patterns: Mapping[str, Any], path: str
    ) -> None:
        """Give declared properties what the patterns that their names match ask for."""
        for pattern, schema in patterns.items():
            try:
                for name, value in declared.items():
                    if self._scalars.admits({"pattern": pattern}, name, path):
                        declared[name] = schema if value is True else {"allOf": [value, schema]}
            except Unenforceable as error:
                self._warn(path, "patternProperties", str(error))

    def _names(
        self,
        schema: Mapping[str, Any],
        declared: dict[str, Any],
        required: frozenset[str],
        path: str,
        depth: int,
    ) -> Mapping[str, Any]:
        """Drop declared properties whose names are not allowed; return the schema of names."""
        rule = schema.get("propertyNames", {})
        if rule is False:
            rule = {"enum": [""], "maxLength": 0, "minLength": 1}
        if rule is True or rule == {}:
            return {}
        if not isinstance(rule, Mapping):
            raise SchemaError(f"{path}.propertyNames", "is no JSON Schema")
        rule = self._flatten(rule, f"{path}.propertyNames", 0)
        if not isinstance(rule, Mapping):
            return {}
        if rule.keys() & {"anyOf", "oneOf", *UNENFORCED}:
            self._warn(path, "propertyNames")
            return {}
        for name in list(declared):
            allowed = name in rule["enum"] if isinstance(rule.get("enum"), list) else True
            if allowed and name == rule.get("const", name):
                allowed = self._admits({**rule, "type": "string"}, name, f"{path}.propertyNames")
            if not allowed and name in required:
                declared[name] = False
            elif not allowed:
                del declared[name]
        return rule

    def _others(
        self,
        schema: Mapping[str, Any],
        others: Any,
        patterns: Mapping[str, Any],
        names: Mapping[str, Any],
        declared: tuple[str, ...],
        path: str,
        depth: int,
    ) -> tuple[Shape | None, Shape | None]:
        """Return the shapes of names and values that are not declared."""
        if patterns:
            if declared or names or len(patterns) > 1:
                if others is not False and "additionalProperties" in schema:
                    self._warn(path, "additionalProperties", "there are patternProperties")
                return None, None
            [(pattern, value)] = patterns.items()
            keys = self._scalar("string", {"pattern": pattern}, f"{path}.patternProperties")
            return self._keep(keys), self._value(value, f"{path}.patternProperties", depth + 1)
        if others is False:
            return None, None
        values = self._value(others, f"{path}.additionalProperties", depth + 1)
        if "enum" in names or "const" in names:
            listed = names["enum"] if "enum" in names else [names["const"]]
            free = [n for n in listed if isinstance(n, str) and n not in declared]
            free = [n for n in free if self._admits({**names, "type": "string"}, n, path)]
            if not free:
                return None, None
            return self._keep(Literals(tuple(sorted(set(map(write, free)))))), values
        words = [write(name)[1:] for name in declared]
        limits = dict(names)
        while True:
            try:
                return self._keep(self._scalars.names(limits, words)), values
            except Unenforceable as error:
                where = f"{path}.propertyNames"
                if error.malformed:
                    raise SchemaError(f"{where}.{error.keyword}", str(error)) from error
                self._warn(where, error.keyword, str(error))
                del limits[error.keyword]


def _dotted(pointer: str) -> str:
    return "".join(f".{part}" for part in pointer.split("/")[1:])
