"""The web server of the page: where it listens, what it lets through, and what it leaves behind, which is nothing."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from famcli_models.errors import ConfigError

MOST_BYTES = "64mb"  # of one file
PORTS = range(7860, 7960)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# The browser asks no other server, whatever a script wants; pictures and scripts of the page itself may be inline.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'"
HEADERS = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]


class _Policy:
    """Adds the headers that keep the browser from other servers."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await self.app(scope, receive, with_headers)


@contextmanager
def serving(models: Sequence[str], *, host: str = LOOPBACK[0], port: int | None = None) -> Iterator[str]:
    """The page on a web server of its own, at the address that is given; what visitors leave is deleted at the end.

    Args:
        models: See :func:`famcli.web.page.build`.
        host: The address to listen on. Only by one of this machine's own names is the page answered if it is loopback.
        port: By default the first of :data:`PORTS` that is free.

    Raises:
        ConfigError: The address is taken, or is none of this machine's.
        FamError: A model cannot be found or opened.
    """
    allowed = [*LOOPBACK, "[::1]"] if host in LOOPBACK else ["*"]  # no other site's name may lead here
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=allowed), Middleware(_Policy)]
    with tempfile.TemporaryDirectory(prefix="fam-app-") as folder, _temporary(folder):
        from famcli.web.page import CSS, HEAD, THEME, build  # now: Gradio makes folders when it is imported

        page = build(models)
        _, url, _ = page.launch(
            server_name=host,
            server_port=_free_port(host, port),
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            footer_links=[],
            max_file_size=MOST_BYTES,
            app_kwargs={"middleware": middleware},
            theme=THEME,
            css=CSS,
            head=HEAD,
        )
        try:
            yield url
        finally:
            page.close(verbose=False)


def serve(models: Sequence[str], *, host: str = LOOPBACK[0], port: int = 7860) -> None:
    """Serve the page until the process is ended; what a Space runs."""
    with serving(models, host=host, port=port):
        threading.Event().wait()


def _free_port(host: str, port: int | None) -> int:
    """The port itself, or the first that is free; Gradio would try a hundred of them at an address that is none."""
    for candidate in PORTS if port is None else (port,):
        try:
            with socket.create_server((host, candidate), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
                return candidate
        except OSError as error:
            if port is None and error.errno == errno.EADDRINUSE and candidate < PORTS[-1]:
                continue
            where, why = f"{host}, port {candidate}", (error.strerror or str(error)).partition(" (")[0]
            raise ConfigError(f"cannot serve the page at {where}: {why}; try another --port or --host") from error
    raise AssertionError


@contextmanager
def _temporary(folder: str) -> Iterator[None]:
    """Everything temporary of this process and of Gradio in a folder."""
    before, tempfile.tempdir = tempfile.tempdir, folder
    os.environ["GRADIO_TEMP_DIR"] = str(Path(folder, "files"))
    try:
        yield
    finally:
        tempfile.tempdir = before
        del os.environ["GRADIO_TEMP_DIR"]
