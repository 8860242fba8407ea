"""JSON Schema to diagnostics: every error of a document, in our own words, with what is allowed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from schema.diagnostic import Diagnostic, Position
from schema.source import Path, Plain

NAMES = ("snapshot", "facts", "plan", "record")
_KINDS = {"object": "a mapping", "array": "a list", "string": "text", "integer": "a whole number", "number": "a number",
          "boolean": "true or false", "null": "null"}  # fmt: skip
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")


def schema_text(name: str) -> str:
    """Return one of the JSON Schemas as text; `name` is one of NAMES."""
    return (files("schema") / f"{name}.schema.json").read_text(encoding="utf-8")


@cache
def schema_of(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(schema_text(name))
    return schema


def settle(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return the value with plain scalars made numbers where the schema wants a number and nothing else."""
    root = schema

    def walk(value: Any, schema: Mapping[str, Any]) -> Any:
        if "$ref" in schema:
            schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
        if isinstance(value, dict):
            options = [schema, *schema.get("anyOf", ())]
            known = {key: each for option in options for key, each in option.get("properties", {}).items()}
            other: Any = next(
                (o["additionalProperties"] for o in options if isinstance(o.get("additionalProperties"), dict)), {}
            )
            return {key: walk(each, known.get(key, other)) for key, each in value.items()}
        if isinstance(value, list):
            return [walk(each, schema.get("items", {})) for each in value]
        if isinstance(value, Plain) and schema.get("type") == "integer" and _INTEGER.fullmatch(value):
            return int(value)
        return value

    return walk(value, schema)


def check(
    name: str,
    value: Any,
    file: str,
    positions: Mapping[Path, Position] | None = None,
    lines: tuple[str, ...] = (),
    keys: Mapping[Path, Position] | None = None,
) -> list[Diagnostic]:
    """Return what is wrong with a value under a schema, in the order of the file; without positions, by path."""
    return Checker(schema_of(name), file, positions or {}, keys or {}, lines).check(value)


class Checker:
    """Holds values against one schema and says what is wrong with them."""

    def __init__(
        self,
        schema: dict[str, Any],
        file: str,
        positions: Mapping[Path, Position],
        keys: Mapping[Path, Position],
        lines: tuple[str, ...],
    ) -> None:
        from jsonschema import Draft202012Validator

        self.validator = Draft202012Validator(schema)
        self.file, self.positions, self.keys, self.lines = file, positions, keys, lines

    def check(self, value: Any) -> list[Diagnostic]:
        found = [each for error in self.validator.iter_errors(value) for each in self._say(error, ())]
        return sorted(dict.fromkeys(found), key=lambda each: (_place(each), each.path))

    def _say(self, error: Any, base: Path) -> Iterator[Diagnostic]:
        path = (*base, *error.path)
        title = str(error.schema.get("title", "value")).lower() if isinstance(error.schema, dict) else "value"
        match error.validator:
            case "additionalProperties":
                known = sorted(error.schema.get("properties", ()))
                for key in error.instance:
                    if key not in known:
                        yield self._unknown_key((*path, key), key, known)
            case "required":
                missing = [key for key in error.validator_value if key not in error.instance]
                names = ", ".join(f"`{key}`" for key in missing)
                yield self.diagnostic("a key is missing", f"{names} must be said", "", path)
            case "anyOf":
                yield from self._best(error, path)
            case _ if "allOf" in error.schema_path:
                return  # what goes together is said by schema.semantics, in words
            case "type":
                yield self._wrong_kind(error, path)
            case "enum":
                yield self._not_one_of(f"unknown {title}", error, path)
            case "const":
                yield self._version(error, path)
            case "pattern" if self._is_key(error):
                yield self._not_a_disk((*path, str(error.instance)), str(error.instance))
            case "pattern":
                yield self.diagnostic(f"not a valid {title}", *self._pattern(error, title), path)
            case rule:
                detail = f"{shown(error.instance)}: {_LIMITS.get(rule, rule)} {error.validator_value}"
                yield self.diagnostic(f"not a valid {title}", detail, "", path)

    def _is_key(self, error: Any) -> bool:
        return "propertyNames" in error.schema_path

    def _best(self, error: Any, path: Path) -> Iterator[Diagnostic]:
        """Say what is wrong with the branch that fits the kind of value that stands there."""
        instance = error.instance
        for number, branch in enumerate(error.validator_value):
            fits = ("properties" in branch) == isinstance(instance, dict)
            if fits and not isinstance(instance, list):
                for inner in error.context:
                    if inner.schema_path[0] == number:
                        yield from self._say(inner, path)
                return
        detail = f"expected a method, or a mapping that says more; {shown(instance)} is neither"
        yield self.diagnostic("wrong kind of value", detail, "", path)

    def _unknown_key(self, path: Path, key: str, known: list[str]) -> Diagnostic:
        detail = f"{shown(key)} is not one of {', '.join(known)}"
        return self.diagnostic("unknown key", detail, did_you_mean(key, known), path, key=True)

    def _wrong_kind(self, error: Any, path: Path) -> Diagnostic:
        wanted = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
        kinds = " or ".join(_KINDS[kind] for kind in wanted)
        detail = f"expected {kinds}; {shown(error.instance)} is not"
        if isinstance(error.instance, str) and not error.instance:
            detail = f"expected {kinds}; nothing stands there"
        hint = "leave the quotes out" if type(error.instance) is str and error.instance.isdigit() else ""
        return self.diagnostic("wrong kind of value", detail, hint, path)

    def _not_one_of(self, summary: str, error: Any, path: Path) -> Diagnostic:
        allowed = [str(each) for each in error.validator_value]
        detail = f"{shown(error.instance)} is not one of {', '.join(map(repr, allowed))}"
        hint = did_you_mean(error.instance, allowed) if isinstance(error.instance, str) else ""
        return self.diagnostic(summary, detail, hint, path)

    def _version(self, error: Any, path: Path) -> Diagnostic:
        newest, said = error.validator_value, error.instance
        if isinstance(said, int) and not isinstance(said, bool) and said > newest:
            detail = f"this is version {said}; this domsnap reads up to {newest}"
            return self.diagnostic("the document is newer than this domsnap", detail, "install a newer domsnap", path)
        return self.diagnostic("unknown version", f"{shown(said)} is not {newest}", "", path)

    def _not_a_disk(self, path: Path, key: str) -> Diagnostic:
        detail = f"{shown(key)} is not of the form xvda, sda or hda"
        return self.diagnostic("not a disk name", detail, "use the name in the domain's configuration", path, key=True)

    def _pattern(self, error: Any, title: str) -> tuple[str, str]:
        said = str(error.instance)
        if error.validator_value == "^/":
            return f"{shown(said)} is not an absolute path", "begin it with /"
        if title in ("domain", "snapshot") and said.isdigit():
            reason = "xl would take it for a domain number" if title == "domain" else "qemu-img would take it for an id"
            return f"{shown(said)} is all digits: {reason}", "put a letter in it"
        if title == "snapshot" and said.lower() != said:
            return f"{shown(said)} has capital letters: a-z, 0-9 and . _ - are allowed", f"use {shown(said.lower())}"
        if title in ("domain", "snapshot"):
            letters = "letters, 0-9 and + . _ -" if title == "domain" else "a-z, 0-9 and . _ -"
            first = "" if title == "domain" else ", the first a letter or digit"
            return f"{shown(said)}: at most 63 of {letters} are allowed{first}", ""
        if "KMGT" in error.validator_value:
            return f"{shown(said)} is not bytes, or a number with KiB, MiB, GiB or TiB", "write it like 4GiB"
        return f"{shown(said)} does not look like {error.schema.get('examples', ['one'])[0]}", ""

    def diagnostic(self, summary: str, detail: str, hint: str, path: Path, *, key: bool = False) -> Diagnostic:
        where = (self.keys.get(path) if key else None) or self._where(path)
        text = self.lines[where.line - 1] if 0 < where.line <= len(self.lines) else ""
        return Diagnostic(summary, detail, hint, where, ".".join(map(str, path)), text)

    def _where(self, path: Path) -> Position:
        for end in range(len(path), -1, -1):
            if path[:end] in self.positions:
                return self.positions[path[:end]]
        return Position(self.file, 0, 0)


_LIMITS = {
    "minimum": "it must be at least", "maximum": "it must be at most", "minLength": "its length must be at least",
    "maxLength": "its length must be at most", "minItems": "its length must be at least",
}  # fmt: skip


def shown(value: Any) -> str:
    """Return a value for a message: quoted, cut at 60 characters, without control characters."""
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(str(value)) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # slow to load, and only errors need it

    close = get_close_matches(word[:100], list(known), 1, 0.6)
    return f"did you mean {close[0]!r}?" if close else ""


def _place(diagnostic: Diagnostic) -> tuple[int, int]:
    return (diagnostic.position.line, diagnostic.position.column) if diagnostic.position else (0, 0)
