"""Holds QMP requests against the schema that a QEMU gives of itself (query-qmp-schema)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Mapping[str, Any]]
_BUILTIN: dict[str, type | tuple[type, ...]] = {
    "string": str, "int": int, "number": (int, float), "boolean": bool, "null": type(None), "object": dict,
    "array": list, "value": object,
}  # fmt: skip


def schema(answer: list[dict[str, Any]]) -> Schema:
    """Return the answer of query-qmp-schema by name."""
    return {entry["name"]: entry for entry in answer}


def objections(known: Schema, execute: str, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield what QEMU would say against a request, before it looks at any disk."""
    entry = known.get(execute)
    if entry is None or entry["meta-type"] != "command":
        yield f"no command {execute!r}"
        return
    yield from _value(known, entry["arg-type"], dict(arguments), execute)


def _value(known: Schema, kind: str, value: Any, where: str) -> Iterator[str]:
    entry = known[kind]
    match entry["meta-type"]:
        case "builtin":
            wanted = _BUILTIN[entry["json-type"]]
            if not isinstance(value, wanted) or (isinstance(value, bool) and wanted in (int, (int, float))):
                yield f"{where}: {value!r} is no {entry['json-type']}"
        case "enum":
            if value not in entry["values"]:
                yield f"{where}: {value!r} is not one of {entry['values']}"
        case "array":
            if not isinstance(value, list):
                yield f"{where}: {value!r} is no list"
                return
            for number, item in enumerate(value):
                yield from _value(known, entry["element-type"], item, f"{where}[{number}]")
        case "alternate":
            fits = [member["type"] for member in entry["members"] if _same_kind(known, member["type"], value)]
            if not fits:
                yield f"{where}: {value!r} is none of what may stand here"
            for kind_of in fits[:1]:
                yield from _value(known, kind_of, value, where)
        case "object":
            yield from _object(known, entry, value, where)
        case other:
            raise AssertionError(f"unknown meta-type {other}")


def _object(known: Schema, entry: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: {value!r} is no object"
        return
    members = {member["name"]: member for member in entry["members"]}
    if "tag" in entry:
        chosen = value.get(entry["tag"], members[entry["tag"]].get("default"))
        for variant in entry["variants"]:
            if variant["case"] == chosen:
                members |= {member["name"]: member for member in known[variant["type"]]["members"]}
                if "tag" in known[variant["type"]]:
                    yield from _object(known, known[variant["type"]], _without(value, entry), where)
                    return
    for name, member in members.items():
        if name in value:
            yield from _value(known, member["type"], value[name], f"{where}.{name}")
        elif "default" not in member:
            yield f"{where}: {name!r} is missing"
    for name in value.keys() - members.keys():
        yield f"{where}: {name!r} is unknown"


def _without(value: dict[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    names = {member["name"] for member in entry["members"]}
    return {name: item for name, item in value.items() if name not in names}


def _same_kind(known: Schema, kind: str, value: Any) -> bool:
    entry = known[kind]
    match entry["meta-type"]:
        case "builtin":
            return not list(_value(known, kind, value, ""))
        case "enum":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
        case _:
            return isinstance(value, dict)
