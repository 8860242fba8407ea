"""The one way to say that a program printed what domsnap cannot read."""

from __future__ import annotations

import json
from typing import Any

from schema.diagnostic import Diagnostic, Refused

_SHOWN = 200


def unreadable(command: str, text: str, why: str) -> Refused:
    """Return the error that names the command, says what is wrong and quotes the text, cut to 200 characters."""
    quoted = repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
    return Refused(
        [
            Diagnostic(
                "the host's answer cannot be read",
                f"`{command}`: {why}; it printed {quoted}",
                "run the command by hand; a newer or changed version of it may print something else",
            )
        ]
    )


def read_json(command: str, text: str) -> Any:
    """Return the JSON value that a command printed; raises Refused if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unreadable(command, text, f"not JSON ({error})") from None


def member(command: str, value: Any, *keys: str | int) -> Any:
    """Return `value[key][key]...`; raises Refused naming the key that is not there."""
    for key in keys:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            raise unreadable(command, json.dumps(value), f"no {key!r} in it") from None
    return value
