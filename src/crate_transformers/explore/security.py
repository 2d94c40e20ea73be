"""Who may ask: the holder of the token, from this machine's own page, and nobody else.

The token of the printed address is exchanged for a cookie that no other site's page can send. A wrong Host (a name that
was made to point here) and a foreign Origin are refused, and the page may load nothing from elsewhere.
"""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Door:
    """What opens the page.

    Attributes:
        token: of the printed address. port: names the cookie, as cookies are shared by all ports of a host.
        hosts: the values of Host that are answered; None: any, where the page is served to other machines.
    """

    token: str
    port: int
    hosts: frozenset[str] | None

    @classmethod
    def make(cls, host: str, port: int) -> "Door":
        """A door with a new token; `host` is the address that is listened on."""
        local = {"127.0.0.1", "localhost", "[::1]"}
        hosts = frozenset(f"{name}:{port}" for name in local) if host in {"127.0.0.1", "localhost", "::1"} else None
        return cls(secrets.token_urlsafe(24), port, hosts)

    @property
    def cookie(self) -> str:
        """The name of the cookie."""
        return f"crate_explore_{self.port}"

    def refusal(self, headers: Headers) -> str | None:
        """Why a request is refused whoever sends it; None where it is not."""
        host = headers.get("host", "")
        if self.hosts is not None and host not in self.hosts:
            return f"wrong host {host[:80]!r}: open the address that crate explore printed"
        origin = headers.get("origin")
        if origin is not None and origin not in {f"http://{host}", f"https://{host}"}:
            return "a page from elsewhere may not ask"
        return None

    def knows(self, value: str | None) -> bool:
        """Whether a value is the token, compared in constant time."""
        return value is not None and secrets.compare_digest(value.encode(), self.token.encode())


class Guard:
    """Lets through what the door opens to, and puts the headers of security on every answer."""

    def __init__(self, app: App, door: Door):
        self.app, self.door = app, door

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        answer = self._answer(Request(scope))
        await (answer or self.app)(scope, receive, send_with_headers)

    def _answer(self, request: Request) -> Response | None:
        """What is answered instead of the page; None for the page."""
        refusal = self.door.refusal(request.headers)
        if refusal is not None:
            return PlainTextResponse(refusal, status_code=403)
        given = request.query_params.get("token")
        if request.url.path == "/" and given is not None and self.door.knows(given):
            response = RedirectResponse("/", status_code=303)
            response.set_cookie(self.door.cookie, self.door.token, httponly=True, samesite="strict", path="/")
            return response
        if not self.door.knows(request.cookies.get(self.door.cookie)):
            return PlainTextResponse("open the address that crate explore printed, with its token", status_code=403)
        return None


__all__ = ["Door", "Guard"]
