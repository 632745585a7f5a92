"""The parent process of servers and workers: it imports torch once and forks them, so that restarting them is cheap.

It is run as a program: each line on stdin is one JSON command, each line on stdout one JSON response. It has no threads
when it forks.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any


def main() -> None:
    from lensmount_adapters.light_timm import import_timm

    import_timm()  # as the commands do

    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401  # imported once, before the forks

    from lensmount_adapters import load_backbone
    from lensmount_service import logs, server
    from lensmount_service.build import open_parts
    from lensmount_service.settings import Settings
    from lensmount_service.worker import worker
    from lensmount_service.worker.settings import WorkerSettings

    backbone = load_backbone(sys.argv[1], "random:0")

    def run(kind: str, values: dict[str, Any], log: str) -> None:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if kind == "server":
            settings = Settings(**values)
            logs.configure(settings)
            server.serve(settings, backbone)
        else:
            own = WorkerSettings(**values, backbone=backbone.name)
            logs.configure(own)
            worker.work(own, backbone)

    with tempfile.TemporaryDirectory() as folder:  # so that no fork is the first to build an application
        with open_parts(Settings(state=Path(folder), zoo=False, threads=1, executor="eager"), backbone):
            pass
    assert threading.active_count() == 1
    gc.collect()
    gc.freeze()  # a collection in a fork would copy what it looks at
    say({"ready": True})
    for line in sys.stdin:
        command = json.loads(line)
        response: dict[str, object] = {}
        if command["do"] == "start":
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # no child outlives this process
                    os.environ.update(command.get("environment", {}))
                    run(command["kind"], command["settings"], command["log"])
                    code = 0
                except BaseException as error:
                    os.write(2, f"ended by {error!r}\n".encode())
                finally:
                    os._exit(code)
            response = {"pid": pid}
        elif command["do"] == "signal":
            with contextlib.suppress(ProcessLookupError):
                os.kill(command["pid"], command["number"])
        elif command["do"] == "wait":
            end = time.monotonic() + command["seconds"]
            response = {"code": None}
            while time.monotonic() < end:
                pid, status = os.waitpid(command["pid"], os.WNOHANG)
                if pid:
                    response = {"code": os.waitstatus_to_exitcode(status)}
                    break
                time.sleep(0.005)
        say(response)


def say(response: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(response) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
