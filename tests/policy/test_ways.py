"""What of a disk is looked at for a client's path: on a disk that exists only as a table of symlinks, and tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from borg_serve_lib.errors import PathNotAllowed
from borg_serve_lib.limits import MAX_PATH_SIZE, MAX_SYMLINKS
from borg_serve_lib.policy.options import ServeOptions
from borg_serve_lib.policy.paths import PathPolicy, resolve_path
from borg_serve_lib.policy.ways import Ways

HOME, CWD = "/home/me", "/work"


class Disk:
    """Symlinks and what they say. `looked_at`: each path that was, in order, and those on the way to it."""

    def __init__(self, links: Mapping[str, str]) -> None:
        self._links = links
        self.looked_at: list[str] = []

    def readlink(self, path: str) -> str | None:
        self.looked_at.append(path)
        return self._links.get(path)

    def realpath(self, path: str) -> str:
        *_, at = self._walk(path, "/")
        return at

    def _walk(self, path: str, at: str, depth: int = 0) -> Iterator[str]:
        """Yield the directory reached after each name, beginning at `at`."""
        at = "/" if path.startswith("/") else at
        for part in path.split("/"):
            if part == "..":
                at = at.rpartition("/")[0] or "/"
            elif part not in ("", "."):
                at = f"{at.rstrip('/')}/{part}"
                self.looked_at.append(at)
                if at in self._links:
                    if depth > 20:
                        raise OSError("a loop")
                    *_, at = self._walk(self._links[at], at.rpartition("/")[0] or "/", depth + 1)
            yield at


class Client:
    """A client whose host restricts it to `written`. `looked_at`: for its path, and not for the host's."""

    def __init__(self, written: str, links: Mapping[str, str]) -> None:
        self.disk = Disk(links)
        options = ServeOptions(restrict_to_paths=(written,))
        self.policy = PathPolicy.from_options(options, cwd=CWD, realpath=self.disk.realpath)
        starts = (CWD, HOME, *self.policy.names)
        self._ways = Ways(starts, contains=self.policy.contains, readlink=self.disk.readlink)
        self.disk.looked_at.clear()

    def gets(self, raw: str) -> str | None:
        """Return the path that the client gets for `raw`, None for a refusal."""
        try:
            path = resolve_path(
                raw.encode(),
                base_dir=HOME,
                cwd=CWD,
                expand_user=lambda path: path,
                realpath=self.disk.realpath,
                may_look_at=self._ways.allow,
            )
            self.policy.check(path, raw)
        except PathNotAllowed:
            return None
        return path


TREE = "/srv/backups/alice"


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/srv/backups/alice", "/srv/backups/alice"),
        ("/srv/backups/alice/laptop", "/srv/backups/alice/laptop"),
        ("/mnt/disk/alice/laptop", "/srv/backups/alice/laptop"),  # as the host wrote it
        ("/srv/beside/laptop", "/srv/backups/alice/laptop"),  # a symlink in a directory above the tree
        ("/~/mine/laptop", "/srv/backups/alice/laptop"),  # one in the home
        ("mine", "/srv/backups/alice"),  # one in the current directory
        ("/srv/backups/alice/more/x", "/srv/backups/alice/new/x"),  # one within the tree
        ("/srv/backups/alice/back/alice/x", "/srv/backups/alice/x"),  # one out of the tree, and in again
        ("/srv/backups/alice/twice/x", "/srv/backups/alice/new/x"),  # one to another
        ("../srv/backups/alice", "/srv/backups/alice"),
        ("/other/link/laptop", None),  # one anywhere else: borg would go there
        ("/srv/backups/alice/loop", None),
        ("/srv/backups/bob", None),
        ("/srv/backups/bob/link", None),
        ("/net/host/share", None),
    ],
)
def test_a_tree_is_found_on_the_ways_that_the_host_has_named(raw: str, path: str | None) -> None:
    links = {
        "/mnt/disk": "/srv/backups",
        "/srv/beside": "backups/alice",
        "/home/me/mine": "/srv/backups/alice",
        "/work/mine": "../srv/backups/alice",
        "/srv/backups/alice/more": "new",
        "/srv/backups/alice/back": "..",
        "/srv/backups/alice/twice": "/srv/backups/alice/more",
        "/srv/backups/alice/loop": "loop",
        "/srv/backups/bob/link": "/srv/backups/alice",
        "/other/link": "/srv/backups/alice",
    }
    assert Client("/mnt/disk/alice", links).gets(raw) == path


@pytest.mark.parametrize(
    ("raw", "looked_at"),
    [
        ("/net/evilhost/share", {"/net"}),
        ("/srv/backups/bob/laptop", {"/srv", "/srv/backups", "/srv/backups/bob"}),
        ("/srv/backups/alice/out/x", {"/srv", "/srv/backups", TREE, f"{TREE}/out", "/net"}),
        ("/srv/backups/alice/../bob/x", {"/srv", "/srv/backups", TREE, "/srv/backups/bob"}),
        ("/~/documents/x", {"/home", "/home/me", "/home/me/documents"}),
        ("/net/../srv/backups/alice", {"/net"}),
        ("~nosuch/x", {"/work", "/work/~nosuch"}),
    ],
)
def test_what_is_outside_is_refused_without_being_touched(raw: str, looked_at: set[str]) -> None:
    client = Client(TREE, {f"{TREE}/out": "/net/evilhost"})
    assert client.gets(raw) is None
    assert set(client.disk.looked_at) == looked_at


@pytest.mark.parametrize("raw", [f"{TREE}/" + "x/../" * 800, f"{TREE}/" + "./x/" * 800, "x/" * 2000, "../" * 1300])
def test_each_name_of_a_path_is_looked_at_once_and_once_more_when_it_may_be(raw: str) -> None:
    client = Client(TREE, {})
    assert len(raw) < MAX_PATH_SIZE
    client.gets(raw)
    assert len(client.disk.looked_at) < 2 * (raw.count("/") + 10)


@pytest.mark.parametrize("count", [MAX_SYMLINKS, MAX_SYMLINKS + 1])
def test_as_many_symlinks_are_followed_as_the_system_follows(count: int) -> None:
    chain = {f"{TREE}/{number}": f"{number + 1}" for number in range(count)}
    ways = Ways((TREE,), contains=lambda path: path.startswith(TREE), readlink=chain.get)
    assert ways.allow("/", f"{TREE}/0") is (count <= MAX_SYMLINKS)


def test_a_way_of_the_host_that_never_ends_leads_nowhere() -> None:
    ways = Ways(("/a/loop",), contains=lambda _: False, readlink={"/a/loop": "loop"}.get)
    assert ways.allow("/a/loop", "x") is False
    assert ways.allow("/", "/a/loop") is False
    assert ways.allow("/", "/a/x") is True


# --- beside an oracle

NAMES = st.sampled_from(["a", "b", "c"])
ABSOLUTE = st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts))
RELATIVE = st.lists(NAMES | st.just(".."), min_size=1, max_size=3).map("/".join)
LINKS = st.dictionaries(ABSOLUTE, ABSOLUTE | RELATIVE, max_size=4)
REQUESTS = st.lists(NAMES | st.sampled_from(["..", ".", "", "~"]), max_size=6).map("/".join)


def expected(written: str, links: Mapping[str, str], raw: str) -> str | None:
    """What the client gets, from the rules one by one. Raises OSError where the host's own way has no end."""
    disk = Disk(links)
    tree = disk.realpath(written)

    def is_inside(path: str) -> bool:
        return f"{path}/".startswith(f"{tree.rstrip('/')}/")

    def looked_into(path: str) -> set[str]:
        seen = Disk(links)
        seen.realpath(path)
        return {at.rpartition("/")[0] or "/" for at in seen.looked_at}

    known = {disk.realpath(path) for path in (written, tree, CWD, HOME)}
    known = known.union(*(looked_into(path) for path in (written, tree, CWD, HOME)))
    base, path = (HOME, raw.partition("~/")[2]) if raw.startswith(("/~/", "~/")) else (CWD, raw)
    if raw.startswith("/./"):
        path = raw[len("/./") :]
    full = path if path.startswith("/") else f"{base}/{path}"
    try:
        if not all(directory in known or is_inside(directory) for directory in looked_into(full)):
            return None
        parts = path.split("/")
        for index, part in enumerate(parts):
            before = "/".join(parts[:index])
            named = 0
            for name in parts[:index]:
                named += {"": 0, ".": 0, "..": -bool(named)}.get(name, 1)
            left = disk.realpath(before if path.startswith("/") else f"{base}/{before}")
            if part == ".." and named and not is_inside(left):
                return None
        resolved = disk.realpath(full)
    except OSError:
        return None
    return resolved if is_inside(resolved) else None


@given(ABSOLUTE, LINKS, REQUESTS)
@example("/a", {"/b": "/a"}, "/b/c")
@example("/a", {"/b/c": "/a"}, "/b/c")
@example("/b/c", {"/b": "/c", "/c/c": "/a/a"}, "/b/c/../../b")
@example("/a/b", {"/a/b/c": "../.."}, "/a/b/c/b/a")
def test_a_client_gets_what_the_rules_say_and_nothing_else_is_looked_at(
    written: str, links: dict[str, str], raw: str
) -> None:
    try:
        client = Client(written, links)
        wanted = expected(written, links, raw)
    except OSError:
        return
    if raw.startswith(("~", "/~")) and not raw.startswith(("~/", "/~/")):
        return  # somebody's home, which is none of this
    assert client.gets(raw) == wanted


@given(ABSOLUTE, LINKS, REQUESTS)
def test_whatever_is_looked_at_lies_in_a_tree_or_where_the_host_has_led(
    written: str, links: dict[str, str], raw: str
) -> None:
    try:
        client = Client(written, links)
        before = Disk(links)
        for path in (written, *client.policy.names, CWD, HOME):
            before.realpath(path)
            before.looked_at.append(f"{before.realpath(path)}/.")
        client.gets(raw)
    except OSError:
        return
    known = {path.rpartition("/")[0] or "/" for path in before.looked_at}
    for path in client.disk.looked_at:
        directory = path.rpartition("/")[0] or "/"
        assert directory in known or client.policy.contains(directory)
