"""Real processes that start fast: run as a script, it loads PyTorch and timm once and forks for every command.

Each command is a process of its own with its own environment and its own, unmodified huggingface_hub, which reads
that environment when it is imported. Requests are JSON lines on stdin, answers on stdout.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any


def child(wanted: dict[str, Any]) -> None:
    """Become a command."""
    os.environ.clear()
    os.environ.update(wanted["env"])
    os.chdir(wanted["cwd"])
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(wanted[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # timm has imported it: this process must read its own environment.
    for name in [n for n in sys.modules if n.split(".")[0] == "huggingface_hub" or n.startswith("famcli.hub")]:
        del sys.modules[name]
    from famcli.__main__ import main

    sys.argv = ["fam", *wanted["arguments"]]
    main()


def serve() -> None:
    """Fork for each request."""
    import timm  # noqa: F401  (most of what a command imports)
    import torch

    torch.set_num_threads(1)  # no thread pool before a fork
    gc.freeze()
    for line in sys.stdin:
        wanted = json.loads(line)
        if "wait" in wanted:
            _, status = os.waitpid(wanted["wait"], 0)
            answer = {"code": os.waitstatus_to_exitcode(status)}
        else:
            pid = os.fork()
            if pid == 0:
                code: Any = 70
                try:
                    child(wanted)
                    code = 0
                except SystemExit as end:
                    code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
                except BaseException:  # noqa: BLE001  (a traceback is what a crash of the command would show)
                    sys.excepthook(*sys.exc_info())
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(code)
            answer = {"pid": pid}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
    os._exit(0)  # nothing to tidy up
