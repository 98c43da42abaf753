"""Paths: resolution and restriction, with a file system that exists only as a table of symlinks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import NoReturn

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from borg_serve_lib.errors import InvalidArgument, PathNotAllowed, UsageError
from borg_serve_lib.limits import MAX_PATH_SIZE
from borg_serve_lib.policy.options import ServeOptions
from borg_serve_lib.policy.paths import PathPolicy, resolve_path
from borg_serve_lib.policy.ways import Ways

CWD = "/srv/cwd"


def realpath_with(symlinks: Mapping[str, str]) -> Callable[[str], str]:
    """A realpath over absolute symlinks: component by component, as the kernel walks."""

    def realpath(path: str) -> str:
        assert path.startswith("/"), "realpath must be given an absolute path"
        seen: list[str] = []
        for part in path.split("/"):
            if part in ("", "."):
                continue
            if part == "..":
                del seen[-1:]
                continue
            seen.append(part)
            target = symlinks.get("/" + "/".join(seen))
            if target is not None:
                seen = target.strip("/").split("/") if target != "/" else []
        return "/" + "/".join(seen)

    return realpath


PLAIN = realpath_with({})


def expand_user(path: str) -> str | None:
    user, slash, rest = path.partition("/")
    home = {"~": "/home/me", "~root": "/root"}.get(user)
    if user == "~secret":
        return None
    return path if home is None else home + slash + rest


def resolved(raw: bytes, realpath: Callable[[str], str] = PLAIN, base_dir: str = "/base") -> str:
    return resolve_path(raw, base_dir=base_dir, cwd=CWD, expand_user=expand_user, realpath=realpath)


def test_a_path_that_cannot_be_resolved_is_not_allowed() -> None:
    def refuse(path: str) -> NoReturn:
        raise PermissionError(13, "Permission denied", path)

    with pytest.raises(PathNotAllowed) as caught:
        resolved(b"/proc/1/cwd/x", refuse)
    assert "/proc/1/cwd/x" in str(caught.value)


# --- resolution -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/abs/x", "/abs/x"),
        (b"rel/x", "/srv/cwd/rel/x"),
        (b"", "/srv/cwd"),
        (b".", "/srv/cwd"),
        (b"/.", "/"),
        (b"/./", "/srv/cwd"),
        (b"/./rel/x", "/srv/cwd/rel/x"),
        (b"/./../x", "/srv/x"),
        (b"/.//etc", "/etc"),
        (b"/./~/x", "/srv/cwd/~/x"),
        (b"./~/x", "/srv/cwd/~/x"),
        (b"/~/x", "/base/x"),
        (b"~/x", "/base/x"),
        (b"/~/", "/base"),
        (b"~/", "/base"),
        (b"/~/~/x", "/base/~/x"),
        (b"/~/../x", "/x"),
        (b"/~//etc", "/etc"),
        (b"~//etc", "/etc"),
        (b"/~", "/home/me"),
        (b"~", "/home/me"),
        (b"/~root", "/root"),
        (b"/~root/x", "/root/x"),
        (b"/~root//x", "/root/x"),
        (b"~root/x", "/root/x"),
        (b"~nosuch/x", "/srv/cwd/~nosuch/x"),
        (b"/~nosuch/x", "/srv/cwd/~nosuch/x"),
        (b"//~/x", "/~/x"),
        (b"//etc", "/etc"),
        (b"///etc//x///", "/etc/x"),
        (b"a/", "/srv/cwd/a"),
        (b"/x%20y", "/x%20y"),
        (b"/x y", "/x y"),
        ("/straße".encode(), "/straße"),
        (b"/\xff\xfe", "/\udcff\udcfe"),
    ],
)
def test_a_path_is_resolved_as_the_specification_says(raw: bytes, path: str) -> None:
    assert resolved(raw) == path


@pytest.mark.parametrize("raw", [b"~secret", b"/~secret", b"~secret/x", b"/~secret/../x"])
def test_a_home_that_must_not_be_told_is_refused_with_the_clients_own_words(raw: bytes) -> None:
    with pytest.raises(PathNotAllowed) as caught:
        resolved(raw)
    assert caught.value.wire_args == (raw.decode(),)


def test_a_relative_base_directory_starts_at_the_current_one() -> None:
    assert resolved(b"/~/x", base_dir="rel") == "/srv/cwd/rel/x"


def test_a_base_directory_with_a_slash_at_its_end_is_fine() -> None:
    assert resolved(b"/~/x", base_dir="/b/") == "/b/x"
    assert resolved(b"/~/x", base_dir="/") == "/x"


def test_symlinks_are_resolved_before_what_follows_them() -> None:
    realpath = realpath_with({"/srv/cwd/link": "/data/deep"})
    assert resolved(b"link/../x", realpath) == "/data/x"


def test_file_names_may_have_another_encoding() -> None:
    path = resolve_path(b"/\xe9", base_dir="/", cwd="/", expand_user=expand_user, realpath=PLAIN, encoding="iso-8859-1")
    assert path == "/é"


@pytest.mark.parametrize("raw", [b"\0", b"/a\0b", b"~/\0", b"/~root\0"])
def test_a_nul_byte_is_refused_before_anything_is_looked_at(raw: bytes) -> None:
    def forbidden(path: str) -> str:
        raise AssertionError(path)

    with pytest.raises(InvalidArgument, match="NUL"):
        resolve_path(raw, base_dir="/", cwd="/", expand_user=forbidden, realpath=forbidden)


def test_the_longest_path_is_resolved_and_a_longer_one_refused() -> None:
    longest = b"/" + b"x" * (MAX_PATH_SIZE - 1)
    assert resolved(longest) == longest.decode()
    with pytest.raises(InvalidArgument, match="longer than 4096 bytes"):
        resolved(longest + b"x")


PIECES = st.lists(
    st.sampled_from([b"/", b"~", b".", b"..", b"a", b"~root", b"b c", b"\xff", b"/./", b"/~/"]), max_size=8
)
RAW_PATHS = st.binary(max_size=40).filter(lambda raw: b"\0" not in raw) | PIECES.map(b"".join)


@given(RAW_PATHS)
def test_any_path_resolves_to_one_that_a_policy_can_judge(raw: bytes) -> None:
    path = resolved(raw)
    assert PathPolicy(restrict_to_paths=("/",)).allows(path)
    assert PLAIN(path) == path


@given(RAW_PATHS)
def test_bytes_of_an_absolute_path_survive_resolution(raw: bytes) -> None:
    parts = [part for part in raw.split(b"/") if part not in (b"", b".", b"..")]
    path = resolved(b"/r/" + b"/".join(parts))
    assert path.encode("utf-8", "surrogateescape") == b"/".join([b"/r", *parts])


# --- the rules, judged component by component -------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "ab", "a b", "~", "é", "\udcff", "..a", "..."])
CANONICAL = st.lists(NAMES, max_size=4).map(lambda parts: "/" + "/".join(parts))
TREES = st.lists(CANONICAL, max_size=3).map(tuple)


def is_below(path: str, tree: str) -> bool:
    return PurePosixPath(path).parts[: len(PurePosixPath(tree).parts)] == PurePosixPath(tree).parts


@given(TREES, TREES, CANONICAL)
@example(("/a",), (), "/ab")
@example(("/",), (), "/")
@example(("/a",), ("/b",), "/b")
@example((), ("/",), "/")
def test_a_path_is_allowed_exactly_when_both_kinds_of_restriction_hold(
    trees: tuple[str, ...], repositories: tuple[str, ...], path: str
) -> None:
    in_a_tree = not trees or any(is_below(path, tree) for tree in trees)
    is_listed = not repositories or any(PurePosixPath(path) == PurePosixPath(one) for one in repositories)
    policy = PathPolicy(restrict_to_paths=trees, restrict_to_repositories=repositories)
    assert policy.allows(path) is (in_a_tree and is_listed)


@given(TREES, TREES, CANONICAL)
def test_check_raises_exactly_where_allows_says_no(
    trees: tuple[str, ...], repositories: tuple[str, ...], path: str
) -> None:
    policy = PathPolicy(trees, repositories)
    if policy.allows(path):
        policy.check(path, "requested")
    else:
        with pytest.raises(PathNotAllowed) as caught:
            policy.check(path, "requested")
        assert caught.value.wire_args == ("requested",)


@given(TREES.filter(bool), CANONICAL, CANONICAL)
def test_a_further_restriction_of_the_other_kind_never_allows_more(
    trees: tuple[str, ...], repository: str, path: str
) -> None:
    both = PathPolicy(restrict_to_paths=trees, restrict_to_repositories=(repository,))
    assert PathPolicy(restrict_to_paths=trees).allows(path) or not both.allows(path)


def test_without_restrictions_everything_is_allowed() -> None:
    assert PathPolicy().allows("/anything")
    PathPolicy().check("/anything", "anything")
    assert not PathPolicy().restricts


def test_either_restriction_restricts() -> None:
    assert PathPolicy(restrict_to_paths=("/",)).restricts
    assert PathPolicy(restrict_to_repositories=("/a",)).restricts


NOT_RESOLVED = ["", "a", "a/b", ".", "..", "/a/", "//", "//a", "/a//b", "/a/.", "/./a", "/a/..", "/../a", "/a/../b"]


@pytest.mark.parametrize("path", NOT_RESOLVED)
def test_a_path_that_was_not_resolved_is_refused_where_anything_is_restricted(path: str) -> None:
    assert not PathPolicy(restrict_to_paths=("/",)).allows(path)
    assert not PathPolicy(restrict_to_repositories=("/a",)).allows(path)


@pytest.mark.parametrize("path", NOT_RESOLVED)
def test_a_restriction_that_was_not_resolved_cannot_be_made(path: str) -> None:
    for field in ("restrict_to_paths", "restrict_to_repositories"):
        with pytest.raises(UsageError, match="is no resolved absolute path; it cannot be enforced"):
            PathPolicy(**{field: ("/fine", path)})


def test_a_policy_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        PathPolicy().restrict_to_paths = ("/",)  # type: ignore[misc]


# --- the table of the specification, section 5 ------------------------------------------------------------------------

REALPATH = realpath_with({"/B/foo/esc": "/B/real", "/B/lfoo": "/B/foo"})


def policy_for(paths: tuple[str, ...] = (), repositories: tuple[str, ...] = (), cwd: str = "/B") -> PathPolicy:
    options = ServeOptions(restrict_to_paths=paths, restrict_to_repositories=repositories)
    return PathPolicy.from_options(options, cwd=cwd, realpath=REALPATH)


@pytest.mark.parametrize(
    ("paths", "repositories", "requested", "allowed"),
    [
        (("/B/foo",), (), b"/B/foo/new", True),
        (("/B/foo",), (), b"/B/foo", True),
        (("/B/foo",), (), b"/B/foobar", False),
        (("/B/foo",), (), b"/B/foobar/x", False),
        (("/B/foo",), (), b"/B", False),
        (("/B/foo/",), (), b"/B/foo/sub", True),
        (("/B/foo/",), (), b"/B/foobar/x", False),
        (("/B/foo",), (), b"/B/foo/../real/x", False),
        (("/B/foo",), (), b"/B/foo/esc/x", False),
        (("/B/lfoo",), (), b"/B/foo/x", True),
        (("/B/foo",), (), b"/B/lfoo/x", True),
        (("/B/nonexist",), (), b"/B/nonexist", True),
        (("/B/nonexist",), (), b"/B/nonexist/x", True),
        (("/",), (), b"/", True),
        (("/",), (), b"/any/where", True),
        (("",), (), b"/B/x", True),
        (("",), (), b"/Bx", False),
        (("foo",), (), b"/B/foo/x", True),
        (("foo",), (), b"foo/x", True),
        (("foo",), (), b"/foo/x", False),
        (("~",), (), b"/B/~/x", True),
        (("~",), (), b"~/x", False),
        (("/~/foo",), (), b"/~/foo", False),
        (("/B/foo", "/B/real"), (), b"/B/foo/x", True),
        (("/B/foo", "/B/real"), (), b"/B/real/x", True),
        (("/B/foo", "/B/real"), (), b"/B/foo/esc/x", True),
        (("/B/foo", "/B/real"), (), b"/B/other", False),
        ((), ("/B/foo/r",), b"/B/foo/r", True),
        ((), ("/B/foo/r",), b"/B/foo/r/", True),
        ((), ("/B/foo/r/",), b"/B/foo/r", True),
        ((), ("/B/foo/r/",), b"/B/foo/r/", True),
        ((), ("/B/foo",), b"/B/foo/r", False),
        ((), ("/B/foo/r",), b"/B/foo", False),
        ((), ("/B/foo/r", "/B/s"), b"/B/s", True),
        ((), ("rel",), b"rel", True),
        ((), ("",), b"", True),
        (("/B/foo",), ("/B/foo/r",), b"/B/foo/r", True),
        (("/B/foo",), ("/B/foo/r",), b"/B/foo/s", False),
        (("/B/foo",), ("/B/real/r",), b"/B/foo/r", False),
        (("/B/foo",), ("/B/real/r",), b"/B/real/r", False),
    ],
)
def test_the_cases_of_the_specification(
    paths: tuple[str, ...], repositories: tuple[str, ...], requested: bytes, allowed: bool
) -> None:
    path = resolve_path(requested, base_dir="/home", cwd="/B", expand_user=expand_user, realpath=REALPATH)
    assert policy_for(paths, repositories).allows(path) is allowed


def test_a_restriction_with_a_nul_byte_is_refused() -> None:
    with pytest.raises(UsageError, match="contains a NUL byte"):
        policy_for(paths=("/a\0b",))
    with pytest.raises(UsageError, match="contains a NUL byte"):
        policy_for(repositories=("/a\0b",))


LINKS = st.dictionaries(CANONICAL.filter(lambda path: path != "/"), CANONICAL, max_size=3)


@given(LINKS, st.lists(NAMES | st.sampled_from(["..", ".", ""]), max_size=6))
def test_no_request_escapes_its_tree_whatever_links_there_are(links: dict[str, str], parts: list[str]) -> None:
    realpath = realpath_with(links)
    policy = PathPolicy.from_options(ServeOptions(restrict_to_paths=("/a",)), cwd="/", realpath=realpath)
    raw = "/".join(["/a", *parts]).encode("utf-8", "surrogateescape")
    path = resolve_path(raw, base_dir="/a", cwd="/a", expand_user=expand_user, realpath=realpath)
    assert policy.allows(path) is is_below(path, realpath("/a"))


def from_inside(raw: bytes, links: Mapping[str, str]) -> str | None:
    """What a client that is restricted to /a and starts in /cwd gets, None for a refusal."""
    policy, realpath = PathPolicy(("/a",)), realpath_with(links)
    ways = Ways(("/cwd", "/home", "/a"), contains=policy.contains, readlink=links.get)
    try:
        path = resolve_path(
            raw, base_dir="/home", cwd="/cwd", expand_user=expand_user, realpath=realpath, may_look_at=ways.allow
        )
        policy.check(path, "requested")
    except PathNotAllowed:
        return None
    return path


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/a/x/../y", "/a/y"),
        (b"/a/../a/y", "/a/y"),
        (b"../a/y", "/a/y"),
        (b"./.././a/./y/", "/a/y"),
        (b"/~/../a/y", "/a/y"),
        (b"/../a/y", "/a/y"),
        (b"/b/../a/y", None),
        (b"b/../../a/y", None),
        (b"../b/../a/y", None),
        (b"~root/../a/y", None),
        (b"/a/x/../../b/../a/y", None),
        (b"/a/x/../../a/y", "/a/y"),
    ],
)
def test_dots_lead_back_from_where_the_client_may_be_and_from_where_it_starts(raw: bytes, path: str | None) -> None:
    assert from_inside(raw, {}) == path


@given(CANONICAL, CANONICAL, st.lists(NAMES | st.sampled_from(["..", ".", ""]), max_size=8), st.booleans())
@example("/b/x", "/b", ["b", "x", "..", "..", "a"], True)
def test_a_link_outside_that_leads_outside_makes_no_difference_to_any_request(
    link: str, target: str, parts: list[str], absolute: bool
) -> None:
    assume(not is_below(link, "/a") and not is_below("/a", link))
    assume(not is_below(target, "/a") and not is_below("/a", target))
    assume(not is_below("/cwd", link))
    raw = ("/" * absolute + "/".join(parts)).encode("utf-8", "surrogateescape")
    assert from_inside(raw, {link: target}) == from_inside(raw, {})


# --- what is left for the process itself


@given(TREES, TREES, CANONICAL)
def test_whatever_is_allowed_lies_in_the_trees(
    paths: tuple[str, ...], repositories: tuple[str, ...], path: str
) -> None:
    policy = PathPolicy(paths, repositories)
    if policy.allows(path):
        assert any(is_below(path, tree) for tree in policy.trees)


@pytest.mark.parametrize(
    ("paths", "repositories", "trees"),
    [
        ((), (), ("/",)),
        (("/a", "/b"), (), ("/a", "/b")),
        ((), ("/a", "/b"), ("/a", "/b")),
        (("/a",), ("/a/r", "/b/r"), ("/a/r",)),
        (("/a",), ("/b/r",), ()),
    ],
)
def test_the_trees_are_the_narrower_restriction(
    paths: tuple[str, ...], repositories: tuple[str, ...], trees: tuple[str, ...]
) -> None:
    assert PathPolicy(paths, repositories).trees == trees
