"""What is done with a block of the documentation, by its kind."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

from borg_serve_lib.sinks.metrics import COUNTERS, GAUGES

from .blocks import ROOT, Block
from .machine import HOME, Machine

KEYS = "/var/lib/borg/.ssh/authorized_keys"
AUDIT_LOG = "/var/log/borg-serve/audit.log"
REPOSITORY = "/srv/backups/alice/laptop"

Checker = Callable[[Machine, Block], None]


def run_commands(machine: Machine, block: Block) -> None:
    """All must succeed, but for an `explain` that says what would be refused; what shows records must show some."""
    done = machine.run(block.text)
    foretold = "borg-serve explain" in block.text and "refused:" in done.stdout
    assert done.returncode == 0 or (done.returncode, foretold) == (1, True), f"{block.text}{done.stdout}"
    assert done.stdout or not re.search("^(jq|grep) ", block.text, re.MULTILINE), f"{block.text}shows nothing"


def compare_output(machine: Machine, block: Block) -> None:
    """Below a command stands what it prints, but for figures, and for line breaks in what is long."""
    command, _, shown = block.text.removeprefix("$ ").partition("\n")
    assert block.text.startswith("$ ")
    said = machine.run(command).stdout
    assert _comparable(said) == _comparable(shown), said


def _comparable(text: str) -> list[str]:
    for pattern, word in ((r"\b[0-9a-f]{64}\b", "ID"), (r"\d+([.:-]\d+)*", "N"), (r"\bN [kM]?B\b", "N B")):
        text = re.sub(pattern, word, text)
    return text.split()


def serve_keys(machine: Machine, block: Block) -> None:
    """Each line lets a client in to be served, and all that it asks for can be done as that account."""
    text = with_key(machine, block.text)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for line in lines:
        _put_keys(machine, [line])
        said = machine.succeed("ssh borg@backup.example.org borg serve")
        command = line.split('"')[1]  # none has one in it
        if "borg-serve" in command:
            assert said == "", f"{line}\n{said}"
            said = machine.succeed(command.replace("borg-serve ", "borg-serve explain "), user="borg")
            assert "not kept" not in said, said
    _put_keys(machine, lines)


def with_key(machine: Machine, text: str) -> str:
    """Put the client's key where the pages leave one out."""
    return text.replace("AAAA…", machine.read(f"{HOME}/.ssh/id_ed25519.pub").split()[1])


def _put_keys(machine: Machine, lines: list[str]) -> None:
    machine.write(KEYS, "\n".join(lines) + "\n")


def check_sshd(machine: Machine, block: Block) -> None:
    """sshd takes it, and runs with it if it says where."""
    path = f"{ROOT / (block.file or 'sshd_config')}"
    keys = "HostKey /etc/ssh/ssh_host_ed25519_key\n"
    machine.write(path, block.text if "HostKey" in block.text else keys + block.text)
    assert machine.succeed(f"/usr/sbin/sshd -t -f {path}") == ""
    if "Port " in block.text:
        machine.succeed(f"/usr/sbin/sshd -f {path}")


def check_ssh(machine: Machine, block: Block) -> None:
    machine.write("/tmp/ssh_config", block.text)
    settings = machine.succeed("ssh -G -F /tmp/ssh_config backup.example.org").splitlines()
    assert {line.lower() for line in block.text.splitlines()} <= set(settings)


def check_unit(machine: Machine, block: Block) -> None:
    """systemd knows each word, and what the unit runs as an account can be run as that."""
    machine.write(block.file, block.text)
    instance = block.file.replace("@.", f"@{REPOSITORY[1:].replace('/', '-')}.")
    assert machine.succeed(f"systemd-analyze verify {instance}") == ""
    unit = configparser.RawConfigParser(strict=False)
    unit.read_string(block.text.replace("\\\n", " "))
    if unit.has_option("Service", "User"):
        machine.succeed(unit["Service"]["ExecStart"].replace("%f", REPOSITORY), user=unit["Service"]["User"])


def check_image(machine: Machine, block: Block) -> None:
    """Its commands succeed on a machine where nothing was installed before, and what it starts can be started."""
    machine.write(f"{ROOT}/Containerfile", block.text)
    steps = [line.split(maxsplit=1) for line in block.text.replace("\\\n", " ").splitlines()]
    assert {word for word, _ in steps} <= {"FROM", "RUN", "COPY", "EXPOSE", "CMD"}
    configuration = machine.read("/etc/ssh/sshd_borg_config")
    with tempfile.TemporaryDirectory() as directory, Machine(Path(directory)) as image:
        image.write("/tmp/borg_serve_lib-0-py3-none-any.whl", "")
        for word, rest in steps:
            if word == "RUN":
                image.succeed(rest)
            elif word == "CMD":
                image.write("/etc/ssh/sshd_borg_config", configuration)
                image.succeed("ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key")  # a volume
                image.succeed(shlex.join([*json.loads(rest), "-t"]))


def check_rotation(machine: Machine, block: Block) -> None:
    machine.write("/etc/logrotate.d/borg-serve", block.text)
    machine.succeed(f"cp -a {AUDIT_LOG} /tmp/audit.log")
    said = machine.succeed("logrotate --force --state /tmp/logrotate.state /etc/logrotate.d/borg-serve")
    assert said == ""  # it goes on after an error
    machine.succeed(f"test -e {AUDIT_LOG}.1; mv /tmp/audit.log {AUDIT_LOG}")


def compare_record(machine: Machine, block: Block) -> None:
    """A record has the fields that are shown, in that order, with values of the same kind."""
    shown = json.loads(block.text)
    records = map(json.loads, machine.read(AUDIT_LOG).splitlines())
    real = next(record for record in records if record["event"] == shown["event"])
    assert [(name, type(value)) for name, value in shown.items()] == [
        (name, type(value)) for name, value in real.items()
    ]


def check_rules(machine: Machine, block: Block) -> None:
    """Rules of Prometheus speak of metrics that there are."""
    rules = [rule for group in yaml.safe_load(block.text)["groups"] for rule in group["rules"]]
    assert rules
    for rule in rules:
        named = re.findall(r"borg_serve\w+", rule["expr"])
        assert named
        assert set(named) <= {*GAUGES, *(f"{name}_total" for name in COUNTERS)}


def write_file(machine: Machine, block: Block) -> None:
    """What uses it comes in another block."""
    machine.write(f"{ROOT / block.file}", with_key(machine, block.text))


CHECKERS: dict[str, Checker] = {
    "authorized_keys": serve_keys,
    "console": compare_output,
    "dockerfile": check_image,
    "json": compare_record,
    "logrotate": check_rotation,
    "sh": run_commands,
    "ssh_config": check_ssh,
    "sshd_config": check_sshd,
    "systemd": check_unit,
    "toml": write_file,
    "yaml": check_rules,
}
