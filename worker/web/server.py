"""The page over HTTP: GET only, nothing can be asked for but to look."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from worker.errors import ConfigError
from worker.metrics.readings import Readings
from worker.web.page import render

log = logging.getLogger("pgfleet.web")
_PATIENCE_SECONDS = 5.0
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Server(ThreadingHTTPServer):
    """login: (user, password); None: nobody is asked, and only this host is answered. Raises ConfigError."""

    daemon_threads = True

    def __init__(self, address: str, port: int, readings: Readings, login: tuple[str, str] | None) -> None:
        if login is None and not _is_loopback(address):
            raise ConfigError(
                f"The page would be open to everybody who reaches {address}.",
                "Set PGFLEET_WEB_PASSWORD (better: PGFLEET_WEB_PASSWORD_FILE), or listen on 127.0.0.1.",
            )
        self.readings = readings
        self.login = login
        self.rendering = threading.Lock()
        try:
            super().__init__((address, port), Handler)
        except OSError as error:
            raise ConfigError(
                f"The page cannot be served on {address}:{port}: {error.strerror or error}.",
                "Choose another place with --port and --address.",
            ) from error


class Handler(BaseHTTPRequestHandler):
    server: Server
    server_version = "pgfleet"
    sys_version = ""
    timeout = 30  # of a client that says nothing

    def do_GET(self) -> None:
        if not self._is_for_us():
            self._answer(421, "This page has another address.\n")
        elif not self._may_look():
            self._answer(
                401, "Who are you?\n", {"WWW-Authenticate": 'Basic realm="pgfleet", charset="UTF-8"'}
            )
        elif urlsplit(self.path).path != "/":
            self._answer(404, "There is no such page.\n")
        else:
            with self.server.rendering:
                self.server.readings.read(_PATIENCE_SECONDS)
                page = render(self.server.readings)
            self._answer(200, page)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _is_for_us(self) -> bool:
        """Without a password only this host may look, and no page of another site through its visitor's browser."""
        if self.server.login is not None:
            return True
        name = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        return _is_loopback(name)

    def _may_look(self) -> bool:
        if self.server.login is None:
            return True
        kind, _, given = self.headers.get("Authorization", "").partition(" ")
        try:
            found = base64.b64decode(given, validate=True) if kind.lower() == "basic" else b""
        except binascii.Error:
            return False
        return hmac.compare_digest(found, ":".join(self.server.login).encode())

    def _answer(self, code: int, text: str, more: dict[str, str] | None = None) -> None:
        body = text.encode()
        self.send_response(code)
        for name, value in {**_HEADERS, **(more or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format % args, extra={"action": "web"})


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
