"""A domain's configuration: xl.cfg read, and libxl's JSON of it, which `xl list -l` shows and memory images carry."""

from __future__ import annotations

import ast
import os
import uuid
from collections.abc import Iterator
from typing import Any

Config = dict[str, Any]
_POSITIONS = ("target", "format", "vdev", "access")
_ACTIONS = {"on_poweroff": "destroy", "on_reboot": "restart", "on_crash": "destroy"}


class Wrong(Exception):
    """The text is no configuration; the message says why."""


def read(text: str) -> Config:
    """Return the configuration that an xl.cfg holds; raises Wrong."""
    said = dict(_assignments(text))
    if "name" not in said:
        raise Wrong("missing config item `name'.")
    kind = said.get("type", "pv")
    memory = int(said.get("memory", 32)) * 1024
    return {
        "c_info": {"type": kind, "name": said["name"], "uuid": said.get("uuid") or str(uuid.uuid4())},
        "b_info": {"max_vcpus": 1, "max_memkb": memory, "target_memkb": memory, "video_memkb": 0, f"type.{kind}": {}},
        "disks": [_disk(spec) for spec in said.get("disk", ())],
        **{key: said.get(key, fallback) for key, fallback in _ACTIONS.items()},
    }


def _assignments(text: str) -> Iterator[tuple[str, Any]]:
    """Yield what an xl.cfg assigns: numbers, texts and lists are written as in Python."""
    try:
        module = ast.parse(text)
    except SyntaxError as error:
        raise Wrong(f"config parsing error near line {error.lineno}") from None
    for each in module.body:
        match each:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, ast.literal_eval(value)
            case _:
                raise Wrong(f"config parsing error near line {each.lineno}")


def _disk(spec: str) -> Config:
    """Return a disk of xl-disk-configuration(5), written as positions or as words with a key."""
    said: dict[str, str] = {}
    rest, place = spec, 0
    while rest:
        word, _, after = rest.partition(",")
        key, equals, value = word.strip().partition("=")
        if equals and key == "target":  # the last one: it eats the rest
            said["target"] = rest.partition("=")[2].strip()
            break
        if equals:
            said[key] = value
        elif place < len(_POSITIONS):
            said[_POSITIONS[place]], place = word.strip(), place + 1
        rest = after
    if "vdev" not in said:
        raise Wrong("no vdev specified")
    target = said.get("target", "")
    if target and not target.startswith("/"):
        target = f"/dev/{target}"
    backend = {"backend": said["backendtype"]} if "backendtype" in said else {}
    writable = {} if said.get("access") in ("r", "ro") else {"readwrite": 1}
    form = {"aio": "raw"}.get(said.get("format", "raw"), said.get("format") or "raw")
    return {"pdev_path": target, "vdev": said["vdev"], **backend, "format": form, **writable,
            "colo_restore_enable": "False"}  # fmt: skip


def backend(disk: Config) -> str:
    """Return the backend that libxl picks: phy for raw images, also in a file, else qdisk (light/libxl_device.c)."""
    said: str = disk.get("backend") or ("phy" if disk["format"] == "raw" else "qdisk")
    return said


def number(vdev: str) -> int:
    """Return the number of a disk xvda, xvdb ... (docs/man/xen-vbd-interface.7)."""
    return (202 << 8) + 16 * (ord(vdev.removeprefix("xvd")[0]) - ord("a"))


def xenstore(domid: int, config: Config, device_model: int) -> Iterator[tuple[str, str]]:
    """Yield what libxl writes of a domain into xenstore, as far as its disks and its device model go."""
    home = f"/local/domain/{domid}"
    yield f"{home}/vm", f"/vm/{config['c_info']['uuid']}"
    yield f"{home}/name", config["c_info"]["name"]
    yield f"{home}/control/shutdown", ""
    if device_model:
        yield f"{home}/image/device-model-pid", str(device_model)
    for disk in config["disks"]:
        served, vdev = backend(disk), number(disk["vdev"])
        where = f"/local/domain/0/backend/{'vbd' if served == 'phy' else served}/{domid}/{vdev}"
        form = {"raw": "aio"}.get(disk["format"], disk["format"])
        params = disk["pdev_path"] if served == "phy" else f"{form}:{disk['pdev_path']}"
        said = {
            "frontend": f"{home}/device/vbd/{vdev}", "params": params, "online": "1", "removable": "0",
            "bootable": "1", "dev": disk["vdev"], "type": served, "mode": "w" if disk.get("readwrite") else "r",
            "device-type": "disk", "discard-enable": "1", "specification": "xen", "frontend-id": str(domid),
        }  # fmt: skip
        yield f"/libxl/{domid}/device/vbd/{vdev}/backend", where
        for folder in (f"/libxl/{domid}/device/vbd/{vdev}", where):
            yield from ((f"{folder}/{key}", value) for key, value in said.items())
        yield f"{where}/state", "4"
        if served == "phy":
            yield f"{where}/sectors", str(os.path.getsize(disk["pdev_path"]) // 512)
            yield f"{where}/sector-size", "512"
