from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid

import pytest

from borg_serve_lib.locking.identity import Holder, Identity, default_host_id, parse_lock_name


def test_a_host_id_from_the_environment_is_used_as_it_is() -> None:
    assert default_host_id("backup.example.org") == "backup.example.org"


@pytest.mark.parametrize("unset", [None, ""])
def test_without_one_it_is_the_canonical_host_name_and_the_node_number(unset: str | None) -> None:
    host, _, node = default_host_id(unset).rpartition("@")
    assert int(node) == uuid.getnode()
    found = socket.getaddrinfo(socket.gethostname(), None, 0, socket.SOCK_DGRAM, 0, socket.AI_CANONNAME)
    assert host == next(entry[3] for entry in found if entry[3])


@pytest.mark.parametrize("lacking", [None, object()])
def test_pythons_without_the_system_s_uuids_have_the_same_node_number(
    lacking: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = uuid.getnode()
    monkeypatch.setitem(sys.modules, "_uuid", lacking)
    assert default_host_id(None).endswith(f"@{expected}")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([("", 0), ("box.example.org", 0), ("other", 0)], "box.example.org"),
        ([("", 0)], "box"),
        ([], "box"),
        (socket.gaierror(-2, "unknown"), "box"),
        (UnicodeError("label too long"), "box"),
    ],
)
def test_the_first_canonical_name_counts_and_else_the_plain_one(
    monkeypatch: pytest.MonkeyPatch, answer: object, expected: str
) -> None:
    import _socket

    def getaddrinfo(*arguments: object) -> object:
        assert arguments == (b"box", None, 0, socket.SOCK_DGRAM, 0, socket.AI_CANONNAME)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, list)
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, name, ("127.0.0.1", 0)) for name, _ in answer]

    monkeypatch.setattr(_socket, "gethostname", lambda: "box")
    monkeypatch.setattr(_socket, "getaddrinfo", getaddrinfo)
    assert default_host_id(None) == f"{expected}@{uuid.getnode()}"


def test_a_host_name_beyond_ascii_goes_to_the_resolver_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    import _socket

    asked: list[object] = []

    def getaddrinfo(host: object, *rest: object) -> list[object]:
        asked.append(host)
        return []

    monkeypatch.setattr(_socket, "gethostname", lambda: "bücher")
    monkeypatch.setattr(_socket, "getaddrinfo", getaddrinfo)
    assert default_host_id(None).startswith("bücher@")
    assert asked == ["bücher"]


def test_identity_computes_nothing_before_it_is_asked_and_the_host_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []

    def compute(given: str | None) -> str:
        asked.append(given)
        return "computed@1"

    monkeypatch.setattr("borg_serve_lib.locking.identity.default_host_id", compute)
    pids = iter((7, 8))
    identity = Identity(None, pid=lambda: next(pids))
    assert asked == []
    assert [identity.holder(), identity.holder()] == [Holder("computed@1", 7, 0), Holder("computed@1", 8, 0)]
    assert asked == [None]


def test_identity_is_that_of_this_process_by_default() -> None:
    assert Identity("x").holder() == Holder("x", os.getpid(), 0)


def test_importing_the_manager_loads_nothing_that_only_a_taken_lock_needs() -> None:
    code = (
        "import sys, attrs; before = set(sys.modules); import borg_serve_lib.locking.manager; "
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split()
    assert [name for name in loaded if not name.startswith("borg_serve_lib")] in ([], ["errno"])


@pytest.mark.parametrize(
    ("name", "holder"),
    [
        ("testhost.16841-0", Holder("testhost", 16841, 0)),
        ("vm@3281355014145.7-0", Holder("vm@3281355014145", 7, 0)),
        ("a-b.example.org@12.7-1f", Holder("a-b.example.org@12", 7, 31)),
        ("a.5-0.7-A", Holder("a.5-0", 7, 10)),
    ],
)
def test_a_lock_name_is_split_at_its_last_dash_and_last_dot(name: str, holder: Holder) -> None:
    assert parse_lock_name(name) == holder


@pytest.mark.parametrize(
    "name",
    ["", "garbage", "host-0", "host.7", "host.7-", "host.-0", ".7-0", "host.7-g", "host.x-0", "host.٣-0", "host.7_0-0",
     "host. 7-0", "host.+7-0", "host.7-0x1", "host.7--1"],
)  # fmt: skip
def test_what_is_no_lock_name_is_none(name: str) -> None:
    assert parse_lock_name(name) is None


def test_every_holder_comes_back_from_its_lock_name() -> None:
    for holder in (Holder("h", 1, 0), Holder("h.x-y@9", 4194304, 255)):
        assert parse_lock_name(holder.lock_name) == holder
    assert Holder("testhost", 16841, 31).lock_name == "testhost.16841-1f"
