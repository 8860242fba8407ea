"""Says quickly whether a JSON value fits a schema, for the thousands of items of a large document.

It knows the keywords that the schemas of this package use, and no others; what is wrong with a value that does not fit
is for `schema.validate` to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from schema.patterns import python

Fits = Callable[[Any], bool]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
_WORDS = {"title", "description", "examples", "default", "$schema", "$id", "$defs"}


def shape(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Fits:
    """Return the test for a schema, whose references are into `root`. Raises ValueError for a keyword not known."""
    return _Maker(root).test(schema)


class _Maker:
    """Makes tests; every definition once, so that definitions may refer to each other."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root = root
        self.made: dict[str, Fits] = {}

    def test(self, schema: Mapping[str, Any]) -> Fits:
        rules = {key: value for key, value in schema.items() if key not in _WORDS}
        tests: list[Fits] = []
        if "type" in rules:
            said = rules.pop("type")
            names = said if isinstance(said, list) else [said]
            kinds = frozenset(kind for name in names for kind in _TYPES[name])
            tests.append(lambda value: type(value) in kinds)
        if rules.keys() & {"properties", "required", "additionalProperties"}:
            tests.append(self._object(rules))
        tests += [self._rule(rule, wanted) for rule, wanted in rules.items()]
        return tests[0] if len(tests) == 1 else lambda value: all(test(value) for test in tests)

    def _object(self, rules: dict[str, Any]) -> Fits:
        properties = {key: self.test(each) for key, each in rules.pop("properties", {}).items()}
        required = frozenset(rules.pop("required", ()))
        other = rules.pop("additionalProperties", True)
        rest: Fits = self.test(other) if isinstance(other, dict) else lambda _: bool(other)

        def fits(value: Any) -> bool:
            if type(value) is not dict:
                return True
            return required <= value.keys() and all(properties.get(key, rest)(each) for key, each in value.items())

        return fits

    def _rule(self, rule: str, wanted: Any) -> Fits:
        match rule:
            case "$ref":
                return partial(self._defined, wanted.rpartition("/")[2])
            case "anyOf":
                branches = [self.test(each) for each in wanted]
                return lambda value: any(branch(value) for branch in branches)
            case "items":
                item = self.test(wanted)
                return lambda value: type(value) is not list or all(map(item, value))
            case "const":
                return lambda value: type(value) is type(wanted) and value == wanted
            case "enum":
                return lambda value: any(type(value) is type(each) and value == each for each in wanted)
            case "pattern":
                found = re.compile(python(wanted)).search
                return lambda value: type(value) is not str or found(value) is not None
            case "minimum":
                return lambda value: type(value) not in (int, float) or value >= wanted
            case "minItems":
                return lambda value: type(value) is not list or len(value) >= wanted
            case "minProperties":
                return lambda value: type(value) is not dict or len(value) >= wanted
            case "maxProperties":
                return lambda value: type(value) is not dict or len(value) <= wanted
            case _:
                raise ValueError(f"no test for the keyword {rule}")

    def _defined(self, name: str, value: Any) -> bool:
        if name not in self.made:
            self.made[name] = self.test(self.root["$defs"][name])
        return self.made[name](value)
