"""What QEMUs answer on their second monitors, all asked at once; only what changes nothing is asked."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

from executor.parse import qmp

PATIENCE = 10.0  # seconds for one QEMU; it answers in milliseconds
_AT_ONCE = 16
Answers = dict[int, dict[str, str]]


def ask_qemus(monitors: Mapping[int, str], patience: float = PATIENCE) -> tuple[Answers, dict[int, str]]:
    """Return by domid what each QEMU answers, as `executor/parse/qmp.py` reads it, and why others do not."""
    if not monitors:
        return {}, {}
    answers: Answers = {}
    silent: dict[int, str] = {}
    for domid, said in asyncio.run(_all(monitors, patience)).items():
        if isinstance(said, str):
            silent[domid] = said
        else:
            answers[domid] = said
    return answers, silent


async def _all(monitors: Mapping[int, str], patience: float) -> dict[int, dict[str, str] | str]:
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(path: str) -> dict[str, str] | str:
        async with turns:
            return await _one(path, patience)

    said = await asyncio.gather(*(one(path) for path in monitors.values()))
    return dict(zip(monitors, said, strict=True))


async def _one(path: str, patience: float) -> dict[str, str] | str:
    """Return the answers of one QEMU, or why there are none. A monitor serves one program at a time."""
    from qemu.qmp import QMPClient, QMPError

    client = QMPClient("domsnap")
    client.logger.setLevel(logging.CRITICAL + 1)  # what goes wrong is said once, by us
    try:
        async with asyncio.timeout(patience):
            await client.connect(path)
            return await _questions(client)
    except TimeoutError:
        return f"{path}: no answer within {patience:g} seconds; another program may be connected to it"
    except (QMPError, OSError, EOFError) as error:
        return f"{path}: {getattr(error, 'exc', None) or str(error) or type(error).__name__}"
    finally:
        try:
            async with asyncio.timeout(1):
                await client.disconnect()
        except (QMPError, OSError, EOFError, TimeoutError):
            pass  # it is gone, which is what was wanted


async def _questions(client: Any) -> dict[str, str]:
    from qemu.qmp import ExecuteError

    said = {name: await client.execute(name) for name in (qmp.BLOCK, qmp.JOBS, qmp.STATUS, qmp.VERSION)}
    try:  # without `flat` each node repeats all that is below it
        said[qmp.NODES] = await client.execute(qmp.NODES, {"flat": True})
    except ExecuteError:  # QEMU before 5.0
        said[qmp.NODES] = await client.execute(qmp.NODES)
    try:
        said[qmp.GRAPH] = await client.execute(qmp.GRAPH)
    except ExecuteError:  # QEMU before 4.0; the chains are followed by file names then
        pass
    if any(drive["device"] and "inserted" in drive for drive in said[qmp.BLOCK]):  # an emulated one
        said[qmp.WRITES] = await client.execute(qmp.WRITES)
    said[qmp.VDEVS] = {}
    for drive in said[qmp.BLOCK]:
        device = drive.get("qdev", "")
        if device.startswith("/") and "inserted" in drive:
            try:
                said[qmp.VDEVS][device] = await client.execute("qom-get", {"path": device, "property": "vdev"})
            except ExecuteError:  # an emulated drive has no such property
                pass
    return {name: json.dumps(value) for name, value in said.items()}
