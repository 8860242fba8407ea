"""What `qemu-img info` prints of an image and its backing chain."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from executor.parse.unreadable import member, read_json, unreadable
from planner.facts import Image

INFO = "qemu-img info -U --backing-chain --output=json"
VERSION = "qemu-img --version"


def images(
    path: str, text: str, inodes: Mapping[str, str], links: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Image]:
    """Yield the images of the chain that begins at the absolute `path`, or the one image that was asked for alone.

    inodes: "device:inode" of each. links: the path behind a name that stands for another file.
    """
    folder = posixpath.dirname(path)
    command = f"{INFO} {path}"
    chain = read_json(command, text)
    for said in chain if isinstance(chain, list) else [chain]:
        where = absolute(folder, plain_name(member(command, said, "filename")))
        data = said.get("format-specific", {}).get("data", {})
        where = links.get(where, where)
        backing = plain_name(said.get("full-backing-filename") or said.get("backing-filename") or "")
        backing = absolute(posixpath.dirname(where), backing) if backing else ""
        yield Image(
            path=where,
            format=member(command, said, "format"),
            capacity=member(command, said, "virtual-size"),
            allocated=said.get("actual-size", 0),
            inode=inodes.get(where, ""),
            cluster_size=said.get("cluster-size", 65536),
            backing=links.get(backing, backing),
            backing_format=said.get("backing-filename-format", ""),
            snapshots=tuple(snapshot["name"] for snapshot in said.get("snapshots", ())),
            corrupt=bool(data.get("corrupt", False)),
        )


def version(text: str) -> str:
    """Return qemu-img's version, "" for a host without it."""
    found = re.match(r"qemu-img version ([0-9][0-9.]*)", text)
    if found is None and text.strip():
        raise unreadable(VERSION, text, "no version in it")
    return found[1] if found else ""


def absolute(folder: str, name: str) -> str:
    return posixpath.normpath(posixpath.join(folder, name))


def plain_name(name: str) -> str:
    """Return the file that QEMU's name of an image stands for: it writes json:{...} when a name alone does not do."""
    if not name.startswith("json:"):
        return name.removeprefix("file:")
    try:
        said = json.loads(name.removeprefix("json:"))
        while "filename" not in said:
            said = said["file"]
        return str(said["filename"])
    except (ValueError, KeyError, TypeError):
        return name
