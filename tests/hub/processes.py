"""Real processes that start fast: run as a script, it loads PyTorch and timm once and forks for every command.

Each command is a process of its own with its own environment and its own, unmodified huggingface_hub, which reads
that environment when it is imported. Requests are JSON lines on stdin, answers on stdout.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any, NoReturn


def command(wanted: dict[str, Any]) -> NoReturn:
    """Become a command."""
    os.environ.clear()
    os.environ.update(wanted["env"])
    os.chdir(wanted["cwd"])
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(wanted[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # timm has imported it: this process must read its own environment.
    for name in [n for n in sys.modules if n.split(".")[0] == "huggingface_hub"]:
        del sys.modules[name]
    from famcli.__main__ import main

    sys.argv = ["fam", *wanted["arguments"]]
    main()
    sys.exit(0)


def serve() -> None:
    import timm  # noqa: F401  (most of what a command imports)
    import torch

    torch.set_num_threads(1)  # no thread pool before a fork
    gc.freeze()
    for line in sys.stdin:
        wanted = json.loads(line)
        if "wait" in wanted:
            answer = os.waitstatus_to_exitcode(os.waitpid(wanted["wait"], 0)[1])
        elif (answer := os.fork()) == 0:
            command(wanted)
        print(answer, flush=True)  # noqa: T201


if __name__ == "__main__":
    serve()
