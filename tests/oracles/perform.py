"""Carries out the commands of operations on a real QEMU and real files; no Xen is needed for those on images."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable

from planner.commands import AwaitJob, Command, Qmp, Rename, Run, canonical
from planner.operation import Operation
from tests.oracles.machine import Machine, Refusal


def perform(operation: Operation, qemu: Machine | None = None) -> None:
    """Do one operation as a plan would: its checks, itself, its postconditions."""
    run((*operation.checks(), *operation.do(), *operation.after()), qemu)


def undo(operation: Operation, qemu: Machine | None = None) -> None:
    run(operation.undo(), qemu)


def run(commands: Iterable[Command], qemu: Machine | None = None) -> None:
    for command in commands:
        match command:
            case Run():
                _program(command)
            case Qmp() if qemu:
                _request(command, qemu)
            case AwaitJob() if qemu:
                there = any(job["id"] == command.job for job in qemu("query-jobs"))
                end = "pending" if command.pending else "concluded"
                assert there or command.optional, f"there is no job {command.job}"
                assert not there or qemu.job(command.job, complete=command.complete, until=end) == ""
            case Rename():
                os.rename(command.source, command.target)
            case _:
                raise AssertionError(f"not a command on images: {command}")


def _program(command: Run) -> None:
    if command.when and subprocess.run(command.when, check=False).returncode:
        return
    if command.unless and not subprocess.run(command.unless, check=False).returncode:
        return
    done = subprocess.run(command.argv, check=False, capture_output=True, text=True, timeout=30)
    if command.tolerates and re.search(command.tolerates, done.stderr, re.MULTILINE):
        return
    assert done.returncode == command.status, (command.argv, done.stderr)
    _holds(command, done.stdout)


def _request(command: Qmp, qemu: Machine) -> None:
    if command.when and not re.search(command.when[1], canonical(qemu(command.when[0]))):
        return
    try:
        answer = qemu(command.execute, json.loads(canonical(command.arguments)))
    except Refusal as refusal:
        wanted = command.error or command.tolerates
        if not wanted or not re.search(wanted, str(refusal)):
            raise
        return
    assert not command.error, f"{command.execute} was to be refused"
    _holds(command, canonical(answer))


def _holds(command: Run | Qmp, said: str) -> None:
    assert not command.prints or re.search(command.prints, said, re.MULTILINE), (command, said)
    assert not command.lacks or not re.search(command.lacks, said, re.MULTILINE), (command, said)
