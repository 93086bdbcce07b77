"""Commands of the pages that start fast: PyTorch is imported once, and each command is a fork of this process.

    python server.py SOCKET            serves
    python -S server.py SOCKET fam ... is the command, with the environment, folder and streams of who calls it

``fam train`` is made small, and ends without an export to ONNX, which takes longer than all else.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import NoReturn

# A frozen backbone that is packaged, at the size of a thumbnail, and one view for the teacher.
SMALL = ("--backbone", "mobilenetv1", "--init", "fam-mobilenetv1-ilsvrc", "--workers", "0")
SMALL += tuple(
    f"--set={pair}"
    for pair in ("train.backbone=frozen", "size=64", "epochs=1", "teacher_scales=[1]", "teacher_flip=false")
)


def become(
    program: str, arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]
) -> NoReturn:
    """Be a command, and end."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for name in [n for n in sys.modules if n.partition(".")[0] == "huggingface_hub"]:
        del sys.modules[name]  # timm has imported it; it reads the environment when it is
    import runpy

    import famcli.checkpoints.export
    from famcli import main

    if arguments[:1] == ["train"]:
        famcli.checkpoints.export.write_graph = lambda *_, **__: None
        arguments += () if "--resume" in arguments else SMALL
    sys.argv = [program, *arguments]
    if program == "fam":
        main()
    else:
        runpy.run_path(program, run_name="__main__")
    sys.exit(0)


def serve(address: str) -> NoReturn:
    """Run one command after another, each in a process of its own."""
    import onnxruntime  # noqa: F401  (most of what a command imports, with the next two)
    import timm  # noqa: F401
    import torch

    import famcli.evaluation.run  # noqa: F401

    torch.set_num_threads(1)  # no thread pool before a fork
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        while True:
            connection, _ = server.accept()
            with connection:
                request, streams, *_ = socket.recv_fds(connection, 2**20, 3)
                if (child := os.fork()) == 0:
                    become(**json.loads(request), streams=streams)
                for stream in streams:
                    os.close(stream)
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                connection.send(b"%d" % (code % 256))


def ask(address: str, program: str, *arguments: str) -> int:
    """Have a command run, and give its exit code."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        request = {"program": program, "arguments": arguments, "folder": os.getcwd(), "environment": {**os.environ}}
        socket.send_fds(client, [json.dumps(request).encode()], [0, 1, 2])
        return int(client.recv(8))


if __name__ == "__main__":
    sys.exit(ask(*sys.argv[1:]) if sys.argv[2:] else serve(sys.argv[1]))
