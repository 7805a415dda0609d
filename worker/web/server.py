"""The pages over HTTP: GET and HEAD only, nothing can be asked for but to look."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import logging
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from worker.errors import ConfigError
from worker.metrics.readings import Readings
from worker.web.site import Answer, Site
from worker.web.templating import policy

log = logging.getLogger("pgfleet.web")
_TEXT = "text/plain; charset=utf-8"
_ASK = {"WWW-Authenticate": 'Basic realm="pgfleet", charset="UTF-8"'}


class Server(ThreadingHTTPServer):
    """login: (user, password); None: nobody is asked, and only this host is answered. Raises ConfigError."""

    daemon_threads = True

    def __init__(self, address: str, port: int, readings: Readings, login: tuple[str, str] | None) -> None:
        if login is None and not _is_loopback(address):
            raise ConfigError(
                f"The page would be open to everybody who reaches {address}.",
                "Set PGFLEET_WEB_PASSWORD (better: PGFLEET_WEB_PASSWORD_FILE), or listen on 127.0.0.1.",
            )
        self.site = Site(readings)
        self.login = login
        try:
            self.address_family, where = _resolve(address, port)
            super().__init__(where, Handler)
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

    def __getattr__(self, name: str) -> Callable[[], None]:
        """What is not GET or HEAD is no method of these pages, whatever it is called."""
        if name.startswith("do_"):
            return self._refuse
        raise AttributeError(name)

    def do_GET(self) -> None:
        if not self._is_for_us():
            self._say(421, "This page has another address.")
        elif not self._may_look():
            self._say(401, "Who are you?", _ASK)
        else:
            self._answer(self.server.site.answer(self.path))

    def do_HEAD(self) -> None:
        self.do_GET()

    def _refuse(self) -> None:
        self.close_connection = True
        self._say(405, "These pages can only be looked at.", {"Allow": "GET, HEAD"})

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
        # Both at once and in constant time: how long it takes tells nothing of either.
        return hmac.compare_digest(found, ":".join(self.server.login).encode())

    def _say(self, code: int, sentence: str, more: Mapping[str, str] | None = None) -> None:
        self._answer(Answer(code, f"{sentence}\n", _TEXT), more)

    def _answer(self, answer: Answer, more: Mapping[str, str] | None = None) -> None:
        body = answer.text.encode()
        headers = {
            "Content-Type": answer.type,
            "Content-Length": str(len(body)),
            "Cache-Control": "private, max-age=604800, immutable" if answer.fixed else "no-store",
            "Content-Security-Policy": policy(),
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            **(more or {}),
        }
        self.send_response(answer.code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """For what is not even a request: in our words, with our headers."""
        self.command = getattr(self, "command", None) or "GET"
        self.close_connection = True
        self._say(code, f"This request cannot be answered: {message or HTTPStatus(code).phrase}.")

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format % args, extra={"action": "web"})


def _resolve(address: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """Raises OSError for a name that is none."""
    family, _, _, _, where = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return family, (str(where[0]), port)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
