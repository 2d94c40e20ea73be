"""The door of the explorer: HTTP in, questions to the service, answers out. One computation at a time.

GET  /                the page           GET  /first        the stored first view, while the model is opened
POST /api/describe    what there is      POST /api/answer   parts of the state, packed (see packing.py)
POST /api/upload      a picture          POST /api/grow     a text with one more token
POST /api/script      the Python         POST /api/figure   png or svg      POST /api/table   json or csv
"""

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ..errors import UserError, one_line
from .security import Door, Guard

if TYPE_CHECKING:
    from .answers import Answer
    from .service import Service

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
MAX_WAITING, MAX_QUESTION = 12, 1 << 20
_WINDOWS = 64


@dataclass(frozen=True, eq=False)
class Opened:
    """A service, and how the pictures were named on the command line."""

    service: "Service"
    data: str | None = None


class BusyError(UserError):
    """The queue is full."""


class OvertakenError(UserError):
    """The same window has asked something newer."""


@dataclass(eq=False)
class Worker:
    """One thread that computes one thing after another, with a bounded queue.

    Args:
        load: opens the models, in the worker's thread, before the first computation.
        on_failure: called with what went wrong in `load`.
    """

    load: Callable[[], Opened]
    on_failure: Callable[[BaseException], None] = lambda error: None
    waiting: int = 0
    _latest: OrderedDict[str, int] = field(default_factory=OrderedDict)
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "explore"))
    _opened: Future[Opened] | None = None

    def start(self) -> None:
        """Begin to open the models."""
        self._opened = self._pool.submit(self.load)
        self._opened.add_done_callback(self._check)

    def _check(self, opened: Future[Opened]) -> None:
        error = opened.exception()
        if error is not None:
            self.on_failure(error)

    async def compute(self, work: Callable[[Opened], Any], window: str = "", turn: int = 0) -> Any:
        """Do some work when its turn comes.

        Args:
            window, turn: of a question that newer ones of the same window replace.

        Raises:
            BusyError, OvertakenError: it was not done. UserError: as the work does.
        """
        if self._opened is None:
            self.start()
        if self.waiting >= MAX_WAITING:
            raise BusyError(f"{self.waiting} questions are waiting already: try again in a moment")
        if window:
            self._latest[window] = max(turn, self._latest.get(window, 0))
            self._latest.move_to_end(window)
            while len(self._latest) > _WINDOWS:
                self._latest.popitem(last=False)

        def run() -> Any:
            if window and turn < self._latest.get(window, 0):
                raise OvertakenError("a newer question of this window came first")
            return work(cast("Future[Opened]", self._opened).result())

        self.waiting += 1
        try:
            return await asyncio.wrap_future(self._pool.submit(run))
        finally:
            self.waiting -= 1

    def stop(self) -> None:
        """Let what runs end, and forget what waits."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def create_app(worker: Worker, door: Door, first: Path | None = None) -> Guard:
    """The application.

    Args:
        first: a file with the stored first view, or None.
    """

    async def page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def first_view(request: Request) -> Response:
        if first is None or not first.is_file():
            return Response(status_code=204)
        return FileResponse(first, media_type="application/octet-stream", headers={"content-encoding": "gzip"})

    routes = [
        Route("/", page),
        Route("/first", first_view),
        Route("/api/upload", _told(_upload(worker)), methods=["POST"]),
        *(Route(f"/api/{name}", _told(_question(worker, act)), methods=["POST"]) for name, act in _ACTS.items()),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Guard(Starlette(routes=routes), door)


Handler = Callable[[Request], Awaitable[Response]]


def _told(handler: Handler) -> Handler:
    """Errors as JSON: those of the user in their words, others by their class; the server goes on."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except OvertakenError as error:
            return JSONResponse({"error": str(error), "overtaken": True}, status_code=409)
        except BusyError as error:
            return JSONResponse({"error": str(error)}, status_code=503)
        except (UserError, ValueError) as error:
            return JSONResponse({"error": one_line(error)}, status_code=400)
        except Exception as error:
            logger.exception("a question of the page failed")
            return JSONResponse({"error": f"{type(error).__name__}: {one_line(error)}"}, status_code=500)

    return answered


async def _body(request: Request, limit: int) -> bytes:
    """The body of a request.

    Raises:
        UserError: it is larger than the limit, in bytes; it is not read further.
    """
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > limit:
            raise UserError(f"that is more than {limit / 2**20:.0f} MiB: make it smaller")
    return bytes(content)


def _upload(worker: Worker) -> Handler:
    async def upload(request: Request) -> Response:
        from .looking import MAX_UPLOAD_BYTES

        content = await _body(request, MAX_UPLOAD_BYTES)
        return _packed(await worker.compute(lambda opened: opened.service.upload(content)))

    return upload


Act = Callable[[Opened, Mapping[str, Any]], Response]


def _question(worker: Worker, act: Act) -> Handler:
    async def question(request: Request) -> Response:
        body = await _body(request, MAX_QUESTION)
        try:
            given = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise UserError("a question must be JSON") from error
        if not isinstance(given, dict):
            raise UserError("a question must be a JSON object")
        window, turn = str(given.get("window", ""))[:64], given.get("turn", 0)
        turn = turn if isinstance(turn, int) else 0
        return await worker.compute(lambda opened: act(opened, given), window, turn)

    return question


def _packed(answer: "Answer") -> Response:
    from .packing import pack

    return Response(pack(answer), media_type="application/octet-stream")


def _state(given: Mapping[str, Any]) -> Any:
    from .state import read_state

    return read_state(given.get("state", {}))


def _describe(opened: Opened, given: Mapping[str, Any]) -> Response:
    return _packed(opened.service.describe(_state(given)))


def _answer(opened: Opened, given: Mapping[str, Any]) -> Response:
    parts = given.get("parts", [])
    if not isinstance(parts, list) or not all(isinstance(name, str) for name in parts):
        raise UserError("parts must be a list of names")
    return _packed(opened.service.answer(_state(given), tuple(dict.fromkeys(parts))))


def _grow(opened: Opened, given: Mapping[str, Any]) -> Response:
    temperature = given.get("temperature", 0.0)
    if isinstance(temperature, bool) or not isinstance(temperature, int | float) or not 0 <= temperature <= 10:
        raise UserError("temperature must be a number from 0 to 10")
    return _packed(opened.service.grow(_state(given), float(temperature)))


def _script(opened: Opened, given: Mapping[str, Any]) -> Response:
    from .scripts import script_of

    text = script_of(opened.service, _state(given), opened.data)
    return Response(text, media_type="text/x-python; charset=utf-8")


def _figure(opened: Opened, given: Mapping[str, Any]) -> Response:
    from .figures import ladder_figure, maps_figure

    kind = given.get("kind")
    if kind not in ("png", "svg"):
        raise UserError("kind must be png or svg")
    draw = maps_figure if given.get("of") == "maps" else ladder_figure
    media = {"png": "image/png", "svg": "image/svg+xml"}[kind]
    return Response(draw(opened.service, _state(given), kind), media_type=media)


def _table(opened: Opened, given: Mapping[str, Any]) -> Response:
    from ..report.tables import csv_text

    state = _state(given)
    if given.get("kind") == "csv":
        return Response(csv_text(opened.service.rows(state)), media_type="text/csv; charset=utf-8")
    answer = opened.service.answer(state, ("prediction", "ladder"))
    return JSONResponse({"state": state.to_dict(), **answer.data})


_ACTS: dict[str, Act] = {
    "describe": _describe,
    "answer": _answer,
    "grow": _grow,
    "script": _script,
    "figure": _figure,
    "table": _table,
}

__all__ = ["Opened", "Worker", "create_app"]
