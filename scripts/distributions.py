"""Makes wheel, source distribution and zipapp in dist/, and tries each in a fresh environment.

    python scripts/distributions.py [PYTHON...]

Each PYTHON (by default all of python3.10 to python3.13 that are there) gets a virtual environment with nothing but the
wheel; the zipapp is for the Python that this runs with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
PYTHONS = [f"python3.{minor}" for minor in (10, 11, 12, 13)]

_TRIAL = """
from borg_serve_lib import MemoryLockManager, MemoryProvider, OpenRequest, open_repository
storages, locks = MemoryProvider(), MemoryLockManager()
repository = open_repository("/r", OpenRequest(create=True, exclusive=True), storages=storages, locks=locks)
repository.put(bytes(32), b"an object")
repository.commit()
assert repository.get(bytes(32)) == b"an object"
"""


def run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """Run a command with nothing on stdin; return what it says. Raises CalledProcessError."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | (environment or {}),
    )
    return done.stdout


def can_make_environments(python: str) -> bool:
    """Return whether there is such a Python, with all that a virtual environment needs."""
    command = [python, "-c", "import venv, ensurepip"]
    with suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


def main(pythons: list[str]) -> None:
    """Make and try everything."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--quiet", "--outdir", DIST, ROOT)
    made = sorted(DIST.iterdir())
    print(run(sys.executable, "-m", "twine", "check", "--strict", *made), end="")
    (wheel,) = DIST.glob("*.whl")
    zipapp = make_zipapp(wheel)
    with tempfile.TemporaryDirectory() as place:
        for python in pythons:
            try_wheel(python, wheel, Path(place))
        try_zipapp(zipapp, Path(place))


def make_zipapp(wheel: Path) -> Path:
    """Make `borg-serve.pyz`: the wheel and all it needs, for this Python on this kind of machine."""
    zipapp = DIST / "borg-serve.pyz"
    shebang = f"/usr/bin/env -S python3.{sys.version_info.minor} -I"
    options = ["--reproducible", "--compile-pyc", "-c", "borg-serve", "-p", shebang, "-o", zipapp]
    run(sys.executable, "-m", "shiv", *options, "--quiet", wheel)
    return zipapp


def try_wheel(python: str, wheel: Path, place: Path) -> None:
    """Install `wheel` alone, and use it."""
    environment = place / Path(python).name
    run(python, "-m", "venv", environment)
    run(environment / "bin" / "pip", "install", "--quiet", "--no-input", wheel)
    run(environment / "bin" / "python", "-I", "-c", _TRIAL)
    version = try_command([environment / "bin" / "borg-serve"], place)
    try_command([environment / "bin" / "python", "-I", "-m", "borg_serve_lib"], place)
    print(f"{python}: {version} from {wheel.name}")


def try_zipapp(zipapp: Path, place: Path) -> None:
    """Use it as an account would that has nothing else."""
    version = try_command([zipapp], place, {"SHIV_ROOT": str(place / "unpacked")})
    print(f"{version} from {zipapp.name}")


def try_command(command: list[str | Path], place: Path, environment: dict[str, str] | None = None) -> str:
    """Ask a server for its version, and serve a client that says nothing; return the version."""
    version = run(*command, "--version", environment=environment).strip()
    if not version.startswith("borg-serve "):
        raise SystemExit(f"{command} says {version!r}")
    run(*command, "--restrict-to-path", place, environment=environment)
    run(*command, "explain", "--restrict-to-path", place, "--path", place / "laptop", environment=environment)
    return version


if __name__ == "__main__":
    main(sys.argv[1:] or [python for python in PYTHONS if can_make_environments(python)])
