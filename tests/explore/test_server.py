"""Who may ask, how much, and what an error looks like."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from crate_transformers.errors import UserError
from crate_transformers.explore.security import Door
from crate_transformers.explore.server import MAX_QUESTION, MAX_WAITING, Opened, Worker, create_app
from crate_transformers.explore.serving import bind

PORT = 8000
HOST = {"host": f"127.0.0.1:{PORT}"}


@pytest.fixture
def asked(service):
    """(the application, its door, a function that asks it something)."""
    worker, door = Worker(lambda: Opened(service)), Door.make("127.0.0.1", PORT)
    app = create_app(worker, door)

    def ask(method, path, cookies=None, **options):
        async def run():
            transport = httpx.ASGITransport(app=app)
            base = f"http://127.0.0.1:{PORT}"
            async with httpx.AsyncClient(transport=transport, base_url=base, cookies=cookies) as client:
                return await client.request(method, path, **options)

        return asyncio.run(run())

    yield app, door, ask
    worker.stop()


def cookie(door):
    return {door.cookie: door.token}


def test_the_token_is_exchanged_for_a_cookie(asked):
    _, door, ask = asked
    assert ask("GET", "/").status_code == 403
    assert ask("GET", "/?token=wrong").status_code == 403
    answer = ask("GET", f"/?token={door.token}")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    given = answer.headers["set-cookie"]
    assert "HttpOnly" in given
    assert "SameSite=strict" in given
    page = ask("GET", "/", cookies=cookie(door))
    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    for path in ("/static/app.js", "/static/style.css", "/static/vendor/htm-preact.js"):
        assert ask("GET", path, cookies=cookie(door)).status_code == 200
        assert ask("GET", path).status_code == 403
    for path in ("/static/../server.py", "/static/%2e%2e/server.py", "/static//etc/passwd"):
        assert ask("GET", path, cookies=cookie(door)).status_code in (404, 405)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example:8000"}, 403),
        ({"host": "127.0.0.1:9"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": f"http://127.0.0.1:{PORT}"}, 200),
        ({"host": f"localhost:{PORT}"}, 200),
    ],
)
def test_wrong_hosts_and_foreign_origins_are_refused(asked, headers, status):
    _, door, ask = asked
    answer = ask("POST", "/api/describe", cookies=cookie(door), json={}, headers=headers)
    assert answer.status_code == status


def test_a_door_to_other_machines_keeps_its_token(service):
    door = Door.make("0.0.0.0", PORT)
    assert door.hosts is None
    assert door.refusal(httpx.Headers({"host": "somewhere:8000"})) is None
    assert door.refusal(httpx.Headers({"host": "somewhere:8000", "origin": "http://elsewhere"})) is not None
    assert not door.knows(None)
    assert not door.knows("x")
    assert door.knows(door.token)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "must be JSON"),
        (b"[]", "must be a JSON object"),
        (b"[" * 100_000, "must be JSON"),
        (b"x" * (MAX_QUESTION + 1), "more than 1 MiB"),
        (json.dumps({"state": {"layer": "x"}}).encode(), "layer must be a whole number"),
        (json.dumps({"parts": ["nothing"]}).encode(), "unknown part"),
        (json.dumps({"parts": 3}).encode(), "parts must be a list"),
    ],
)
def test_errors_are_told_and_the_page_lives_on(asked, content, says):
    _, door, ask = asked
    answer = ask("POST", "/api/answer", cookies=cookie(door), content=content)
    assert answer.status_code == 400
    assert says in answer.json()["error"]
    good = ask("POST", "/api/answer", cookies=cookie(door), json={"parts": ["prediction"]})
    assert good.status_code == 200


def test_every_door_answers(asked):
    _, door, ask = asked
    for path, body, kind in (
        ("table", {"kind": "json"}, "application/json"),
        ("table", {"kind": "csv"}, "text/csv"),
        ("script", {}, "text/x-python"),
        ("figure", {"of": "ladder", "kind": "svg"}, "image/svg+xml"),
        ("figure", {"of": "maps", "kind": "png"}, "image/png"),
    ):
        answer = ask("POST", f"/api/{path}", cookies=cookie(door), json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith(kind)
        assert len(answer.content) > 500
    rows = ask("POST", "/api/table", cookies=cookie(door), json={"kind": "csv"}).text.splitlines()
    assert len(rows) == 1 + 2 * 6 * 3
    wrong = ask("POST", "/api/figure", cookies=cookie(door), json={"kind": "gif"})
    assert "kind must be png or svg" in wrong.json()["error"]
    assert "does not write text" in ask("POST", "/api/grow", cookies=cookie(door), json={}).json()["error"]


def test_one_at_a_time_with_a_bounded_queue_and_only_the_newest_of_a_window():
    running, most, done = [0], [0], []
    go = threading.Event()

    def work(number):
        def run(opened):
            running[0] += 1
            most[0] = max(most[0], running[0])
            go.wait(20)
            running[0] -= 1
            done.append(number)
            return number

        return run

    async def ask():
        worker = Worker(lambda: "opened")
        tasks = [asyncio.ensure_future(worker.compute(work(0)))]
        await asyncio.sleep(0.1)
        tasks += [asyncio.ensure_future(worker.compute(work(i), "a window", i)) for i in range(1, MAX_WAITING)]
        await asyncio.sleep(0.1)
        tasks.append(asyncio.ensure_future(worker.compute(work(99))))
        await asyncio.sleep(0.1)
        go.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        worker.stop()
        return found

    found = asyncio.run(ask())
    assert most == [1]
    assert done == [0, MAX_WAITING - 1]
    assert "waiting already" in str(found[-1])
    assert all("newer question" in str(one) for one in found[1:-2])


def test_a_port_in_use_is_told_and_without_one_a_free_one_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {number} is in use"):
            bind("127.0.0.1", number)
    with bind("127.0.0.1", None) as first:
        first.listen()
        with bind("127.0.0.1", None) as second:
            assert first.getsockname()[1] != second.getsockname()[1]
    with pytest.raises(UserError, match="cannot listen on 203.0.113.7"):
        bind("203.0.113.7", None)


def command(*arguments):
    return [sys.executable, "-m", "crate_transformers", "explore", "--no-browser", *arguments]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere"),
        (["demo:nothing"], "there is no demonstration 'nothing'"),
        (["demo:fashion", "--text", "words"], "reads images"),
        (["demo:fashion", "--data", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_opened_ends_the_command_with_a_line(arguments, says):
    ended = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_command_serves_and_warns(tmp_path):
    process = subprocess.Popen(
        command("demo:fashion", "--host", "0.0.0.0"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        assert "other machines reach this page" in lines[0]
        address = lines[1].split()[-1].replace("0.0.0.0", "127.0.0.1")
        with httpx.Client(follow_redirects=True, timeout=60) as client:
            deadline = time.monotonic() + 30
            while True:
                try:
                    assert client.get(address).status_code == 200
                    break
                except httpx.ConnectError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            base = address.split("/?")[0]
            assert client.post(f"{base}/api/answer", json={"parts": ["prediction"]}).status_code == 200
    finally:
        process.terminate()
        process.communicate(timeout=30)
