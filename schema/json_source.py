"""JSON text to a document: no key twice, nothing that is no number, no text that could not be written again."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from schema.diagnostic import Diagnostic, Position, Refused, shown

MAX_JSON_BYTES = 2**28
_LARGEST = 2**63 - 1
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class _Wrong(Exception):
    """What a hook of json finds; json does not say where."""

    def __init__(self, summary: str, detail: str) -> None:
        super().__init__(summary)
        self.summary, self.detail = summary, detail


def load_json(data: bytes, name: str) -> dict[str, Any]:
    """Return the object that a JSON file holds. Raises Refused."""
    try:
        document = _load(data)
    except UnicodeDecodeError as error:
        wrong = _Wrong("not UTF-8", f"byte 0x{data[error.start]:02x} at {error.start} cannot stand here")
    except json.JSONDecodeError as error:
        text = error.doc.split("\n")[error.lineno - 1]
        where = Position(name, error.lineno, error.colno)
        raise Refused([Diagnostic("not valid JSON", _lower(error.msg), "", where, "", text)]) from None
    except RecursionError:
        wrong = _Wrong("nested too deeply", "no document of domsnap is nested like this")
    except _Wrong as error:
        wrong = error
    else:
        if isinstance(document, dict):
            return document
        wrong = _Wrong("wrong kind of value", f"expected a mapping, found {shown(document)}")
    raise Refused([Diagnostic(wrong.summary, wrong.detail, "", Position(name, 0, 0))])


def _load(data: bytes) -> Any:
    if len(data) > MAX_JSON_BYTES:
        raise _Wrong("the file is too large", f"it has more than {MAX_JSON_BYTES} bytes, the most that is read")
    text = data.decode()
    document = json.loads(
        text, object_pairs_hook=_once, parse_constant=_constant, parse_int=_whole, parse_float=_broken
    )
    if _SURROGATE.search(data):
        _hold_together(document)
    return document


def _hold_together(document: Any) -> None:
    """Refuse half a character: a plan with one could be neither hashed nor saved."""
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise _Wrong("not valid JSON", f"{half} is half a character, and its other half is missing") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Wrong("a key stands twice", f"{shown(twice)} stands twice in one object")
    return found


def _constant(word: str) -> Any:
    raise _Wrong("not valid JSON", f"{word} is no number")


def _whole(text: str) -> int:
    if len(text) < 20 and abs(number := int(text)) <= _LARGEST:
        return number
    raise _Wrong("a number is too large", f"{_cut(text)} is beyond {_LARGEST}")


def _broken(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise _Wrong("a number is too large", f"{_cut(text)} is beyond what a number can be")


def _cut(digits: str) -> str:
    return digits if len(digits) <= 40 else f"{digits[:20]}... ({len(digits)} characters)"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
