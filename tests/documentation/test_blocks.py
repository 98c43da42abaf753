"""Each block of the pages is run, or looked at by the program that it is for, on a machine made for that."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import load_script

from .blocks import PAGES, blocks_of, without_fences
from .checkers import CHECKERS, KEYS
from .machine import Machine

QUICK_START = "docs/index.md"
ELSEWHERE = {
    "python": "test_documentation.py and test_readme.py run it",
    "text": "test_documentation.py compares the picture of the house with the modules",
}
WALKED = [page for page in PAGES if any(block.kind not in ELSEWHERE for block in blocks_of(page))]

BEFORE = {
    # A record of damage.
    "docs/events.md": """
        cp -a /srv/backups/alice/laptop /srv/backups/alice/old
        segment=$(ls -S /srv/backups/alice/old/data/0/* | head -n 1)
        printf x | dd of="$segment" bs=1 seek=100 conv=notrunc status=none
        borg-serve repo check --audit-log /var/log/borg-serve/audit.log /srv/backups/alice/old || [ $? = 1 ]
    """,
    # Somebody who is waited for.
    "docs/locks.md": """
        borg with-lock ssh://borg@backup.example.org/srv/backups/alice/laptop sleep 1000 >/dev/null 2>&1 &
        echo $! >/tmp/holder
        until [ -e /srv/backups/alice/laptop/lock.exclusive ]; do sleep 0.05; done
    """,
    # What `make dist` would make, and the account has in the image.
    "docs/deployment.md": """
        mkdir -p dist
        cp "$(readlink -f /opt/borg-serve/bin/borg-serve)" dist/borg-serve.pyz
        cp /var/lib/borg/.ssh/authorized_keys /etc/ssh/borg_keys
    """,
    "README.md": "rm -r /opt/borg-serve; python3 -m venv /opt/borg-serve",
}
AFTER = {
    "examples/README.md": 'kill "$(cat /tmp/host)"',
    "docs/events.md": """
        borg check --repository-only ssh://borg@backup.example.org/srv/backups/alice/old >/dev/null 2>&1 || [ $? = 1 ]
        until grep check-failed /tmp/mail 2>/dev/null; do sleep 0.05; done
    """,
    "docs/locks.md": """
        kill "$(cat /tmp/holder)"
        while [ -e /srv/backups/alice/laptop/lock.exclusive ]; do sleep 0.05; done
    """,
    "docs/deployment.md": "borg list ssh://borg@backup.example.org:2222/srv/backups/alice/laptop",
}


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_checker(page: str) -> None:
    assert [str(block) for block in blocks_of(page) if block.kind not in CHECKERS.keys() | ELSEWHERE] == []


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_without_fences(page: str) -> None:
    """One that is only indented has no kind: four columns, or eight in a list."""
    indented = 4
    found = []
    for paragraph in re.split(r"\n\n+", without_fences(page)):
        if not paragraph.startswith(" "):
            indented = 8 if re.match(r"[-*] |\d+\. ", paragraph) else 4
        elif paragraph.startswith(" " * indented):
            found.append(paragraph)
    assert found == []


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.kind == "text" for b in blocks_of(page))])
def test_plain_text_is_the_picture_of_the_house(page: str) -> None:
    assert page == "docs/architecture.md"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, clients: dict[str, Path]) -> Iterator[Machine]:
    """A machine on which somebody has walked through the quick start."""
    load_script("borg_clients").ensure_test_packages()
    with Machine(tmp_path_factory.mktemp("machine")) as made:
        walk(made, QUICK_START)
        made.succeed(f"cp {KEYS} /tmp/keys")
        yield made


def walk(machine: Machine, page: str) -> None:
    for block in blocks_of(page):
        if block.kind not in ELSEWHERE:
            try:
                CHECKERS[block.kind](machine, block)
            except AssertionError as error:
                raise AssertionError(f"{block}: {error}") from error


@pytest.mark.skipif(os.geteuid() != 0, reason="making a machine, its accounts and file systems, takes root")
@pytest.mark.parametrize("page", [page for page in WALKED if page != QUICK_START])
def test_what_a_page_shows_is_what_happens(page: str, machine: Machine) -> None:
    machine.succeed(f"cp /tmp/keys {KEYS}\n{BEFORE.get(page, '')}")
    walk(machine, page)
    machine.succeed(AFTER.get(page, ""))
