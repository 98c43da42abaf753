"""What a host is told about its own command line."""

from __future__ import annotations

import json

import pytest

from borg_serve_lib.errors import InvalidArgument, PathNotAllowed, UsageError
from borg_serve_lib.policy.access import Verb
from borg_serve_lib.policy.explanation import Explanation, Question, explain, parse_explain_arguments
from borg_serve_lib.policy.options import ServeOptions
from borg_serve_lib.policy.paths import PathPolicy


def resolve(raw: bytes) -> str:
    if raw.startswith(b"~"):
        raise PathNotAllowed(raw.decode())
    if b"\0" in raw:
        raise InvalidArgument("a repository path cannot contain a NUL byte")
    path = raw.decode("utf-8", "surrogateescape")
    return path if path.startswith("/") else f"/cwd/{path}"


def answer(*argv: str) -> Explanation:
    question = parse_explain_arguments(argv)
    assert question is not None
    options = question.options
    return explain(question, PathPolicy(options.restrict_to_paths, options.restrict_to_repositories), resolve)


# --- the question


def test_a_question_is_the_servers_options_and_what_a_client_would_ask() -> None:
    question = parse_explain_arguments(
        ["--path", "/a", "--append-only", "--original-command=borg serve --debug", "--path=/b=c", "--umask=022"]
    )
    assert question == Question(ServeOptions(append_only=True, umask=0o022), "borg serve --debug", ("/a", "/b=c"))


def test_a_question_may_ask_for_nothing_in_particular() -> None:
    assert parse_explain_arguments([]) == Question(ServeOptions(), None, ())
    assert parse_explain_arguments(["--json", "--path", "--json"]) == Question(ServeOptions(), None, ("--json",), True)


def test_an_empty_command_is_a_command() -> None:
    question = parse_explain_arguments(["--original-command", ""])
    assert question is not None
    assert question.original_command == ""


def test_of_several_commands_the_last_counts() -> None:
    question = parse_explain_arguments(["--original-command", "a", "--original-command", "b"])
    assert question is not None
    assert question.original_command == "b"


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--path"], "option --path needs a value"),
        (["--original-command"], "option --original-command needs a value"),
        (["--nosuch"], "option '--nosuch' is unknown"),
        (["/a"], "no command of this server"),
        (["--version"], "no version of its own"),
    ],
)
def test_a_question_that_cannot_be_read_is_refused(argv: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_explain_arguments(argv)


def test_help_may_be_asked_for() -> None:
    assert parse_explain_arguments(["--help"]) is None


# --- the answer: the rules


def rules(*argv: str) -> dict[str, str]:
    return {name.strip(): text for name, _, text in (line.partition(": ") for line in answer(*argv).text.splitlines())}


def test_the_defaults_are_told() -> None:
    told = {name: text.strip() for name, text in rules().items()}
    assert told == {
        "repositories": "everywhere the account can reach; restrict that with --restrict-to-path",
        "permissions": "all",
        "allowed": ", ".join(verb.value for verb in Verb),
        "refused": "nothing",
        "append-only": "as each repository's config says",
        "quota": "as each repository's config says",
        "lock wait": "as long as the client asks for",
        "time": "no limit",
        "memory": "240.00 MB",
        "log level": "the client's choice, down to debug",
        "umask": "077",
        "records": "none",
        "confinement": "auto: to no repository at all",
    }
    assert answer().allowed


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--restrict-to-path=/a b"], "repositories: at or below '/a b'"),
        (["--restrict-to-repository=/r"], "repositories: at '/r'"),
        (["--restrict-to-path=/a", "--restrict-to-repository=/a/r"], "repositories: of these only at '/a/r'"),
        (["--permissions=read-only"], "  allowed:    list, get, key-read, check"),
        (["--permissions=no-delete"], "append-only:  yes"),
        (["--permissions=read-only"], "append-only:  as each repository's config says"),
        (["--append-only"], "append-only:  yes"),
        (["--storage-quota=1.5T"], "quota:        1.50 TB"),
        (["--storage-quota=0"], "quota:        none"),
        (["--max-lock-wait=60"], "lock wait:    60 seconds at most"),
        (["--max-memory=1.5G"], "memory:       1.50 GB"),
        (["--max-memory=0"], "memory:       no limit"),
        (["--max-log-level=info"], "log level:    the client's choice, down to info"),
        (["--idle-timeout=60"], "time:         idle 60 seconds"),
        (["--idle-timeout=60", "--session-timeout=7200"], "time:         idle 60 seconds, in all 7200 seconds"),
        (["--umask=7"], "umask:        007"),
        (["--confine=off", "--restrict-to-path=/a"], "confinement:  off"),
        (
            ["--permissions=write-only"],
            "  own data:   get, overwrite and delete what the session has put, key-write a first key",
        ),
        (["--permissions=write-only"], "              get and overwrite the manifest"),
        (["--permissions=no-delete"], "              overwrite the manifest"),
    ],
)
def test_each_rule_is_told(argv: list[str], line: str) -> None:
    assert line in answer(*argv).text.splitlines()


@pytest.mark.parametrize("mode", ["all", "read-only"])
def test_of_own_data_nothing_is_told_where_they_make_no_difference(mode: str) -> None:
    assert "own data" not in rules("--permissions", mode)


@pytest.mark.parametrize(
    ("mode", "kept", "unconfined", "told", "allowed"),
    [
        ("auto", ("/a", "/b"), "", "auto: to '/a', '/b'", True),
        ("require", (), "", "require: to no repository at all", True),
        ("auto", (), "there is no Landlock", "auto: the server runs without, since there is no Landlock", True),
        ("require", (), "/a does not exist", "require: the server does not start, since /a does not exist", False),
    ],
)
def test_what_becomes_of_confinement_is_told(
    mode: str, kept: tuple[str, ...], unconfined: str, told: str, allowed: bool
) -> None:
    question = Question(ServeOptions(confine=mode), None, ())
    explanation = explain(question, PathPolicy(), resolve, kept=kept, unconfined=unconfined)
    assert f"confinement:  {told}" in explanation.text.splitlines()
    assert explanation.allowed is allowed


# --- the answer: a client's command


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("borg serve", ["served, with log level warning"]),
        ("borg serve --info --lock-wait=3", ["served, with log level info"]),
        (
            "borg serve --umask=077 --debug-topic=x --debug-topic y.z --umask=0",
            [
                "served, with log level warning",
                "debug topics: 'borg.debug.x', 'y.z'",
                "without effect, since the host decides: --umask",
            ],
        ),
        (
            "A=1 borg serve --append-only --from-the-future=1",
            [
                "served, with log level warning",
                "without effect, since the host decides: --append-only, --from-the-future",
            ],
        ),
    ],
)
def test_a_command_that_is_served_is_told_with_what_becomes_of_its_options(command: str, told: list[str]) -> None:
    explanation = answer("--original-command", command)
    assert explanation.text.split(f"client's command {command!r}\n")[1].splitlines() == [f"  {line}" for line in told]
    assert explanation.allowed


@pytest.mark.parametrize("command", ["", "scp -f /x", "borg serve extra", "borg 'serve", "borg serve --umask=9"])
def test_a_command_that_is_refused_is_told_with_the_reason(command: str) -> None:
    explanation = answer("--original-command", command)
    assert f"the client's command {command!r} is refused: " in explanation.text
    assert not explanation.allowed


def test_the_limit_of_the_log_level_holds_in_the_answer() -> None:
    told = answer("--max-log-level=info", "--original-command", "borg serve --debug --debug-topic=x").text
    assert "served, with log level info\n" in told
    assert "debug topics" not in told


# --- the answer: a client's paths


@pytest.mark.parametrize(
    ("path", "verdict", "allowed"),
    [
        ("/a/r", "allowed: it means '/a/r'", True),
        ("r", "refused: it means '/cwd/r', which is outside; the client is told its own words only", False),
        (
            "~nobody/r",
            "refused: its way leads through directories outside, or begins with an account that is not known",
            False,
        ),
        ("a\0b", "refused: a repository path cannot contain a NUL byte", False),
        ("/a/\udcff", "allowed: it means", True),
    ],
)
def test_a_path_is_judged(path: str, verdict: str, allowed: bool) -> None:
    explanation = explain(Question(ServeOptions(), None, (path,)), PathPolicy(("/a",)), resolve)
    assert verdict in explanation.text
    assert explanation.allowed is allowed


def test_one_refusal_among_several_counts() -> None:
    assert not answer("--restrict-to-path=/a", "--path=/b", "--path=/a", "--original-command=borg serve").allowed
    assert answer("--restrict-to-path=/a", "--path=/a/x", "--path=/a", "--original-command=borg serve").allowed


def test_the_answer_can_be_for_a_program() -> None:
    question = Question(ServeOptions(permissions="no-delete"), "borg serve --progress", ("/a/repo", "/b"), as_json=True)
    explanation = explain(question, PathPolicy(("/a",)), lambda raw: raw.decode(), kept=("/a",))
    told = json.loads(explanation.text)
    assert told["allowed"] is explanation.allowed is False
    assert told["rules"]["repositories"] == ["at or below '/a'"]
    assert len(told["rules"]["own_data"]) == 2
    assert told["rules"]["confinement"] == ["auto: to '/a'"]
    assert [(answer["kind"], answer["asked"], answer["allowed"]) for answer in told["answers"]] == [
        ("command", "borg serve --progress", True),
        ("path", "/a/repo", True),
        ("path", "/b", False),
    ]
    assert told["answers"][1]["told"] == ["allowed: it means '/a/repo'"]


def test_the_records_are_named() -> None:
    options = ServeOptions(audit_log="/var/log/a", syslog=True, on_event=("notify",))
    assert "records:      audit log '/var/log/a', syslog, command 'notify'\n" in text_of(options)
    assert "records:      none\n" in text_of(ServeOptions())


def text_of(options: ServeOptions) -> str:
    return explain(Question(options, None, ()), PathPolicy(), lambda raw: raw.decode()).text
