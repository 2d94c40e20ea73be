"""The page in a browser: everything that it offers, by mouse and by keyboard, at two widths, light and dark."""

import json
import shutil
import threading
import time

import pytest
import torch
import uvicorn

from crate_transformers import CrateForImageClassification
from crate_transformers.demo.loading import folder_of
from crate_transformers.explore.security import Door
from crate_transformers.explore.server import Opened, Worker, create_app
from crate_transformers.explore.service import Service
from crate_transformers.explore.serving import bind
from crate_transformers.explore.subjects import open_subjects

pytestmark = pytest.mark.chromium


class Site:
    """A server in a thread, and the address of its page."""

    def __init__(self, service):
        listener = bind("127.0.0.1", None)
        listener.listen(16)
        port = listener.getsockname()[1]
        self.door = Door.make("127.0.0.1", port)
        self.worker = Worker(lambda: Opened(service))
        self.base = f"http://127.0.0.1:{port}"
        app = create_app(self.worker, self.door)
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]}, daemon=True)
        self.thread.start()

    @property
    def address(self):
        return f"{self.base}/?token={self.door.token}"

    def stop(self):
        self.server.should_exit = True
        self.thread.join(20)
        self.worker.stop()


@pytest.fixture(scope="module")
def pictures(service):
    site = Site(service)
    yield site
    site.stop()


@pytest.fixture(scope="module")
def words(writer):
    site = Site(writer)
    yield site
    site.stop()


@pytest.fixture
def opened(browser):
    """A function that opens a site; afterwards no line in the console, no error, no request that leaves the machine."""
    pages, told = [], []

    def open_site(site, width=1280, scheme="light", hash=""):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith((site.base, "blob:")) else told.append(r.url))
        page.goto(site.address)
        if hash:
            page.goto(f"{site.base}/{hash}")
            page.reload()
        settled(page)
        pages.append(context)
        return page

    open_site.told = told
    yield open_site
    for context in pages:
        context.close()
    assert told == []


def until(page, script, timeout=60):
    """Wait until a script is true; not by wait_for_function, which evaluates a string, as the page forbids."""
    deadline = time.monotonic() + timeout
    while not page.evaluate(script):
        assert time.monotonic() < deadline, script
        page.wait_for_timeout(20)


def settled(page):
    for _ in range(2):
        until(page, "document.querySelector('header .status')?.textContent === 'live'")
        page.wait_for_timeout(60)


def state_of(page):
    page.wait_for_timeout(30)
    settled(page)
    return json.loads(page.evaluate("decodeURIComponent(location.hash.slice(1)) || '{}'"))


def numbers_of(page):
    return page.locator(".readout").all_inner_texts()


def test_the_ladder(opened, pictures):
    page = opened(pictures)
    assert page.locator(".panel").count() == 5
    assert "of 6 compress" in page.locator(".marks caption").first.inner_text()
    marks = page.locator(".marks").first.locator("td").all_inner_texts()
    assert len(marks) == 12
    before = numbers_of(page)
    page.get_by_label("rates").select_option("paper")
    assert state_of(page)["mode"] == "paper"
    assert numbers_of(page) != before
    panel = page.locator(".panel svg").first
    box = panel.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    assert "layer 0" in page.locator(".readout").first.inner_text()
    page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    assert state_of(page).get("layer", 0) == 0
    page.get_by_role("button", name="angles to the gradient").press("Enter")
    settled(page)
    assert "°" in page.locator(".marks").first.inner_text()
    page.locator(".marks").first.get_by_role("button", name="3").press("Enter")
    assert state_of(page)["layer"] == 3


def test_the_picture(opened, pictures):
    page = opened(pictures)
    stage = page.locator(".stage")
    box = stage.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    assert state_of(page)["token"] == 1 + 3 * 7 + 3
    stage.press("ArrowLeft")
    stage.press("ArrowUp")
    assert state_of(page)["token"] == 1 + 2 * 7 + 2
    stage.press("Home")
    assert state_of(page).get("token", 0) == 0
    page.get_by_role("button", name="layer 2, head 4").first.click()
    state = state_of(page)
    assert (state["layer"], state["head"]) == (2, 4)
    for over in ("shares", "masks", "features", "nothing", "attention"):
        page.get_by_label("over it").select_option(over)
        settled(page)
    page.get_by_role("button", name="picture 7, Sneaker").press("Enter")
    assert state_of(page)["picture"] == 7
    assert page.locator(".best").first.inner_text() in ("Sneaker", "Ankle boot", "Sandal")


def test_an_own_picture(opened, pictures, tmp_path):
    from PIL import Image

    page = opened(pictures)
    Image.new("RGB", (90, 60), (200, 30, 30)).save(tmp_path / "own.png")
    page.get_by_label("your own picture").set_input_files(tmp_path / "own.png")
    until(page, "location.hash.includes('upload-')")
    settled(page)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with page.expect_response("**/api/upload") as answer:
        page.get_by_label("your own picture").set_input_files(tmp_path / "broken.png")
    assert answer.value.status == 400
    page.wait_for_timeout(50)
    opened.told.clear()  # the browser's own line about the status
    assert "the file" in page.get_by_role("alert").inner_text()
    page.get_by_role("button", name="picture 1, Trouser").click()
    assert state_of(page)["picture"] == 1
    assert page.get_by_role("alert").count() == 0


def test_a_huge_file_is_refused_and_the_page_lives_on(opened, pictures, tmp_path):
    page = opened(pictures)
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate(200 * 2**20)
    page.get_by_label("your own picture").set_input_files(tmp_path / "huge.png")
    until(page, "document.querySelector('[role=alert]') !== null")
    page.wait_for_timeout(50)
    opened.told.clear()  # the browser's own line about the status
    assert "MiB" in page.get_by_role("alert").inner_text()
    page.get_by_role("button", name="picture 1, Trouser").click()
    assert state_of(page)["picture"] == 1


def test_the_code_and_a_neuron(opened, pictures):
    page = opened(pictures)
    assert "neurons are active" in page.get_by_role("region", name="The code of one token").inner_text()
    first = page.locator(".neurons tbody button").first
    number = int(first.inner_text())
    first.click()
    assert state_of(page)["neuron"] == number
    region = page.get_by_role("region", name=f"Neuron {number} of layer 4")
    assert region.get_by_text("What changes without it").is_visible()
    region.get_by_role("button", name="switch off").press("Enter")
    assert state_of(page)["neurons"] == [[4, number, 0]]
    region.get_by_label("on this token only").press("Space")
    assert state_of(page)["neurons_of_tokens"] == [0]
    region.get_by_role("button", name="let it free").click()
    assert "neurons" not in state_of(page)
    region.locator(".thumb").first.click()
    assert state_of(page)["neuron"] == number
    page.get_by_role("button", name="ISTA step by step").click()
    settled(page)
    page.get_by_label("step of ISTA").press("ArrowRight")
    assert "Step 2" in page.get_by_role("region", name="The code of one token").inner_text()


def test_changes_follow_and_are_undone(opened, pictures):
    page = opened(pictures)
    before = numbers_of(page), page.locator(".bars").first.inner_text()
    slider = page.get_by_label("lambda", exact=True)
    for _ in range(6):
        slider.press("ArrowRight")
    state = state_of(page)
    assert len(state["lambda"]) == 6
    assert state["lambda"]["0"] == pytest.approx(0.16)
    assert numbers_of(page) != before[0]
    assert page.locator(".gain, .loss").count() > 0
    page.get_by_role("button", name="undo").first.click()
    assert "lambda" not in state_of(page)
    page.get_by_label("layer 4", exact=True).check()
    page.get_by_label("eta", exact=True).press("ArrowLeft")
    assert list(state_of(page)["eta"]) == ["4"]
    page.get_by_role("button", name="layer 5, head 0").first.press("Enter")
    settled(page)
    page.get_by_role("button", name="switch off head 0 of layer 5").press("Enter")
    assert state_of(page)["heads_off"] == [[5, 0]]
    page.get_by_role("button", name="paint over").press("Enter")
    stage = page.locator(".stage")
    box = stage.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.36, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.64, box["y"] + box["height"] * 0.5, steps=8)
    page.mouse.up()
    assert len(state_of(page)["painted"]) >= 2
    stage.press("ArrowRight")
    stage.press("Enter")
    page.get_by_role("button", name="reset everything").click()
    state = state_of(page)
    assert not {"eta", "heads_off", "painted", "lambda"} & set(state)


def test_side_by_side(opened, pictures):
    page = opened(pictures)
    assert page.locator(".heads").count() == 2
    page.get_by_label("look into and change").select_option("other")
    assert state_of(page)["which"] == "other"
    page.get_by_label("lambda", exact=True).press("ArrowRight")
    assert state_of(page)["which"] == "other"
    page.get_by_label("beside it").select_option("none")
    settled(page)
    assert page.locator(".heads").count() == 1
    assert state_of(page)["other"] == "none"


def test_the_checkpoints_of_a_run_as_a_film(opened, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folder_of("fashion"), run)
    for step in (5, 10, 15):
        model = CrateForImageClassification.from_pretrained(run, dtype="float32")
        with torch.no_grad():
            model.classifier.weight.mul_(step / 15)  # checkpoints that answer differently
        model.save_pretrained(run / "checkpoints" / f"checkpoint-{step}")
    site = Site(Service(open_subjects(str(run))))
    try:
        page = opened(site)
        seen = []
        page.get_by_role("button", name="play the checkpoints").focus()
        page.keyboard.press("Enter")
        until(page, "document.querySelector('button[aria-pressed=true]')?.textContent === 'stop'")
        while page.get_by_role("button", name="stop").count():
            name = json.loads(page.evaluate("decodeURIComponent(location.hash.slice(1)) || '{}'")).get("other")
            seen += [name] if name not in seen else []
            page.wait_for_timeout(20)
        seen.append(state_of(page)["other"])  # the last one, with which the film ends
        assert list(dict.fromkeys(name for name in seen if name)) == ["checkpoint-5", "checkpoint-10", "checkpoint-15"]
    finally:
        site.stop()


def test_take_it_along(opened, pictures, tmp_path):
    page = opened(pictures)
    page.get_by_label("lambda", exact=True).press("ArrowRight")
    settled(page)
    for name in ("ladder.png", "ladder.svg", "maps.png", "maps.svg", "ladder.json", "ladder.csv"):
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 300
    told = json.loads((tmp_path / "ladder.json").read_text())
    shown = page.locator(".readout").first.inner_text()
    layer = told["state"]["layer"]
    assert f"{told['ladder']['model']['now']['coding_rate'][layer][2]:.1f}" in shown
    page.get_by_role("button", name="Python").press("Enter")
    page.wait_for_selector("pre")
    assert "Edit(sparsity_weights={" in page.locator("pre").inner_text()
    link = page.get_by_label("link to this view").input_value()
    numbers = numbers_of(page)
    other = page.context.new_page()
    other.goto(link)
    settled(other)
    assert numbers_of(other) == numbers


def test_text(opened, words):
    page = opened(words)
    page.get_by_label("text", exact=True).fill("The following table")
    page.get_by_role("button", name="look at it").click()
    state = state_of(page)
    assert state["text"] == "The following table"
    tokens = page.locator(".tokens button")
    count = tokens.count()
    tokens.nth(2).press("Enter")
    assert state_of(page)["token"] == 2
    assert "next token" in page.get_by_role("region", name="What it says").inner_text()
    page.get_by_role("button", name="write a token").click()
    until(page, f"document.querySelectorAll('.tokens button').length > {count}")
    page.locator(".neurons tbody button").first.click()
    assert state_of(page)["neuron"] is not None
    page.get_by_role("button", name="switch off").click()
    page.get_by_role("button", name="write 20").press("Enter")
    until(page, f"document.querySelectorAll('.tokens button').length > {count + 3}")
    settled(page)
    assert len(state_of(page)["text"]) > len("The following table") + 20
    page.get_by_label("an example").select_option("2")
    settled(page)


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_use_it(opened, pictures, words, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    for site in (pictures, words):
        page = opened(site, width, scheme)
        page.locator(".neurons tbody button").first.click()
        page.get_by_role("region", name="Take it along").get_by_role("button", name="Python").click()
        page.wait_for_selector("pre")
        settled(page)
        found = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
        assert [(v["id"], [n["html"] for n in v["nodes"]][:3]) for v in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_two_windows_and_a_wrong_link(opened, pictures):
    one = opened(pictures)
    two = opened(pictures, hash="#" + "%7Bbroken")
    wrong = opened(pictures, hash="#%7B%22picture%22%3A3%7D")
    one.get_by_label("lambda", exact=True).press("ArrowRight")
    two.get_by_label("eta", exact=True).press("ArrowRight")
    assert "eta" not in state_of(one)
    assert "lambda" not in state_of(two)
    assert state_of(wrong)["picture"] == 3


def test_a_slider_that_is_dragged_asks_no_more_than_it_can_show(opened, pictures):
    page = opened(pictures)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/api/answer" in request.url else None)
    slider = page.get_by_label("lambda", exact=True)
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + box["height"] / 2)
    page.mouse.down()
    started = time.monotonic()
    for step in range(60):
        page.mouse.move(box["x"] + 20 + step, box["y"] + box["height"] / 2)
    page.mouse.up()
    settled(page)
    assert 1 <= len(asked) <= 61
    value = float(slider.input_value())
    assert state_of(page)["lambda"]["0"] == pytest.approx(value)
    assert time.monotonic() - started < 60
