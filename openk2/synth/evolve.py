"""How a domain is changed so that nothing but understanding helps: names, words, schemas.

Every change takes a domain and a source of chance and gives a domain whose goals can still be
reached, through the changed tools.

In: a domain. Out: a domain. Must not know: which changes are chained, or that they are recorded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random
from typing import Any

from openk2.envs.domain import Call, Domain, Goal, Intent
from openk2.envs.slots import Json, Lang, Slot
from openk2.envs.tool import Param, WorldTool
from openk2.envs.world import Refused
from openk2.synth.meanings import words_of
from openk2.synth.merged import without
from openk2.synth.pools import coined
from openk2.synth.renaming import renamed_params, renamed_tools
from openk2.types import ToolSpec

_TOOL_WORDS: Mapping[str, tuple[str, ...]] = {
    "find": ("search", "lookup", "query", "locate"), "search": ("find", "query", "lookup"),
    "get": ("fetch", "retrieve", "read", "show", "view"), "list": ("show", "enumerate", "browse"),
    "create": ("add", "new", "make"), "add": ("create", "insert", "append"),
    "delete": ("remove", "erase", "drop"), "remove": ("delete", "drop", "take_out"),
    "update": ("modify", "edit", "change"), "change": ("update", "edit", "modify"),
    "set": ("assign", "configure", "put"), "cancel": ("revoke", "call_off", "abort"),
    "send": ("dispatch", "deliver", "submit"), "move": ("relocate", "shift", "transfer"),
    "book": ("reserve",), "reserve": ("book", "hold"), "check": ("verify", "inspect"),
    "invite": ("ask_to_join", "add_guest"), "event": ("appointment", "calendar_entry"),
    "events": ("appointments", "calendar_entries"), "customer": ("client", "account_holder"),
    "order": ("purchase", "sales_order"), "orders": ("purchases", "sales_orders"),
    "user": ("member", "account"), "people": ("contacts", "persons"), "message": ("note", "mail"),
    "file": ("document",), "files": ("documents",), "item": ("article", "product"),
    "start": ("begin", "launch"), "stop": ("halt", "end"), "open": ("unlock", "activate"),
    "close": ("finish", "shut"), "pay": ("settle",), "assign": ("allocate", "give"),
}  # fmt: skip
_PARAM_WORDS: Mapping[str, tuple[str, ...]] = {
    "title": ("name", "subject", "headline"), "name": ("label", "full_name", "title"),
    "query": ("q", "keywords", "search_text", "text"), "day": ("date", "on_date", "calendar_day"),
    "date": ("day", "on"), "start": ("begin", "start_time", "starts_at", "from_time"),
    "end": ("until", "end_time", "to_time"), "minutes": ("duration", "length", "duration_min"),
    "amount": ("sum", "value", "total"), "count": ("number", "quantity", "n"),
    "quantity": ("count", "units", "qty"), "city": ("town", "location", "place"),
    "email": ("mail", "e_mail", "address"), "phone": ("telephone", "phone_number"),
    "id": ("key", "ref", "identifier"), "text": ("body", "content", "message"),
    "body": ("text", "content"), "status": ("state", "condition"), "reason": ("cause", "why"),
    "price": ("cost", "fee"), "limit": ("max_results", "top"), "to": ("recipient", "target"),
    "before": ("lead_time", "ahead"), "seats": ("capacity", "places"), "note": ("comment", "memo"),
}  # fmt: skip
_FIRST_WORDS: Mapping[str, tuple[str, ...]] = {
    "Find": ("Look up", "Search for"), "Show": ("Display", "Return"),
    "Get": ("Return", "Fetch"),
    "Create": ("Make", "Add"), "Delete": ("Remove", "Erase"), "List": ("Enumerate", "Return"),
    "Set": ("Define", "Assign"), "Move": ("Shift", "Relocate"), "Cancel": ("Call off", "Revoke"),
    "Send": ("Dispatch", "Deliver"), "Add": ("Insert", "Put in"), "Change": ("Update", "Modify"),
    "Update": ("Change", "Modify"), "Search": ("Look", "Query"), "Book": ("Reserve",),
    "Remove": ("Delete", "Take out"),
}  # fmt: skip
_FRAMES: Mapping[Lang, tuple[str, ...]] = {
    "en": ("{}", "Use this tool to {lower}", "Can {lower}", "Endpoint. {}", "Lets you {lower}",
           "{} One call does one thing.", "Call this to {lower}"),
    "zh": ("{}", "用于：{}", "调用此工具可以{}", "接口说明：{}", "该功能：{}"),
}  # fmt: skip
_EXTRA: tuple[tuple[str, str, str, Mapping[str, Json]], ...] = (
    ("locale", "language of messages", "消息语言", {"type": "string"}),
    ("request_id", "id for tracing this request", "请求追踪编号", {"type": "string"}),
    ("verbose", "whether to log more", "是否输出更多日志", {"type": "boolean"}),
    ("client_version", "version of the calling program", "调用程序版本", {"type": "string"}),
    ("response_format", "format of the answer", "返回格式", {"enum": ["json", "full"]}),
    ("timeout_ms", "longest time to wait", "最长等待毫秒数", {"type": "integer", "minimum": 1}),
)  # fmt: skip
_DRAWS = 12
"""Goals that are looked at before an optional parameter is called required."""


# --- names ---------------------------------------------------------------------------------------


def rename_tools(domain: Domain, rng: Random) -> Domain:
    """Give tools other telling names: synonyms, another way to write, a prefix."""
    style = rng.choice(("snake", "camel", "pascal", "kebab"))
    prefix = rng.choice(("", "", f"{coined(rng)}_", "api_", "v2_", f"{coined(rng)}__"))
    names: dict[str, str] = {}
    for tool in domain.tools:
        words = [rng.choice(("", "", *_TOOL_WORDS.get(w, ()))) or w for w in words_of(tool.name)]
        if len(words) > 1 and rng.random() < 0.15:
            words = [*words[1:], words[0]]
        names[tool.name] = _legal(prefix + _styled("_".join(words).split("_"), style), names)
    return renamed_tools(domain, names)


def obfuscate_tools(domain: Domain, rng: Random) -> Domain:
    """Give tools names that say nothing; their descriptions have to be read."""
    kind = rng.choice(("number", "coined", "code"))
    numbers = rng.sample(range(100), len(domain.tools))
    names: dict[str, str] = {}
    for tool, number in zip(domain.tools, numbers, strict=True):
        new = {
            "number": f"tool_{number}",
            "coined": coined(rng),
            "code": f"fn_{rng.getrandbits(24):06x}",
        }[kind]
        names[tool.name] = _legal(new, names)
    return renamed_tools(domain, names)


def rename_params(domain: Domain, rng: Random) -> Domain:
    """Give parameters other names, the same one wherever they mean the same."""
    style = rng.choice(("snake", "camel", "kebab", "pascal"))
    chosen: dict[str, str] = {}
    names: dict[str, dict[str, str]] = {}
    for tool in domain.tools:
        mine: dict[str, str] = {}
        for param in tool.params:
            words = words_of(param.name)
            if param.name not in chosen:
                others = [rng.choice((w, *_PARAM_WORDS.get(w, ()))) for w in words]
                chosen[param.name] = _styled("_".join(others).split("_"), style)
            new = chosen[param.name] or param.name
            taken = {*mine.values(), *(p.name for p in tool.params if p.name not in mine)}
            mine[param.name] = param.name if new in taken else new
        names[tool.name] = mine
    return renamed_params(domain, names)


def _styled(words: list[str], style: str) -> str:
    parts = [word for word in words if word.isascii()]
    if not parts:
        return ""
    match style:
        case "camel":
            return parts[0] + "".join(word.capitalize() for word in parts[1:])
        case "pascal":
            return "".join(word.capitalize() for word in parts)
        case "kebab":
            return "-".join(parts)
        case _:
            return "_".join(parts)


def _legal(name: str, taken: Mapping[str, str]) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]", "", name)[:56] or "tool"
    name = name if name[0].isalpha() or name[0] == "_" else f"t_{name}"
    used = set(taken.values())
    return next(
        one for n in range(len(used) + 1) if (one := name + (f"_{n}" if n else "")) not in used
    )


# --- words ---------------------------------------------------------------------------------------


def paraphrase(domain: Domain, rng: Random) -> Domain:
    """Describe tools in other words."""
    return replace(domain, tools=tuple(_paraphrased(tool, rng) for tool in domain.tools))


def _paraphrased(tool: WorldTool, rng: Random) -> WorldTool:
    en, zh = _said("en", tool.en, rng), _said("zh", tool.zh, rng)
    declared = tool.declared
    if declared is not None and declared.description:
        lang: Lang = "zh" if re.search(r"[\u3400-\u9fff]", declared.description) else "en"
        text = _said(lang, declared.description, rng)
        declared = ToolSpec(declared.name, text, declared.parameters)
    return replace(tool, en=en, zh=zh, declared=declared)


def _said(lang: Lang, text: str, rng: Random) -> str:
    frame = rng.choice(_FRAMES[lang])
    if lang == "en":
        first, space, rest = text.partition(" ")
        first = rng.choice((first, *_FIRST_WORDS.get(first, ())))
        text = first + space + rest
        imperative = first.split()[0].isalpha() and first[:1].isupper() and not first.endswith("s")
        frame = frame if imperative else "{}"
    lowered = text[:1].lower() + text[1:]
    return frame.replace("{lower}", lowered).replace("{}", text)


# --- schemas -------------------------------------------------------------------------------------


def mutate_schemas(domain: Domain, rng: Random) -> Domain:
    """Change schemas: order, parameters that nobody needs, null, more members, fewer choices."""
    given = _always_given(domain)
    tools = tuple(_mutated(tool, given, rng) for tool in domain.tools)
    return replace(domain, tools=tools)


def _always_given(domain: Domain) -> set[tuple[str, str]]:
    """Return the optional parameters of changing tools that every goal gives."""
    found: dict[str, set[str]] = {}
    for call in _drawn_calls(domain):
        found[call.tool] = found.get(call.tool, set(call.arguments)) & set(call.arguments)
    return {
        (name, key) for name, keys in found.items() if domain.by_name[name].writes for key in keys
    }


def _drawn_calls(domain: Domain) -> Iterator[Call]:
    for intent in domain.intents:
        for seed in range(_DRAWS):
            goal = intent.draw(domain.world(seed), Random(seed))
            yield from goal.calls if goal is not None else ()


def _mutated(tool: WorldTool, given: set[tuple[str, str]], rng: Random) -> WorldTool:
    params = list(tool.params)
    added: dict[str, list[Json]] = {}
    for at, param in enumerate(params):
        if not param.required and (tool.name, param.name) in given and rng.random() < 0.5:
            params[at] = param = replace(param, required=True)
        if not param.required and rng.random() < 0.3:
            params[at] = param = replace(param, schema=_nullable(param.schema))
        if param.schema.get("enum") and rng.random() < 0.3:
            added[param.name] = [f"{coined(rng)}"]
            members = [*param.schema["enum"], *added[param.name]]
            rng.shuffle(members)
            params[at] = replace(param, schema={**param.schema, "enum": members})
    extra: list[Param] = []
    if rng.random() < 0.4:
        name, en, zh, schema = rng.choice(_EXTRA)
        if name not in {param.name for param in params}:
            extra = [Param(name, Slot(f"extra/{name}", en, zh), schema, required=False)]
    params += extra
    rng.shuffle(params)
    declared = _redeclared(tool.declared, params) if tool.declared is not None else None
    errors = (*tool.errors, "unsupported_value") if added else tool.errors
    run = _tolerant(tool, {param.name for param in extra}, added)
    return replace(tool, params=tuple(params), declared=declared, errors=errors, run=run)


def _nullable(schema: Mapping[str, Json]) -> dict[str, Json]:
    kind = schema.get("type")
    if not isinstance(kind, str) or kind == "null":
        return dict(schema)
    more = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [kind, "null"], **more}


def _redeclared(declared: ToolSpec, params: list[Param]) -> ToolSpec:
    schema = dict(declared.parameters)
    before: Mapping[str, Any] = schema.get("properties", {})
    properties: dict[str, Any] = {}
    for param in params:
        told: Any = before.get(param.name, {"description": param.slot.en})
        described = {"description": told["description"]} if "description" in told else {}
        properties[param.name] = {**param.schema, **described}
    schema["properties"] = properties
    schema["required"] = [param.name for param in params if param.required]
    return ToolSpec(declared.name, declared.description, schema)


def _tolerant(tool: WorldTool, extra: set[str], added: Mapping[str, list[Json]]) -> Any:
    """Run a tool without what it does not know."""
    optional = {param.name for param in tool.params if not param.required}

    def run(world: Any, /, **arguments: Json) -> Any:
        for name, members in added.items():
            if arguments.get(name) in members:
                raise Refused("unsupported_value", f"{arguments[name]} is not supported yet.")
        known = {
            name: value
            for name, value in arguments.items()
            if name not in extra and not (value is None and name in optional)
        }
        return tool.run(world, **known)

    return run


# --- what is not there ---------------------------------------------------------------------------

_CANNOT: Mapping[Lang, tuple[str, ...]] = {
    "en": ("I'm sorry, I have no tool that can do this.", "I can't do that with what I have here."),
    "zh": ("抱歉，我没有能办理此事的工具。", "以我现有的工具无法完成。"),
}


def take_away(domain: Domain, rng: Random) -> Domain:
    """Take away a tool that changes something; what needed it cannot be done any more."""
    needed = sorted({c.tool for c in _drawn_calls(domain) if domain.by_name[c.tool].writes})
    if len(needed) < 2:
        return domain
    gone = rng.choice(needed)
    intents = tuple(_declined(intent, domain, gone) for intent in domain.intents)
    return without(domain, domain.by_name[gone], intents)


def _declined(intent: Intent, domain: Domain, gone: str) -> Intent:
    goals = (intent.draw(domain.world(seed), Random(seed)) for seed in range(_DRAWS))
    if not any(call.tool == gone for goal in goals if goal is not None for call in goal.calls):
        return intent

    def sample(world: Any, rng: Random) -> Goal | None:
        goal = intent.sample(world, rng)
        return None if goal is None else Goal((), goal.facts, goal.clues)

    return replace(intent, sample=sample, reply=_CANNOT, kind="policy")
