"""Whom a server runs as that refuses to run as root, and how that user gets at its folders."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mycelium.servers.program import ServerError

CHECK_TIMEOUT_SECONDS = 10.0

# In root's home, say, nobody else gets to the folders; this capability alone is kept then. Without the
# secure bit it would not count in access(2), by which PostgreSQL looks for its own files.
BYPASS_FILE_PERMISSIONS = (
    "--inh-caps", "-all,+dac_override", "--ambient-caps", "+dac_override", "--securebits", "+no_setuid_fixup"
)  # fmt: skip


@dataclass(frozen=True)
class Owner:
    """Who runs the server: we ourselves, but another user for root, as whom it refuses to run."""

    account: pwd.struct_passwd | None
    prefix: tuple[str, ...]

    @classmethod
    def of(cls, data: Path, *, also_reads: Path) -> Owner:
        if os.geteuid() != 0:
            return cls(None, ())
        account = _unprivileged_account()
        prefix = _as_account(account)
        for path in (data, also_reads):
            if _status((*prefix, "test", "-x", str(path))) != 0:
                prefix = _as_account(account, *BYPASS_FILE_PERMISSIONS)
                break
        if _status((*prefix, "test", "-x", str(data))) != 0:
            raise ServerError(f"PostgreSQL can't run as root, and {account.pw_name} can't be given {data}")
        return cls(account, prefix)

    def give(self, *paths: Path) -> None:
        for path in paths:
            if self.account is not None:
                os.chown(path, self.account.pw_uid, self.account.pw_gid)


def _unprivileged_account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServerError("PostgreSQL can't run as root, and there is no user postgres or nobody to run it as")


def _as_account(account: pwd.struct_passwd, *more: str) -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ServerError("PostgreSQL can't run as root, and there is no setpriv to change the user")
    # A change of user makes the kernel forget the signal that was asked for before.
    return (setpriv, "--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--clear-groups",
            "--pdeathsig", "INT", *more, "--")  # fmt: skip


def _status(command: Sequence[str]) -> int:
    return subprocess.run(command, capture_output=True, timeout=CHECK_TIMEOUT_SECONDS, cwd="/").returncode
