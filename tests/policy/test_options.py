"""The command line: examples from the specification, and a model built on the standard library's parser."""

from __future__ import annotations

import argparse
from contextlib import suppress
from functools import cache
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_serve_lib.errors import UsageError
from borg_serve_lib.policy.option_table import OPTIONS, Origin, Section
from borg_serve_lib.policy.options import (
    CommandLineMeaning,
    HelpRequested,
    ServeOptions,
    VersionRequested,
    parse_serve_arguments,
    render_help,
)
from borg_serve_lib.reporting import Level

NO_EFFECT = [
    "--progress", "-p", "--iec", "--consider-part-files", "--remote-path=/usr/bin/borg", "--rsh=ssh -p 22",
    "--remote-ratelimit=100", "--upload-ratelimit=100", "--upload-buffer=10", "--remote-buffer=10",
    "--debug-profile=/tmp/x",
]  # fmt: skip


def options(*argv: str) -> ServeOptions:
    meaning = parse_serve_arguments(argv)
    assert isinstance(meaning, ServeOptions)
    return meaning


def refusal(*argv: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_serve_arguments(argv)
    return str(caught.value)


def test_without_options_the_defaults_are_those_of_borg() -> None:
    assert options() == ServeOptions(
        restrict_to_paths=(),
        restrict_to_repositories=(),
        append_only=False,
        storage_quota=None,
        umask=0o077,
        log_level=Level.WARNING,
        debug_topics=(),
        lock_wait=None,
        log_json=False,
        show_rc=False,
        show_version=False,
    )


def test_the_word_serve_may_be_there_or_not_and_options_on_both_sides_of_it() -> None:
    expected = ServeOptions(append_only=True, log_level=Level.DEBUG)
    assert options("--debug", "--append-only") == expected
    assert options("serve", "--debug", "--append-only") == expected
    assert options("--debug", "serve", "--append-only") == expected
    assert options("--debug", "--append-only", "serve") == expected


@pytest.mark.parametrize(
    ("argv", "changed"),
    [
        (["--restrict-to-path", "/a", "--restrict-to-path=/b"], {"restrict_to_paths": ("/a", "/b")}),
        (["--restrict-to-path=/a,/b"], {"restrict_to_paths": ("/a,/b",)}),
        (["--restrict-to-path", ""], {"restrict_to_paths": ("",)}),
        (["--restrict-to-path="], {"restrict_to_paths": ("",)}),
        (["--restrict-to-path=--x=y"], {"restrict_to_paths": ("--x=y",)}),
        (["--restrict-to-path", "serve"], {"restrict_to_paths": ("serve",)}),
        (["--restrict-to-path", "-"], {"restrict_to_paths": ("-",)}),
        (["--restrict-to-path", "/\udcff"], {"restrict_to_paths": ("/\udcff",)}),
        (["--restrict-to-repository", "/r", "--restrict-to-r=s"], {"restrict_to_repositories": ("/r", "s")}),
        (["--append-only"], {"append_only": True}),
        (["--storage-quota=5G", "--storage-quota", "6G"], {"storage_quota": 6 * 10**9}),
        (["--storage-quota=0"], {"storage_quota": 0}),
        (["--max-memory=1G"], {"max_memory": 10**9}),
        (["--max-memory=0"], {"max_memory": 0}),
        (["--umask", "022"], {"umask": 0o022}),
        (["--umask", "-1"], {"umask": 0o777}),
        (["--um=0o27"], {"umask": 0o27}),
        (["--critical"], {"log_level": Level.CRITICAL}),
        (["--error"], {"log_level": Level.ERROR}),
        (["--debug", "--warning"], {"log_level": Level.WARNING}),
        (["--info"], {"log_level": Level.INFO}),
        (["--verbose"], {"log_level": Level.INFO}),
        (["-v"], {"log_level": Level.INFO}),
        (["-vp"], {"log_level": Level.INFO}),
        (["-ppv"], {"log_level": Level.INFO}),
        (["--debug"], {"log_level": Level.DEBUG}),
        (["--debug", "serve", "--info"], {"log_level": Level.INFO}),
        (
            ["--debug-topic=repository", "serve", "--debug-topic", "a.b"],
            {"debug_topics": ("borg.debug.repository", "a.b")},
        ),
        (["--lock-wait", "-5"], {"lock_wait": -5}),
        (["--lock-wait=600"], {"lock_wait": 600}),
        (["--log-json"], {"log_json": True}),
        (["--show-rc"], {"show_rc": True}),
        (["--show-version"], {"show_version": True}),
        (NO_EFFECT, {}),
    ],
)
def test_options_set_their_fields(argv: list[str], changed: dict[str, Any]) -> None:
    assert options(*argv) == ServeOptions().evolve(**changed)


@pytest.mark.parametrize(
    "argv", [["--help"], ["-h"], ["serve", "-h"], ["--debug", "-vh"], ["--help", "--nosuch"], ["--h"]]
)
def test_help_can_be_asked_for(argv: list[str]) -> None:
    assert parse_serve_arguments(argv) == HelpRequested()


@pytest.mark.parametrize("argv", [["--version"], ["-V"], ["serve", "--version"], ["-pV"], ["--vers", "--nosuch"]])
def test_the_version_can_be_asked_for(argv: list[str]) -> None:
    assert parse_serve_arguments(argv) == VersionRequested()


NO_SIZE = "option --storage-quota: '50m' is no size; write bytes, or a number with K, M, G, T or P, such as 500G"
NO_BYPASS = (
    "option --bypass-lock is refused: a server never works on a repository without its lock; leave the option out"
)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--nosuch"], "option '--nosuch' is unknown; see --help"),
        (["--nosuch=5"], "option '--nosuch' is unknown; see --help"),
        (["-x"], "option '-x' is unknown; see --help"),
        (["-vx"], "option '-x' is unknown; see --help"),
        (["-v=1"], "option '-=' is unknown; see --help"),
        (["--no\nsuch\udcff"], "option '--no\\nsuch\\udcff' is unknown; see --help"),
        (["list"], "'list' is no command of this server: it knows serve alone"),
        (["serv"], "'serv' is no command of this server: it knows serve alone"),
        (["serve", "extra"], "'extra' is one word too many: after serve come options only"),
        (["serve", "serve"], "'serve' is one word too many: after serve come options only"),
        (["serve", ""], "'' is one word too many: after serve come options only"),
        (["serve", "-"], "'-' is one word too many: after serve come options only"),
        (["serve", "--"], "'--' is one word too many: after serve come options only"),
        (["serve", "-5"], "'-5' is one word too many: after serve come options only"),
        (["serve", "-.5"], "'-.5' is one word too many: after serve come options only"),
        (["--append-only=yes"], "option --append-only takes no value; leave out '=yes'"),
        (["--info="], "option --info takes no value; leave out '='"),
        (["--help=x"], "option --help takes no value; leave out '=x'"),
        (["--umask"], "option --umask needs a value; one that begins with a dash goes like this: --umask=VALUE"),
        (["--rsh", "-v"], "option --rsh needs a value; one that begins with a dash goes like this: --rsh=VALUE"),
        (["--rsh", "--"], "option --rsh needs a value; one that begins with a dash goes like this: --rsh=VALUE"),
        (["--umask=8"], "option --umask: '8' is no octal number; write permission bits such as 077 or 022"),
        (["--lock-wait=abc"], "option --lock-wait: 'abc' is no whole number"),
        (["--upload-buffer=x"], "option --upload-buffer: 'x' is no whole number"),
        (["--st", "50m"], NO_SIZE),
        (["--bypass-lock"], NO_BYPASS),
        (["--restrict-to-path", "/a\0b"], "the command line contains a NUL byte"),
        (["serve\0"], "the command line contains a NUL byte"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_one_line(argv: list[str], sentence: str) -> None:
    assert refusal(*argv) == sentence


@given(
    st.lists(st.text(st.characters(), max_size=12) | st.sampled_from([name for row in OPTIONS for name in row.names]))
)
def test_any_words_give_a_value_or_one_printable_line(argv: list[str]) -> None:
    try:
        meaning = parse_serve_arguments(argv)
    except UsageError as error:
        sentence = str(error)
        assert sentence.isprintable()
        assert len(sentence) < 400
    else:
        assert isinstance(meaning, CommandLineMeaning)


# --- the model: how borg's own parser is laid out, common options at the top and again below `serve` ------------------

LEVELS = {"--critical": 50, "--error": 40, "--warning": 30, "--debug": 10}


class Refused(Exception):
    """The model refuses a command line."""


class Model(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Refused(message)


def add_common(parser: Model, where: str) -> None:
    for name, number in LEVELS.items():
        parser.add_argument(name, dest=f"level_{where}", action="store_const", const=number)
    parser.add_argument("--info", "-v", "--verbose", dest=f"level_{where}", action="store_const", const=20)
    parser.add_argument("--debug-topic", dest=f"topics_{where}", action="append", default=[])
    parser.add_argument("--umask", dest=f"umask_{where}", type=lambda text: int(text, 8))
    parser.add_argument("--lock-wait", dest=f"lock_wait_{where}", type=int)
    for name in ("--show-rc", "--show-version", "--log-json", "--iec", "--consider-part-files"):
        parser.add_argument(name, dest=f"{name[2:].replace('-', '_')}_{where}", action="store_true")
    parser.add_argument("-p", "--progress", dest=f"progress_{where}", action="store_true")
    for name in ("--remote-path", "--rsh", "--debug-profile"):
        parser.add_argument(name, dest=f"ignored_{where}")
    for name in ("--remote-ratelimit", "--upload-ratelimit", "--upload-buffer", "--remote-buffer"):
        parser.add_argument(name, dest=f"ignored_{where}", type=int)
    parser.add_argument("--bypass-lock", dest=f"bypass_{where}", action="store_true")


def size(text: str) -> int:
    factor = 1000 ** ("KMGTP".index(text[-1]) + 1) if text and text[-1] in "KMGTP" else 1
    number = int(float(text.rstrip("KMGTP") if factor > 1 else text) * factor)
    if 0 != number < 10_000_000:
        raise ValueError(text)
    return number


@cache
def model() -> Model:
    top = Model()
    top.add_argument("-V", "--version", action="version", version="1")
    add_common(top, "top")
    serve = top.add_subparsers(parser_class=Model, required=True).add_parser("serve")
    add_common(serve, "sub")
    serve.add_argument("--restrict-to-path", dest="paths", action="append", default=[])
    serve.add_argument("--restrict-to-repository", dest="repositories", action="append", default=[])
    serve.add_argument("--append-only", action="store_true")
    serve.add_argument("--storage-quota", dest="quota", type=size)
    return top


def modelled(argv: list[str]) -> ServeOptions:
    seen = vars(model().parse_args(argv))

    def later(name: str, default: Any) -> Any:
        return next(
            (seen[f"{name}_{where}"] for where in ("sub", "top") if seen[f"{name}_{where}"] is not None), default
        )

    def either(name: str) -> bool:
        return bool(seen[f"{name}_top"] or seen[f"{name}_sub"])

    if either("bypass"):
        raise Refused("--bypass-lock")
    topics = [*seen["topics_top"], *seen["topics_sub"]]
    return ServeOptions(
        restrict_to_paths=tuple(seen["paths"]),
        restrict_to_repositories=tuple(seen["repositories"]),
        append_only=seen["append_only"],
        storage_quota=seen["quota"],
        umask=later("umask", 0o077) & 0o777,
        log_level=Level(later("level", 30)),
        debug_topics=tuple(topic if "." in topic else "borg.debug." + topic for topic in topics),
        lock_wait=later("lock_wait", None),
        log_json=either("log_json"),
        show_rc=either("show_rc"),
        show_version=either("show_version"),
    )


COMMON_NAMES = [
    name
    for row in OPTIONS
    if row.origin is Origin.COMMON
    for name in row.names
    if name not in ("--help", "-h", "--version", "-V")
]
OUR_NAMES = [name for row in OPTIONS if row.origin is Origin.OURS for name in row.names]
SERVE_NAMES = [name for row in OPTIONS if row.origin is Origin.SERVE for name in row.names]
VALUES = st.sampled_from(
    ["", "/a", "/b c", "022", "77", "8", "-1", "-7", "600", "5G", "50m", "0", "repository", "a.b", "-", "x=y"]
)


def given_option(names: list[str]) -> st.SearchStrategy[list[str]]:
    @st.composite
    def build(draw: st.DrawFn) -> list[str]:
        name = draw(st.sampled_from(names))
        if draw(st.booleans()) and name.startswith("--"):
            name = name[: draw(st.integers(3, len(name)))]
        form = draw(st.sampled_from(["alone", "joined", "two words"]))
        if form == "alone":
            return [name]
        return [f"{name}={draw(VALUES)}"] if form == "joined" else [name, draw(VALUES)]

    return build()


WELL_FORMED = {
    "--restrict-to-path": "/a", "--restrict-to-repository": "/r", "--storage-quota": "5G", "--umask": "022",
    "--lock-wait": "-3", "--debug-topic": "repository", "--rsh": "ssh", "--remote-path": "borg", "--debug-profile": "f",
    "--remote-ratelimit": "1", "--upload-ratelimit": "1", "--upload-buffer": "1", "--remote-buffer": "1",
}  # fmt: skip


def good_option(names: list[str]) -> st.SearchStrategy[list[str]]:
    def build(name: str, joined: bool) -> list[str]:
        if name not in WELL_FORMED:
            return [name]
        return [f"{name}={WELL_FORMED[name]}"] if joined else [name, WELL_FORMED[name]]

    usable = [name for name in names if name != "--bypass-lock"]
    return st.builds(build, st.sampled_from(usable), st.booleans())


def command_lines(
    common: st.SearchStrategy[list[str]], own: st.SearchStrategy[list[str]]
) -> st.SearchStrategy[list[str]]:
    def build(before: list[list[str]], after: list[list[str]]) -> list[str]:
        return [*(word for words in before for word in words), "serve", *(word for words in after for word in words)]

    return st.builds(build, st.lists(common, max_size=3), st.lists(common | own, max_size=6))


ANY_LINE = command_lines(
    given_option(COMMON_NAMES) | st.sampled_from([["-vp"], ["-pv"]]),
    given_option(SERVE_NAMES) | st.sampled_from([["extra"], ["-x"], ["--nosuch"], ["-vx"], ["--"], ["-"], ["-2"]]),
)


@settings(max_examples=200)
@given(command_lines(good_option(COMMON_NAMES), good_option(SERVE_NAMES)))
def test_a_good_command_line_means_what_borgs_parser_makes_of_it(argv: list[str]) -> None:
    assert parse_serve_arguments(argv) == modelled(argv)


@settings(max_examples=400)
@given(ANY_LINE)
def test_any_command_line_means_what_borgs_parser_makes_of_it_or_both_refuse(argv: list[str]) -> None:
    expected: ServeOptions | None = None
    for line in (["serve", *argv], argv):  # the word may be left out: then an option may take the one that is there
        with suppress(Refused):
            expected = modelled(line)
    try:
        meaning: object = parse_serve_arguments(argv)
    except UsageError:
        meaning = None
    assert meaning == expected


# --- help -------------------------------------------------------------------------------------------------------------


def test_the_help_lists_each_option_with_its_names_and_value() -> None:
    text = render_help()
    for option in OPTIONS:
        head = "/".join(sorted(option.names, key=lambda name: name.startswith("--")))
        shown = f"{head} {option.metavar}".strip()
        assert (shown in text) is (option.section is not Section.HIDDEN)


def test_the_help_describes_every_option_that_has_an_effect() -> None:
    words = " ".join(render_help().split())
    described = [option for option in OPTIONS if option.section not in (Section.NO_EFFECT, Section.HIDDEN)]
    assert all(option.description and option.description in words for option in described)


def test_the_help_says_which_options_have_no_effect() -> None:
    paragraph = render_help().split("Accepted without effect")[1].split("\n\n")[0]
    assert "-p/--progress" in paragraph
    assert "--lock-wait SECONDS" in paragraph
    assert "--append-only" not in paragraph


def test_the_help_fits_eighty_columns_and_ends_each_line() -> None:
    text = render_help()
    assert max(map(len, text.splitlines())) < 80
    assert text.endswith("\n")
    assert not any(line != line.rstrip() for line in text.splitlines())
    assert "\0" not in text


@pytest.mark.parametrize(
    ("argv", "recorded"),
    [
        ([], False),
        (["--client-name", "alice"], False),
        (["--audit-log", "/var/log/audit"], True),
        (["--syslog"], True),
        (["--metrics-dir=/m"], True),
        (["--on-event", "a", "--on-event", "b"], True),
    ],
)
def test_records_are_kept_where_one_is_asked_for(argv: list[str], recorded: bool) -> None:
    options = parse_serve_arguments(argv)
    assert isinstance(options, ServeOptions)
    assert options.records is recorded
