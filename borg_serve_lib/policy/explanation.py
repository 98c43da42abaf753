"""What a server would allow, and why, in words: for the host, who has to trust a line of authorized_keys."""

from __future__ import annotations

from ..errors import InvalidArgument, PathNotAllowed, UsageError
from ..units import format_size
from ..values import Value
from .access import Verb
from .arguments import CommandLine
from .forced_command import CLIENT_DECIDES, resolve_options, split_client_command
from .options import HelpRequested, ServeOptions, VersionRequested, parse_serve_arguments
from .permissions import ALL, allowed_for_manifest, allowed_verbs, keeps_everything

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .paths import PathPolicy

    _Verdict = tuple[str, str, bool, list[str]]
    """What was asked, in kind and words; whether it would be allowed; what there is to be told of that."""

COMMAND = "explain"
_ORIGINAL_COMMAND = "--original-command"
_PATH = "--path"
_JSON = "--json"


class Question(Value):
    """What is to be explained. `original_command`: of a client, None for none. `paths`: as clients would give them.

    `as_json`: whether the answer is for a program.
    """

    options: ServeOptions
    original_command: str | None
    paths: tuple[str, ...]
    as_json: bool = False


class Explanation(Value):
    """The answer: `text` of several lines, or one JSON object; `allowed`: whether all that was asked for would be."""

    text: str
    allowed: bool


def parse_explain_arguments(argv: Sequence[str]) -> Question | None:
    """Return what `argv` (without the program's name and the word `explain`) asks, None if for help.

    Raises UsageError.
    """
    own: dict[str, list[str]] = {_ORIGINAL_COMMAND: [], _PATH: []}
    rest: list[str] = []
    words = iter(argv)
    as_json = False
    for word in words:
        if word == _JSON:
            as_json = True
            continue
        name, has_value, value = word.partition("=")
        if name not in own:
            rest.append(word)
            continue
        given = value if has_value else next(words, None)
        if given is None:
            raise UsageError(f"option {name} needs a value")
        own[name].append(given)
    meaning = parse_serve_arguments(rest)
    if isinstance(meaning, VersionRequested):
        raise UsageError(f"{COMMAND} has no version of its own; leave the word out")
    if isinstance(meaning, HelpRequested):
        return None
    command = own[_ORIGINAL_COMMAND][-1] if own[_ORIGINAL_COMMAND] else None
    return Question(meaning, command, tuple(own[_PATH]), as_json)


def explain(
    question: Question,
    policy: PathPolicy,
    resolve: Callable[[bytes], str],
    *,
    kept: tuple[str, ...] = (),
    unconfined: str = "",
    unrecorded: Sequence[str] = (),
) -> Explanation:
    """Return what a server with these options would allow.

    `policy`: the restrictions, resolved. `resolve`: what a client's raw path means, see paths.resolve_path. `kept`: the
    directories that the server would be confined to; `unconfined`: why it could not be. `unrecorded`: which records it
    could not keep, a sentence each; clients are served even so.
    """
    options, command = question.options, question.original_command
    rules = [
        *_rules(options, policy),
        *(("", f"not kept: {why}") for why in unrecorded),
        ("confinement", _confinement(options.confine, kept, unconfined)),
    ]
    verdicts = [] if command is None else [("command", command, *_judge_command(options, command))]
    verdicts += [("path", path, *_judge_path(path, policy, resolve)) for path in question.paths]
    starts = not (unconfined and options.confine == "require")
    allowed = starts and all(fine for _, _, fine, _ in verdicts)
    text = _as_json(rules, verdicts, allowed) if question.as_json else _as_text(rules, verdicts)
    return Explanation(text, allowed)


def _as_text(rules: Sequence[tuple[str, str]], verdicts: Sequence[_Verdict]) -> str:
    lines = [f"{name and name + ':':<14}{text}" for name, text in rules]
    for kind, asked, _, told in verdicts:
        lines += ["", f"client's {kind} {asked!r}", *(f"  {line}" for line in told)]
    return "\n".join(lines) + "\n"


def _as_json(rules: Sequence[tuple[str, str]], verdicts: Sequence[_Verdict], allowed: bool) -> str:
    import json

    told_of: dict[str, list[str]] = {}
    last = ""
    for name, text in rules:
        last = name.strip() or last  # a rule without a name goes on with the one before
        told_of.setdefault(last.replace(" ", "_").replace("-", "_"), []).append(text)
    answers = [{"kind": kind, "asked": asked, "allowed": fine, "told": told} for kind, asked, fine, told in verdicts]
    return json.dumps({"allowed": allowed, "rules": told_of, "answers": answers}) + "\n"


def _rules(options: ServeOptions, policy: PathPolicy) -> Iterator[tuple[str, str]]:
    if not policy.restricts:
        yield "repositories", "everywhere the account can reach; restrict that with --restrict-to-path"
    for path in policy.restrict_to_paths:
        yield "repositories", f"at or below {path!r}"
    for path in policy.restrict_to_repositories:
        yield "repositories", ("of these only " if policy.restrict_to_paths else "") + f"at {path!r}"
    verbs = allowed_verbs(options.permissions)
    yield "permissions", options.permissions
    yield "  allowed", ", ".join(verb.value for verb in Verb if verb in verbs)
    yield "  refused", ", ".join(verb.value for verb in Verb if verb not in verbs) or "nothing"
    if options.permissions != ALL and Verb.PUT in verbs:
        yield "  own data", "get, overwrite and delete what the session has put, key-write a first key"
        yield "", f"{' and '.join(verb.value for verb in allowed_for_manifest(options.permissions))} the manifest"
    keeps_all = options.append_only or keeps_everything(options.permissions)
    yield "append-only", "yes" if keeps_all else "as each repository's config says"
    quota = options.storage_quota
    yield "quota", "as each repository's config says" if quota is None else format_size(quota) if quota else "none"
    wait = options.max_lock_wait
    yield "lock wait", "as long as the client asks for" if wait is None else f"{wait} seconds at most"
    limits = (("idle", options.idle_timeout), ("in all", options.session_timeout))
    yield "time", ", ".join(f"{name} {seconds} seconds" for name, seconds in limits if seconds) or "no limit"
    yield "memory", format_size(options.max_memory) if options.max_memory else "no limit"
    yield "log level", f"the client's choice, down to {options.max_log_level.name.lower()}"
    yield "umask", f"{options.umask:03o}"
    records = (("audit log", options.audit_log), ("metrics", options.metrics_dir), ("syslog", options.syslog))
    kept = [name if target is True else f"{name} {target!r}" for name, target in records if target]
    kept += [f"command {command!r}" for command in options.on_event]
    yield "records", ", ".join(kept) or "none"


def _confinement(mode: str, kept: tuple[str, ...], unconfined: str) -> str:
    if mode == "off":
        return mode
    if not unconfined:
        return f"{mode}: to {', '.join(map(repr, kept)) or 'no repository at all'}"
    return f"{mode}: the server {'does not start' if mode == 'require' else 'runs without'}, since {unconfined}"


def _judge_command(options: ServeOptions, command: str) -> tuple[bool, list[str]]:
    try:
        resolved = resolve_options(options, command)
        line = CommandLine(split_client_command(command)[1:], lenient=True)
        given = [setting.option for setting in line]
    except UsageError as error:
        return False, [error.detail]
    ignored = [option.names[0] for option in given if option.field not in CLIENT_DECIDES] + line.left_out
    told = [f"served, with log level {resolved.log_level.name.lower()}"]
    if resolved.debug_topics:
        told.append(f"debug topics: {', '.join(map(repr, resolved.debug_topics))}")
    if ignored:
        told.append(f"without effect, since the host decides: {', '.join(dict.fromkeys(ignored))}")
    return True, told


def _judge_path(path: str, policy: PathPolicy, resolve: Callable[[bytes], str]) -> tuple[bool, list[str]]:
    try:
        resolved = resolve(path.encode("utf-8", "surrogateescape"))
    except PathNotAllowed:
        why = "its way leads through directories outside, or begins with an account that is not known"
        return False, [f"refused: {why}; the client is told its own words only"]
    except InvalidArgument as error:
        return False, [f"refused: {error}"]
    if policy.allows(resolved):
        return True, [f"allowed: it means {resolved!r}"]
    return False, [f"refused: it means {resolved!r}, which is outside; the client is told its own words only"]
