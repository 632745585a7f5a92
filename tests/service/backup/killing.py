"""The parent process of commands that kill themselves at a point. It imports torch once and forks them.

It is run as a program: each line on stdin is one JSON command, each line on stdout the JSON that a fork left.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.service.faults.killing import Killer, leave, say


def main() -> None:
    from lensmount_adapters.light_timm import import_timm

    import_timm()  # as the commands do

    import alembic.command  # once, before the forks
    import alembic.config  # noqa: F401

    from lensmount_adapters import faults
    from lensmount_service import logs, maintenance
    from lensmount_service.settings import Settings

    def run(command: dict[str, Any]) -> None:
        settings = Settings(state=Path(command["state"]), zoo=False, threads=1, log_level="error")
        logs.configure(settings)
        backups = Path(command["backups"])
        with faults.installed(killer := Killer(command["at"])):
            if command["do"] == "backup":
                maintenance.make_backup(settings, backups, 2)
            elif command["do"] == "restore":
                maintenance.restore(settings, backups)
            else:
                maintenance.recover(settings, adopt=True)
        leave(command, points=killer.points)

    say({"ready": True})
    for line in sys.stdin:
        command = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                run(command)
                code = 0
            except BaseException as error:
                leave(command, error=repr(error)[:2000])
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        left = Path(command["out"])
        lines = left.read_text().splitlines() if left.exists() else []
        say({"code": code} | {key: value for one in lines for key, value in json.loads(one).items()})


if __name__ == "__main__":
    main()
