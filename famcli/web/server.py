"""The web server of the page: where it listens, what it lets through, and what it leaves behind, which is nothing."""

from __future__ import annotations

import errno
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safehttpx  # type: ignore[import-untyped]
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse

from famcli_models.errors import ConfigError

MOST_BYTES = "64mb"  # of one file
PORTS = range(7860, 7960)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# The browser asks no other server, whatever a script wants; pictures and scripts of the page itself may be inline.
POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'"
HEADERS = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]


class _Policy:
    """Keeps the browser from other servers by headers, and pages of other sites from sending anything here."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        foreign = scope["type"] == "http" and Headers(scope=scope).get("sec-fetch-site") == "cross-site"
        refused = PlainTextResponse("sent by a page of another site", 403)
        await (refused if foreign and scope["method"] == "POST" else self.app)(scope, receive, with_headers)


async def _refuse(url: str, **_: Any) -> Any:
    """In the place of what Gradio downloads with, which a visitor can name any address to."""
    raise ValueError(f"the page downloads nothing: {url}")


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
    # No other site's name may lead here; older Starlettes read "[" of an IPv6 address, and no name begins with it.
    allowed = [*LOOPBACK, "[::1]", "["] if host in LOOPBACK else ["*"]
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=allowed), Middleware(_Policy)]
    with tempfile.TemporaryDirectory(prefix="fam-app-") as folder, _environment(folder, host):
        from famcli.web.page import CSS, HEAD, THEME, build  # now: Gradio makes folders when it is imported

        page = build(models)
        _, url, _ = page.launch(
            server_name=f"[{host}]" if ":" in host else host,
            server_port=_free_port(host, port),
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            run_history=False,  # the browser would keep photographs
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
        wait()


def wait() -> None:
    """Wait for Ctrl-C, or for SIGTERM, by which containers are stopped; either ends what is served."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Event().wait()


def _free_port(host: str, port: int | None) -> int:
    """The port itself, or the first that is free; Gradio would try a hundred of them at an address that is none."""
    for candidate in PORTS if port is None else (port,):
        try:
            for address in (host, LOOPBACK[0]):  # Gradio wants it free at the second too
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                socket.create_server((address, candidate), family=family).close()
        except OSError as error:
            if port is None and error.errno == errno.EADDRINUSE and candidate < PORTS[-1]:
                continue
            where, why = f"{host}, port {candidate}", (error.strerror or str(error)).partition(" (")[0]
            raise ConfigError(f"cannot serve the page at {where}: {why}; try another --port or --host") from error
        else:
            return candidate
    raise AssertionError


@contextmanager
def _environment(folder: str, host: str) -> Iterator[None]:
    """Everything temporary in a folder, no downloads, and no proxy on the way to this server.

    Of settings of Gradio in the environment only the path below which a proxy has the page is kept.
    """
    before, variables = tempfile.tempdir, dict(os.environ)
    downloads = safehttpx.get, safehttpx.async_validate_url
    safehttpx.get = safehttpx.async_validate_url = _refuse
    for name in variables:
        if name.startswith("GRADIO_") and name != "GRADIO_ROOT_PATH":
            del os.environ[name]
    direct = ",".join([host, "localhost", variables.get("no_proxy") or variables.get("NO_PROXY", "")])
    os.environ |= {"GRADIO_TEMP_DIR": str(Path(folder, "files")), "no_proxy": direct, "NO_PROXY": direct}
    tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = before
        safehttpx.get, safehttpx.async_validate_url = downloads
        os.environ.clear()
        os.environ.update(variables)
