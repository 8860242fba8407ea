"""JSON Schema to diagnostics: every error of a document, in our own words, with what is allowed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import Any

from schema.diagnostic import Diagnostic, Position, shown
from schema.patterns import matches, mismatch
from schema.source import Path, Plain

# Nobody reads more than so many mistakes of one file, and a file of nothing else would take long.
MANY = 200
NEWER = "the document is newer than this domsnap"
NAMES = ("snapshot", "facts", "plan", "record")
_KINDS = {"object": "a mapping", "array": "a list", "string": "text", "integer": "a whole number", "number": "a number",
          "boolean": "true or false", "null": "null"}  # fmt: skip
_INTEGER = re.compile(r"[-+]?[0-9]{1,1000}")  # Python converts no more than 4300 digits


def schema_text(name: str) -> str:
    """Return one of the JSON Schemas as text; `name` is one of NAMES."""
    return (files("schema") / f"{name}.schema.json").read_text(encoding="utf-8")


@cache
def schema_of(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(schema_text(name))
    return schema


def settle(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return the value with plain scalars made numbers, true or false where the schema wants that and nothing else."""
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
        if isinstance(value, Plain) and schema.get("type") == "boolean" and value in ("true", "false"):
            return value == "true"
        return value

    return walk(value, schema)


@cache
def _validators() -> Any:
    """Return the class of validators: jsonschema's, with two differences.

    A `$` in a pattern is the end of the text alone, not the line break before it; 1.0 is not a whole number.
    """
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    def pattern(_: Any, wanted: str, instance: Any, __: Any) -> Iterator[Any]:
        if isinstance(instance, str) and not matches(wanted, instance):
            yield ValidationError("does not match")

    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    return extend(Draft202012Validator, {"pattern": pattern}, type_checker=types)  # type: ignore[no-untyped-call]


def _inside(title: str) -> str:
    """Return a title as it stands inside a sentence."""
    if title in ("Domain", "Snapshot"):
        return f"{title.lower()} name"
    return title if title.startswith("Xen") or title[1:2].isupper() else title[:1].lower() + title[1:]


def _flow(value: Any) -> str:
    """Return a value as YAML on one line; good for names and numbers."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    return str(value)


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
        self.validator = _validators()(schema)
        self.file, self.positions, self.keys, self.lines = file, positions, keys, lines

    def check(self, value: Any) -> list[Diagnostic]:
        errors = islice(self.validator.iter_errors(value), MANY + 1)
        found = [each for error in errors for each in islice(self._say(error, ()), MANY + 1)]
        newer = [each for each in found if each.summary == NEWER]  # what else is wrong may be right in that version
        return newer or sorted(dict.fromkeys(found), key=lambda each: (_place(each), each.path))

    def _say(self, error: Any, base: Path) -> Iterator[Diagnostic]:
        path = (*base, *error.path)
        schema = error.schema if isinstance(error.schema, dict) else {}
        title = _inside(str(schema.get("title", "Value")))
        match error.validator:
            case _ if "allOf" in error.schema_path:
                return  # what goes together is said by schema.semantics, in words
            case "additionalProperties":
                yield from self._unknown_keys(error, path)
            case "required":
                yield self._missing(error, path)
            case "anyOf":
                yield from self._best(error, path)
            case "type":
                yield self._wrong_kind(error, path)
            case "enum":
                yield self._not_one_of(f"unknown {title}", error, path)
            case "const":
                if isinstance(error.instance, int) and not isinstance(error.instance, bool):
                    yield self._version(error, path)  # of any other kind `type` has spoken
            case "pattern" if "propertyNames" in error.schema_path:
                yield self._not_a_disk((*path, str(error.instance)), str(error.instance), error.validator_value)
            case "pattern":
                said = str(error.instance)
                example = str(schema.get("examples", ["the example"])[0])
                words = mismatch(str(schema.get("title")), error.validator_value, said, shown(said), example)
                yield self.diagnostic(f"not a valid {title}", *words, path)
            case rule:
                detail = _limit(rule, error.validator_value, error.instance)
                yield self.diagnostic(f"not a valid {title}", detail, "", path)

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
        detail = f"expected a method, or a mapping that says more, found {shown(instance)}"
        yield self.diagnostic("wrong kind of value", detail, "write one method", path)

    def _unknown_keys(self, error: Any, path: Path) -> Iterator[Diagnostic]:
        known = sorted(error.schema.get("properties", ()))
        for key in error.instance:
            if key not in known:
                detail = f"{shown(key)} is not one of {', '.join(known)}"
                yield self.diagnostic("unknown key", detail, did_you_mean(key, known), (*path, key), key=True)

    def _wrong_kind(self, error: Any, path: Path) -> Diagnostic:
        wanted = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
        kinds = " or ".join(_KINDS[kind] for kind in wanted)
        said = error.instance
        detail = f"expected {kinds}, found {'nothing' if said == '' else shown(said)}"
        hint = ""
        if "object" in wanted:
            example = _flow(error.schema.get("examples", [{}])[0])
            if example != "{}" and len(example) <= 60:
                hint = f"write it like {example}"
            elif not path and isinstance(said, str) and ":" in said:
                hint = "put a blank after each colon"
        elif type(said) is str and (said.isdigit() or ("boolean" in wanted and said in ("true", "false"))):
            hint = "leave the quotes out"
        return self.diagnostic("wrong kind of value", detail, hint, path)

    def _not_one_of(self, summary: str, error: Any, path: Path) -> Diagnostic:
        allowed = [str(each) for each in error.validator_value]
        said = error.instance
        among = ", ".join(map(repr, allowed))
        detail = f"nothing stands there; {among} are allowed" if said == "" else f"{shown(said)} is not one of {among}"
        hint = did_you_mean(said, allowed) if isinstance(said, str) else ""
        return self.diagnostic(summary, detail, hint, path)

    def _version(self, error: Any, path: Path) -> Diagnostic:
        newest, said = error.validator_value, error.instance
        if isinstance(said, int) and not isinstance(said, bool) and said > newest:
            detail = f"this is version {said}; this domsnap reads up to {newest}"
            return self.diagnostic(NEWER, detail, "install a newer domsnap", path)
        detail = f"this is version {shown(said)}; {newest} is the only one"
        return self.diagnostic("unknown version", detail, f"write `version: {newest}`", path)

    def _missing(self, error: Any, path: Path) -> Diagnostic:
        known = error.schema.get("properties", {})
        missing = [key for key in error.validator_value if key not in error.instance]
        names = ", ".join(f"`{key}`" for key in missing)
        lines = [f"`{key}: {known[key]['examples'][0]}`" for key in missing if known.get(key, {}).get("examples")]
        hint = f"add a line like {lines[0]}" if len(lines) == 1 else f"add lines like {', '.join(lines)}"
        fits = error.schema.get("$id") == "snapshot.schema.json" or path == ("assume",)
        return self.diagnostic("a key is missing", f"{names} must be said", hint if fits else "", path)

    def _not_a_disk(self, path: Path, key: str, pattern: str) -> Diagnostic:
        detail = f"{shown(key)} is not of the form xvda, sda or hda"
        likely = key.rpartition("/")[2].lower()
        hint = "use the name in the domain's configuration"
        if likely != key and matches(pattern, likely):
            hint = f"did you mean {likely!r}?"
        return self.diagnostic("not a disk name", detail, hint, path, key=True)

    def diagnostic(self, summary: str, detail: str, hint: str, path: Path, *, key: bool = False) -> Diagnostic:
        where = (self.keys.get(path) if key else None) or self._where(path)
        text = self.lines[where.line - 1] if 0 < where.line <= len(self.lines) else ""
        return Diagnostic(summary, detail, hint, where, ".".join(map(str, path)), text)

    def _where(self, path: Path) -> Position:
        for end in range(len(path), -1, -1):
            if path[:end] in self.positions:
                return self.positions[path[:end]]
        return Position(self.file, 0, 0)


def _limit(rule: str, limit: Any, value: Any) -> str:
    """Say what is wrong with a value that breaks a limit of size."""
    match rule:
        case "minimum":
            return f"{shown(value)} is too small; {limit} is the least"
        case "maximum":
            return f"{shown(value)} is too large; {limit} is the most"
        case "maxLength":
            return f"it has {len(value)} characters; at most {limit} are allowed"
        case "minLength" | "minItems" | "minProperties" if not value:
            return "nothing stands there"
        case _:
            return f"{shown(value)} breaks the rule `{rule}`: {limit}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # slow to load, and only errors need it

    known = list(known)
    close = get_close_matches(word[:100], known, 1, 0.6) or get_close_matches(word[:100].lower(), known, 1, 0.6)
    return f"did you mean {close[0]!r}?" if close else ""


def _place(diagnostic: Diagnostic) -> tuple[int, int]:
    return (diagnostic.position.line, diagnostic.position.column) if diagnostic.position else (0, 0)
