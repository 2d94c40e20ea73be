"""Open a port of this machine and serve the explorer on it until the user stops it."""

import errno
import socket
import webbrowser
from collections.abc import Callable
from pathlib import Path

import uvicorn

from ..errors import UserError
from .security import Door
from .server import Opened, Worker, create_app

PORT = 8737


def bind(host: str, port: int | None) -> socket.socket:
    """A socket that listens; port None takes 8737, or a free one where that is in use.

    Raises:
        UserError: the port that was named is in use, or the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    wanted = PORT if port is None else port
    # with its protocol named: only then asyncio sends small packets at once (TCP_NODELAY)
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, wanted))
    except OSError as error:
        if error.errno == errno.EADDRINUSE and port is None:
            listener.bind((host, 0))
            return listener
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {wanted} is in use: pass another --port, or none") from error
        raise UserError(f"cannot listen on {host}:{wanted}: {error.strerror or error}") from error
    return listener


def serve(
    load: Callable[[], Opened],
    host: str,
    port: int | None,
    say: Callable[[str], None],
    *,
    first: Path | None = None,
    browser: bool = True,
) -> None:
    """Serve until the user stops it.

    Args:
        load: opens the models; it is called in a thread, while the page shows the stored first view.
        say: receives lines for the user. first: the stored first view. browser: whether to open one.

    Raises:
        UserError: the port is in use, or the models cannot be opened.
    """
    listener = bind(host, port)
    listener.listen(64)
    number = listener.getsockname()[1]
    door = Door.make(host, number)
    name = f"[{host}]" if ":" in host else host
    address = f"http://{name}:{number}/?token={door.token}"
    failed: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failed.append(error)
        server.should_exit = True

    worker = Worker(load, fail)
    app = create_app(worker, door, first)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", server_header=False))
    worker.start()
    if door.hosts is None:
        say(f"warning: listening on {host}, so other machines reach this page; only the token keeps them out")
    say(f"the explorer is at {address}")
    say("stop it with Ctrl-C")
    if browser:
        webbrowser.open(address)
    try:
        server.run(sockets=[listener])
    finally:
        worker.stop()
        listener.close()
    if failed:
        raise failed[0]


__all__ = ["PORT", "bind", "serve"]
