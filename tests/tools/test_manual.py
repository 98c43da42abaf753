"""The man page and the completion of shells: whole, and understood by those they are for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from borg_serve_lib.policy.option_table import OPTIONS, Section

MANUAL = [sys.executable, "-m", "borg_serve_cli", "manual"]


def manual(kind: str) -> str:
    done = subprocess.run([*MANUAL, kind], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_the_man_page_has_each_option_of_server_and_tools() -> None:
    page = manual("man").replace("\\-", "-")
    for option in OPTIONS:
        if option.section is not Section.HIDDEN:
            assert f"\n.B {', '.join(option.names)}" in page
    for word in ("--lock-wait SECONDS", "--threshold PERCENT", "--repair", "borg-serve repo compact", "--json"):
        assert word in page


def test_the_man_page_is_what_man_understands() -> None:
    program = shutil.which("groff")
    if program is None:  # then at least no line can be taken for an unknown request
        known = (".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".BR", ".nf", ".fi")
        assert {line.split()[0] for line in manual("man").splitlines() if line.startswith(".")} <= set(known)
        return
    words = [program, "-man", "-ww", "-Tutf8", "-z"]
    done = subprocess.run(words, input=manual("man"), capture_output=True, text=True, check=True)
    assert done.stderr == ""


def completed(*line: str, where: str = "/") -> list[str]:
    """What bash offers for the last word of a line, in the directory `where`."""
    script = f"""
    {manual("bash")}
    COMP_WORDS=({" ".join(f"'{word}'" for word in line)}); COMP_CWORD={len(line) - 1}
    cd '{where}'
    _borg_serve; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-u", "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [each for each in done.stdout.splitlines() if each]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (("borg-serve", "--restrict-to-p"), ["--restrict-to-path"]),
        (("borg-serve", "serve", "--app"), ["--append-only"]),
        (("borg-serve", "explain", "--orig"), ["--original-command"]),
        (("borg-serve", "expl"), ["explain"]),
        (("borg-serve", "repo", "com"), ["compact"]),
        (
            ("borg-serve", "repo", "compact", "--"),
            [
                "--help",
                "--json",
                "--lock-wait",
                "--audit-log",
                "--syslog",
                "--metrics-dir",
                "--threshold",
                "--cleanup-commits",
            ],
        ),
        (("borg-serve", "manual", "fi"), ["fish"]),
        (("borg-serve", "--no-such"), []),
        (("borg-serve", "repo", "info", "/et"), ["/etc"]),
    ],
)
def test_bash_completes(line: tuple[str, ...], offered: list[str]) -> None:
    assert sorted(completed(*line)) == sorted(offered)


def test_bash_completes_names_with_spaces_as_one(tmp_path: Path) -> None:
    (tmp_path / "my laptop").mkdir()
    (tmp_path / "my laptop" / "old one").mkdir()
    assert completed("borg-serve", "repo", "info", "my", where=str(tmp_path)) == ["my laptop"]
    assert completed("borg-serve", "repo", "info", "my laptop/", where=str(tmp_path)) == ["my laptop/old one"]


def test_fish_is_told_of_each_option() -> None:
    told = manual("fish")
    for option in OPTIONS:
        for name in option.names:
            if len(name) > 2 and option.section is not Section.HIDDEN:
                assert f"-l {name[2:]}\n" in told
    assert "complete -c borg-serve -n '__fish_seen_subcommand_from compact' -l threshold\n" in told


def test_zsh_gets_what_bash_gets() -> None:
    assert manual("zsh").partition("\n")[2] == manual("bash")


@pytest.mark.parametrize("words", [[], ["nosuch"], ["man", "bash"]])
def test_anything_else_is_told_the_usage(words: list[str]) -> None:
    done = subprocess.run([*MANUAL, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "usage: borg-serve manual man|bash|zsh|fish\n"
