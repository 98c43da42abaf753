#!/usr/bin/env python3
"""Install what the live tests and the demo need: real borg clients and the programs to build them.

Usage: scripts/borg_clients.py [VERSION ...]      (no version: all of them)

Prints one line `VERSION PATH` per client. 1.2.4 is Debian 12's own package; the others are built from their source
packages, each into a virtual environment below `.cache/clients` (or $BORG_CLIENTS_CACHE), once. Debian packages that
are missing are installed with apt-get, for which this must run as root; without a version also those that tests need
beside the clients. Standard library only.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

PACKAGED = {"1.2.4": Path("/usr/bin/borg")}

# pip's arguments per version. 1.1.18 has no pyproject.toml and its setup.py wants a setuptools of its time;
# newer interpreters than 3.11 cannot compile the C files in its source package.
BUILT: dict[str, list[list[str]]] = {
    "1.1.18": [
        ["setuptools<70", "setuptools_scm<8", "wheel"],
        ["--no-build-isolation", "--use-pep517", "--no-binary=borgbackup", "borgbackup==1.1.18"],
    ],
    "1.4.5": [["--no-binary=borgbackup", "borgbackup==1.4.5"]],
}
NEWEST_PYTHON = {"1.1.18": (3, 11), "1.4.5": (3, 14)}
OLDEST_PYTHON = {"1.1.18": (3, 8), "1.4.5": (3, 9)}
CLIENTS = ("1.1.18", "1.2.4", "1.4.5")

RUN_PACKAGES = ("borgbackup", "openssh-client", "openssh-server", "python3-venv")
TEST_PACKAGES = (
    "fuse3",
    "jq",
    "logrotate",
    "python3-pyfuse3",
    "systemd",
)  # mount, documentation
BUILD_PACKAGES = (
    "build-essential",
    "libacl1-dev",
    "liblz4-dev",
    "libssl-dev",
    "libxxhash-dev",
    "libzstd-dev",
    "pkg-config",
    "python3-dev",
)


class SetupError(Exception):
    """The set-up cannot be done; the text says what to do."""


def ensure_clients(versions: Sequence[str] = CLIENTS) -> dict[str, Path]:
    """Return the path of each wanted client, installed or built if need be. Raises SetupError."""
    unknown = [version for version in versions if version not in CLIENTS]
    if unknown:
        raise SetupError(f"no client {', '.join(unknown)}; there are {', '.join(CLIENTS)}")
    built = [version for version in versions if version in BUILT]
    with _one_at_a_time():
        _ensure_packages(RUN_PACKAGES)
        if any(not _is_built(version) for version in built):
            _ensure_packages(BUILD_PACKAGES)
        with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(_ensure_built, built))
    paths = {version: PACKAGED.get(version) or _home(version) / "bin" / "borg" for version in versions}
    for version, path in paths.items():
        _require_version(path, version)
    return paths


def cache_root() -> Path:
    """Return the directory that keeps the built clients between runs."""
    configured = os.environ.get("BORG_CLIENTS_CACHE")
    return Path(configured) if configured else Path(__file__).resolve().parent.parent / ".cache" / "clients"


def ensure_test_packages() -> None:
    """Install the Debian packages that tests need beside the clients. Raises SetupError."""
    with _one_at_a_time():
        _ensure_packages(TEST_PACKAGES)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _ensure_packages(names: Sequence[str]) -> None:
    if shutil.which("dpkg-query") is None:
        return  # not Debian: whoever runs this has brought the programs; what is missing shows by itself
    missing = [name for name in names if not _is_installed(name)]
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise SetupError(f"Debian packages are missing; install them as root: {' '.join(command)}")
    say(f"installing Debian packages: {' '.join(missing)}")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update"], command):
        done = subprocess.run(step, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SetupError(f"{' '.join(step)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def _is_installed(package: str) -> bool:
    asked = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == "installed"


def _home(version: str) -> Path:
    return cache_root() / version


def _recipe(version: str) -> str:
    # A virtual environment cannot be moved: its place is a part of what was made.
    return f"{_home(version)}\n{BUILT[version]}\n"


def _is_built(version: str) -> bool:
    try:
        complete = (_home(version) / "complete").read_text() == _recipe(version)
    except FileNotFoundError:
        return False
    # The interpreter that it was made with may be gone by now.
    return complete and (_home(version) / "bin" / "python").exists()


def _ensure_built(version: str) -> None:
    if _is_built(version):
        return
    home = _home(version)
    shutil.rmtree(home, ignore_errors=True)
    python = _find_python(version)
    say(f"building borg {version} with {python} (a minute or two)")
    _run([python, "-m", "venv", str(home)])
    for arguments in BUILT[version]:
        _run([str(home / "bin" / "python"), "-m", "pip", "install", "--no-input", "--quiet", *arguments])
    _require_version(home / "bin" / "borg", version)
    (home / "complete").write_text(_recipe(version))
    say(f"borg {version} is built")


def _find_python(version: str) -> str:
    oldest, newest = OLDEST_PYTHON[version], NEWEST_PYTHON[version]
    names = [f"python3.{minor}" for minor in range(newest[1], oldest[1] - 1, -1)]
    candidates = [os.environ.get("BORG_CLIENTS_PYTHON"), "/usr/bin/python3", sys.executable, *names]
    for candidate in candidates:
        path = shutil.which(candidate) if candidate else None
        found = _python_facts(path) if path else None
        if path and found and oldest <= found <= newest:
            return path
    raise SetupError(
        f"borg {version} needs a Python from {oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]} "
        "with venv and C headers; name one in BORG_CLIENTS_PYTHON"
    )


def _python_facts(path: str) -> tuple[int, int] | None:
    """Return the version of an interpreter that can build extension modules, else None."""
    question = (
        "import ensurepip, os, sys, sysconfig;"
        "assert os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h'));"
        "print(*sys.version_info[:2])"
    )
    done = subprocess.run([path, "-c", question], capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    major, minor = done.stdout.split()
    return int(major), int(minor)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}{done.stderr[-8000:]}")


def _require_version(path: Path, version: str) -> None:
    try:
        done = subprocess.run([str(path), "--version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise SetupError(f"borg {version} cannot be run as {path}: {error}") from error
    if done.stdout.split()[-1:] != [version]:
        raise SetupError(f"{path} should be borg {version} but says: {done.stdout}{done.stderr}")


def say(text: str) -> None:
    """Tell the human at the terminal; stdout is for the result."""
    print(f"borg_clients: {text}", file=sys.stderr, flush=True)


def main(versions: Sequence[str]) -> int:
    """Print the path of each wanted client; return the exit code."""
    if any(version.startswith("-") for version in versions):
        print(__doc__)
        return 0 if versions[0] in ("-h", "--help") else 2
    try:
        if not versions:
            ensure_test_packages()
        for version, path in ensure_clients(versions or CLIENTS).items():
            print(version, path)
    except SetupError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
