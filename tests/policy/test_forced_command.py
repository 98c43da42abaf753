"""Forced commands: what the client may decide, and what it is refused."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from borg_serve_lib.errors import UsageError
from borg_serve_lib.limits import MAX_ORIGINAL_COMMAND
from borg_serve_lib.policy.forced_command import CLIENT_DECIDES, parse_client_command, resolve_options
from borg_serve_lib.policy.option_table import OPTIONS
from borg_serve_lib.policy.options import ServeOptions
from borg_serve_lib.reporting import Level
from borg_serve_lib.values import declared_fields

FORCED = ServeOptions(
    restrict_to_paths=("/srv/a",),
    restrict_to_repositories=("/srv/a/r",),
    append_only=True,
    storage_quota=10**10,
    umask=0o027,
    log_level=Level.DEBUG,
    debug_topics=("borg.debug.forced",),
    lock_wait=7,
    log_json=True,
    show_rc=True,
    show_version=True,
)

LENIENCE = FORCED.evolve(log_level=Level.WARNING, debug_topics=(), lock_wait=None)
"""What becomes of FORCED when the client sends a plain `borg serve`."""


def refusal(command: str) -> str:
    with pytest.raises(UsageError) as caught:
        resolve_options(FORCED, command)
    return str(caught.value)


def test_without_an_original_command_the_forced_options_hold_as_they_are() -> None:
    assert resolve_options(FORCED, None) is FORCED


@pytest.mark.parametrize(
    ("command", "level", "topics"),
    [
        ("borg serve", Level.WARNING, ()),
        ("borg serve --umask=077", Level.WARNING, ()),
        ("borg serve --umask=022 --info", Level.INFO, ()),
        ("borg serve --umask=077 --debug", Level.DEBUG, ()),
        ("BORG_HOSTNAME_IS_UNIQUE=no borg serve --umask=077", Level.WARNING, ()),
        ("borg serve --umask=077 --info --storage-quota=50000000", Level.INFO, ()),
        ("borg serve --error", Level.ERROR, ()),
        ("borg serve --critical --storage-quota=50000000", Level.CRITICAL, ()),
        ("borg serve --debug --debug-topic=borg.debug.repository", Level.DEBUG, ("borg.debug.repository",)),
        (
            "borg serve --debug-topic=borg.debug.repository --debug-topic=a.repository.b",
            Level.WARNING,
            ("borg.debug.repository", "a.repository.b"),
        ),
        ("/usr/local/bin/borg-1.4 serve --info", Level.INFO, ()),
        ("'/opt/my borg' serve", Level.WARNING, ()),
        ("rm serve", Level.WARNING, ()),
        ("A=1 B=2 borg serve --debug", Level.DEBUG, ()),
        ("A=1; borg serve", Level.WARNING, ()),
        ("A='x y' borg serve", Level.WARNING, ()),
        ("borg --debug serve", Level.DEBUG, ()),
        ("borg --debug serve --info", Level.INFO, ()),
        ("borg -v serve -p", Level.INFO, ()),
        ("borg serve --deb --debug", None, None),
    ],
)
def test_what_clients_send_decides_level_and_topics_and_nothing_else(
    command: str, level: Level | None, topics: tuple[str, ...] | None
) -> None:
    if level is None or topics is None:
        assert "ambiguous" in refusal(command)
    else:
        assert resolve_options(FORCED, command) == LENIENCE.evolve(log_level=level, debug_topics=topics)


def test_the_lock_wait_of_the_client_is_taken_over() -> None:
    assert resolve_options(FORCED, "borg serve --lock-wait=-3") == LENIENCE.evolve(lock_wait=-3)


@pytest.mark.parametrize(
    "option",
    [
        "--restrict-to-path=/",
        "--restrict-to-path /",
        "--restrict-to-repository=/etc",
        "--append-only",
        "--storage-quota=0",
        "--umask=000",
        "--log-json",
        "--show-rc",
        "--show-version",
        "--debug-profile=/etc/passwd",
        "--rsh='sh -c id'",
        "--remote-path=x",
        "--progress",
        "--iec",
    ],
)
@pytest.mark.parametrize("forced", [FORCED, ServeOptions()])
def test_options_of_the_client_outside_the_allowlist_are_discarded(option: str, forced: ServeOptions) -> None:
    assert resolve_options(forced, f"borg serve {option}") == resolve_options(forced, "borg serve")


@pytest.mark.parametrize(
    "command",
    [
        "borg serve --nosuch",
        "borg serve --nosuch --other",
        "borg serve --nosuch=5",
        "borg serve --nosuch 5",
        "borg serve --nosuch -5",
        "borg serve --nosuch serve",
        "borg serve --no-files-cache",
        "borg serve --permissions=all --backend=x",
        "borg serve --permissions all",
        "borg serve -x",
        "borg serve -x5",
        "borg serve -x 5",
        "borg serve -x.5",
        "borg serve -5.x",
        "borg --nosuch serve",
        "borg --nosuch=1 serve",
        "borg --nosuch 1 serve",
        "borg -px serve",
    ],
)
def test_unknown_options_of_the_clients_own_serve_command_are_left_out_with_their_value(command: str) -> None:
    assert resolve_options(FORCED, command) == LENIENCE


def test_options_after_an_unknown_one_count() -> None:
    assert resolve_options(FORCED, "borg serve --nosuch --info").log_level is Level.INFO
    assert resolve_options(FORCED, "borg serve --nosuch 5 --info").log_level is Level.INFO
    assert resolve_options(FORCED, "borg serve -vx").log_level is Level.INFO


@pytest.mark.parametrize(
    "command",
    [
        "", " ", "borg", "internal-sftp", "A=1 B=2", "A=1", "borg --debug", "borg --nosuch", "borg --nosuch 5", "serve",
        "/usr/lib/openssh/sftp-server", "sh -c 'borg serve'", "scp -t /x", "nosuch -x y",
    ],
)  # fmt: skip
def test_commands_without_the_word_serve_are_refused(command: str) -> None:
    assert (
        refusal(command)
        == f"the client's command {command!r} is refused: this server can only be asked for `borg serve`"
    )


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("borg list", "list"),
        ("borg list ssh://h/x", "list"),
        ("borg create ssh://h/x::a y", "create"),
        ("borg serv", "serv"),
        ("env A=1 borg serve", "A=1"),
        ("nice borg serve", "borg"),
        ("rsync --server -vlogDtprze.iLsfxC . /srv", "."),
        ("ls -la /x", "/x"),
        ("cat /etc/passwd", "/etc/passwd"),
        ("borg -- serve", "--"),
    ],
)
def test_other_commands_are_refused(command: str, word: str) -> None:
    sentence = (
        f"the client's command {command!r} is refused: {word!r} is no command of this server: it knows serve alone"
    )
    assert refusal(command) == sentence


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("borg serve extra", "extra"),
        ("borg serve # x", "#"),
        ("borg serve --info ; rm -rf x", ";"),
        ("borg serve && id", "&&"),
        ("borg serve | sh", "|"),
        ("borg serve ''", ""),
        ("borg serve --", "--"),
        ("borg serve serve", "serve"),
        ("borg serve --nosuch 5 6", "6"),
        ("borg serve --nosuch=5 6", "6"),
        ("borg serve -x5 6", "6"),
        ("borg serve -5", "-5"),
        ("borg serve -.5", "-.5"),
        ("borg serve -2.5", "-2.5"),
        ("borg serve\nrm x", "rm"),
    ],
)
def test_words_beyond_serve_and_its_options_are_refused(command: str, word: str) -> None:
    sentence = f"{word!r} is one word too many: after serve come options only"
    assert refusal(command) == f"the client's command {command!r} is refused: {sentence}"


NO_BYPASS = (
    "option --bypass-lock is refused: a server never works on a repository without its lock; leave the option out"
)
NO_SIZE = "option --storage-quota: 'bad' is no size; write bytes, or a number with K, M, G, T or P, such as 500G"


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        ("borg serve; rm x", "'serve;' is no command of this server: it knows serve alone"),
        ("borg serve --info; rm x", "option '--info;' is unknown"),
        ("borg serve --nosuch;id", "option '--nosuch;id' is unknown"),
        ("borg serve --$(id)", "option '--$(id)' is unknown"),
        ("borg serve -v\\;", "option '-;' is unknown"),
        ("borg serve --bypass-lock", NO_BYPASS),
        ("borg serve --storage-quota=bad", NO_SIZE),
        ("borg serve --lock-wait=abc", "option --lock-wait: 'abc' is no whole number"),
        ("borg serve --umask=9", "option --umask: '9' is no octal number; write permission bits such as 077 or 022"),
        ("borg serve --info=1", "option --info takes no value; leave out '=1'"),
        ("borg serve --help", "help and version are for the server's own command line"),
        ("borg serve -h", "help and version are for the server's own command line"),
        ("borg --version", "help and version are for the server's own command line"),
        ("borg -V", "help and version are for the server's own command line"),
        ('borg serve "', "the command cannot be read: a quote in it is not closed"),
        ("borg serve \\", "the command cannot be read: a backslash ends it"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_its_cause(command: str, cause: str) -> None:
    assert refusal(command) == f"the client's command {command!r} is refused: {cause}"


def test_a_nul_byte_anywhere_is_refused() -> None:
    for command in ("bo\0rg serve", "A=\0 borg serve", "borg serve --rsh=\0"):
        assert refusal(command) == "the client's command contains a NUL byte"


def test_undecodable_bytes_are_read_and_shown_escaped() -> None:
    assert resolve_options(FORCED, "/\udcff/borg serve --rsh=\udcfe") == LENIENCE
    assert "'borg \\udcff'" in refusal("borg \udcff")


def test_a_command_of_the_longest_length_is_read_and_a_longer_one_refused() -> None:
    command = "borg serve --rsh="
    command += "x" * (MAX_ORIGINAL_COMMAND - len(command))
    assert resolve_options(FORCED, command) == LENIENCE
    assert refusal(command + "x") == f"the client's command is longer than {MAX_ORIGINAL_COMMAND} characters"


def outcome(attempt: Callable[[], ServeOptions]) -> ServeOptions | UsageError:
    try:
        return attempt()
    except UsageError as error:
        return error


WORDS = (
    st.text(st.characters(), max_size=8)
    | st.sampled_from([name for row in OPTIONS for name in row.names])
    | st.sampled_from(
        ["--restrict-to-path=/", "--umask=0", "--storage-quota=0", "--debug-topic=x", "serve", "5", "--info"]
    )
)
FORCED_OPTIONS = st.builds(
    ServeOptions,
    restrict_to_paths=st.lists(st.text(max_size=5)).map(tuple),
    append_only=st.booleans(),
    storage_quota=st.none() | st.integers(0),
    umask=st.integers(0, 0o777),
    log_level=st.sampled_from(Level),
    log_json=st.booleans(),
    show_rc=st.booleans(),
    show_version=st.booleans(),
)


@given(FORCED_OPTIONS, st.lists(WORDS, max_size=6).map(lambda words: shlex.join(["borg", "serve", *words])))
def test_whatever_a_client_sends_the_host_keeps_what_it_decides(forced: ServeOptions, command: str) -> None:
    resolved = outcome(lambda: resolve_options(forced, command))
    if isinstance(resolved, UsageError):
        assert str(resolved).isprintable()
        return
    kept = [name for name in declared_fields(ServeOptions) if name not in CLIENT_DECIDES]
    assert [getattr(resolved, name) for name in kept] == [getattr(forced, name) for name in kept]


@given(
    st.text(st.characters() | st.sampled_from("'\"\\ =-;#"), max_size=30)
    | st.text(st.sampled_from("borg serve-x='\"\\"))
)
def test_any_text_is_a_serve_command_or_refused_in_one_printable_line(command: str) -> None:
    result = outcome(lambda: parse_client_command(command))
    if isinstance(result, UsageError):
        assert str(result).isprintable()
        assert len(str(result)) < 500
    else:
        assert "serve" in shlex.split(command)[1:]


# --- limits of the host


@pytest.mark.parametrize(
    ("limit", "asked", "got"),
    [
        (Level.DEBUG, "--debug", Level.DEBUG),
        (Level.INFO, "--debug", Level.INFO),
        (Level.WARNING, "--info", Level.WARNING),
        (Level.WARNING, "", Level.WARNING),
        (Level.ERROR, "", Level.ERROR),
        (Level.INFO, "--critical", Level.CRITICAL),
    ],
)
def test_the_host_limits_what_is_logged_for_clients(limit: Level, asked: str, got: Level) -> None:
    assert resolve_options(ServeOptions(max_log_level=limit), f"borg serve {asked}").log_level is got


def test_debug_topics_are_given_where_debugging_is() -> None:
    command = "borg serve --debug-topic=x"
    assert resolve_options(ServeOptions(), command).debug_topics == ("borg.debug.x",)
    assert resolve_options(ServeOptions(max_log_level=Level.INFO), command).debug_topics == ()


def test_a_client_does_not_decide_about_limits_rights_and_confinement() -> None:
    forced = ServeOptions(max_lock_wait=5, max_log_level=Level.ERROR, permissions="read-only", confine="require")
    asked = "borg serve --max-lock-wait=500 --max-log-level=debug --permissions=all --confine=off --debug"
    resolved = resolve_options(forced, asked)
    assert resolved == forced.evolve(log_level=Level.ERROR)
