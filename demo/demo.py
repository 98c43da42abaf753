#!/usr/bin/env python3
"""A backup and a restore through the server, as on a real host: sshd, a key with a forced command, a stock client.

Shows each step in plain words, with what the client said and what the server left on disk. Ends with exit code 1 at
the first thing that is not as it should be.
"""

from __future__ import annotations

import filecmp
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from left_processes import adopt_orphans, children, command_line, running
from loopback_sshd import LoopbackSshd

BORG = "/usr/bin/borg"
TIME_LIMIT = 120


class Unexpected(Exception):
    """Something did not go as it should; the text says what."""


class Demo:
    """The host and its client, in a directory that is gone afterwards."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.not_ours = children()
        self.allowed = root / "backups" / "alice"
        self.repository = self.allowed / "laptop"
        self.photos = root / "photos"
        self.step = 0
        for directory in (self.allowed, root / "ssh", root / "home", self.photos, root / "restored"):
            directory.mkdir(parents=True)
        server = f"{shlex.quote(sys.executable)} -m borg_serve_lib --restrict-to-path {shlex.quote(str(self.allowed))}"
        self.sshd = LoopbackSshd(root / "ssh", server)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root / "home"),
            "LANG": "C.UTF-8",
            "BORG_RSH": self.sshd.rsh,
            "BORG_PASSPHRASE": "a passphrase that the server never sees",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }

    def run(self) -> None:
        """Go through the main job."""
        url = self.sshd.url(self.repository)
        print("A backup host on this machine: sshd, and one key whose line in authorized_keys is\n")
        print("    " + self.sshd.authorized_keys.read_text().strip()[:160] + "…\n")
        with self.sshd:
            self.fill(20)
            self.tell("The client makes an encrypted repository.")
            self.borg("init", "--encryption", "repokey", url)
            self.tell("It backs up a folder of 20 files.")
            self.borg("create", "--stats", f"{url}::monday", ".", cwd=self.photos)
            self.tell("Some files change; it backs up again, and only what is new travels.")
            self.fill(23)
            self.borg("create", "--stats", f"{url}::tuesday", ".", cwd=self.photos)
            self.tell("It lists its archives.")
            listed = self.borg("list", "--short", url)
            self.expect(listed.split() == ["monday", "tuesday"], "both archives are listed")
            self.tell("It restores the second backup, and we compare every byte with the folder.")
            self.borg("extract", f"{url}::tuesday", cwd=self.root / "restored")
            self.expect_same(self.photos, self.root / "restored")
            self.tell("With the same key it tries a path outside of what the key is confined to.")
            outside = self.root / "backups" / "bob"
            said = self.borg("init", "--encryption", "none", self.sshd.url(outside), code=2)
            self.expect(
                "Repository path not allowed" in said and not outside.exists(), "refused, and nothing was touched"
            )
            self.tell("With the same key it tries a command of its own.")
            host = f"{self.sshd.user}@127.0.0.1"
            self.command([*shlex.split(self.sshd.rsh), "-p", str(self.sshd.port), host, "cat /etc/passwd"], code=2)
        self.tell("Native borg, without our server, checks the repository on the host's disk.")
        said = self.borg("check", "--verbose", str(self.repository))
        self.expect(said.count("no problems found") == 2, "native borg finds nothing wrong")
        self.expect_nothing_left()
        print("\nAll as it should be.")

    def fill(self, count: int) -> None:
        """Put `count` files into the folder; the later ones, and the first, change with `count`."""
        for number in range(count):
            seed = f"{number} {count if number in (0, count - 1) else ''}".encode()
            (self.photos / f"photo-{number:02}.raw").write_bytes(seed * (number * 3000))

    def borg(self, *words: str, code: int = 0, cwd: Path | None = None) -> str:
        """Run the client; show and return what it says."""
        return self.command([BORG, *words], code=code, cwd=cwd)

    def command(self, words: list[str], *, code: int, cwd: Path | None = None) -> str:
        before = self.segments()
        done = subprocess.run(
            words,
            env=self.environment,
            cwd=cwd or self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
        shown = " ".join(word for word in words if not word.startswith("-o")).replace(str(self.root), "")
        print(f"    $ {shown}")
        said = done.stdout + done.stderr
        for line in said.strip().splitlines()[:14]:
            print(f"      {line.replace(str(self.root), '')}")
        if done.returncode != code:
            raise Unexpected(f"exit code {done.returncode} instead of {code}\n{said}\n{self.sshd.log.read_text()}")
        self.show_what_the_server_did(before)
        return said

    def segments(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self.repository.glob("data/*/*")}

    def show_what_the_server_did(self, before: dict[str, int]) -> None:
        after = self.segments()
        new = [number for number in after if number not in before]
        if not new:
            print("    -> the server wrote nothing to the repository")
            return
        size = sum(after[number] for number in new)
        tid = max(map(int, after))
        print(f"    -> the server wrote {len(new)} segments, {size:,} bytes: transaction {tid} is committed")

    def tell(self, text: str) -> None:
        self.step += 1
        print(f"\n{self.step}. {text}")

    def expect(self, truth: bool, text: str) -> None:
        if not truth:
            raise Unexpected(f"this does not hold: {text}")
        print(f"    ok: {text}")

    def expect_nothing_left(self) -> None:
        """Look for what the server, or anything that it has begun, may have left."""
        processes = [command_line(child) for child in running(self.not_ours)]
        locks = [path.name for path in (self.root / "backups").rglob("lock*")]
        for what, left in (("process", processes), ("lock and no lease file", locks)):
            self.expect(not left, f"no {what} is left behind" + "".join(f", but {one}" for one in sorted(left)))

    def expect_same(self, one: Path, other: Path) -> None:
        names = sorted(path.name for path in one.iterdir())
        self.expect(names == sorted(path.name for path in other.iterdir()), f"{len(names)} files came back")
        same, _, _ = filecmp.cmpfiles(one, other, names, shallow=False)
        self.expect(len(same) == len(names), "every file is the same, byte by byte")


def main() -> int:
    """Run the demo; return the exit code."""
    adopt_orphans()  # or nobody could tell what a server has left
    with tempfile.TemporaryDirectory(prefix="borg-serve-demo-") as directory:
        try:
            Demo(Path(directory)).run()
        except (Unexpected, RuntimeError, subprocess.SubprocessError) as error:
            print(f"\nNOT as it should be: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
