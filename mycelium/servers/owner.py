"""The account that runs PostgreSQL, because PostgreSQL refuses to run as root."""

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

# Only root can enter some folders, such as root's home. The account then keeps this one capability. The
# secure bit makes access(2) honour the capability, and PostgreSQL checks its files with access(2).
BYPASS_FILE_PERMISSIONS = (
    "--inh-caps", "-all,+dac_override", "--ambient-caps", "+dac_override", "--securebits", "+no_setuid_fixup"
)  # fmt: skip


@dataclass(frozen=True)
class Owner:
    """The account that runs the server, with the command prefix that changes to it.

    Root changes to an unprivileged account. Any other user runs the server itself.
    """

    account: pwd.struct_passwd | None
    prefix: tuple[str, ...]

    @classmethod
    def of(cls, data: Path, *, also_reads: Path) -> Owner:
        """Choose the account. Raises ServerError if no account can reach `data`."""
        if os.geteuid() != 0:
            return cls(None, ())
        account = _unprivileged_account()
        prefix = _as_account(account)
        for path in (data, also_reads):
            if _status((*prefix, "test", "-x", str(path))) != 0:
                prefix = _as_account(account, *BYPASS_FILE_PERMISSIONS)
                break
        if _status((*prefix, "test", "-x", str(data))) != 0:
            raise ServerError(
                f"PostgreSQL cannot run as root, and {account.pw_name} cannot enter {data}: "
                "set MYCELIUM_HOME to a folder that any user can enter"
            )
        return cls(account, prefix)

    def give(self, *paths: Path) -> None:
        """Make the account the owner of the paths."""
        for path in paths:
            if self.account is not None:
                os.chown(path, self.account.pw_uid, self.account.pw_gid)


def _unprivileged_account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServerError("PostgreSQL cannot run as root, and the users postgres and nobody do not exist")


def _as_account(account: pwd.struct_passwd, *more: str) -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ServerError(
            "PostgreSQL cannot run as root, and setpriv, which changes the user, is not installed"
        )
    # The kernel clears the parent-death signal when the user changes, so it is set again here.
    return (setpriv, "--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--clear-groups",
            "--pdeathsig", "INT", *more, "--")  # fmt: skip


def _status(command: Sequence[str]) -> int:
    return subprocess.run(command, capture_output=True, timeout=CHECK_TIMEOUT_SECONDS, cwd="/").returncode
