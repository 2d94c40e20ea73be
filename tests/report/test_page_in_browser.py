"""Pages in a browser: every value that is told, every patch that is chosen, at all widths, light and dark."""

import base64
import csv
import io
import math
import re

import numpy as np
import pytest
from browsing import NONE, WIDTHS, overlapping
from PIL import Image

from crate_transformers import demo
from crate_transformers.analysis import trace
from crate_transformers.evaluation.opening import open_model
from crate_transformers.report.charts import Chart, Series, charts_html
from crate_transformers.report.confusion import confusion_heat
from crate_transformers.report.heats import Heat, heat_html
from crate_transformers.report.page import page_html

pytestmark = pytest.mark.chromium
CHARTS = {  # title of a chart -> column of the csv
    "coding rate Rᶜ (nats)": "coding_rate",
    "fraction of non-zero entries": "nonzero_fraction",
    "Hoyer's sparsity (1: one entry)": "hoyer_sparsity",
    "coding rate R (nats)": "rate",
    "rate reduction ΔR = R - Rᶜ (nats)": "rate_reduction",
    "ΔR - λ‖Z‖₀ (nats)": "sparse_rate_reduction",
}
TOLD = re.compile(r"(?P<name>.+): (?P<over>.+) (?P<x>\S+), value (?P<y>[^ ,]+)(, standard deviation (?P<std>\S+))?$")


@pytest.fixture
def opened(browser):
    """opened(file, width, scheme, scripts) -> a page; afterwards: no line in the console, nothing asked elsewhere."""
    contexts, told = [], []

    def open_page(file, width=1280, scheme="light", scripts=True):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(("data:", file.as_uri())) else told.append(r.url))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert told == []


def six(text):
    """A number of the csv, as a page tells it: with six significant digits."""
    return float(f"{float(text):.6g}")


def panel(page, title):
    return page.locator(".panel", has=page.get_by_text(title, exact=True)).first


def told_by(page, title, x, y):
    """What a chart tells where the pointer is, at a share of its width and height."""
    box = panel(page, title).locator("svg").bounding_box()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    return TOLD.match(panel(page, title).locator(".readout").inner_text())


@pytest.mark.parametrize("what", ["pictures", "text", "autoencoder"])
def test_values_that_are_told_are_those_of_the_csv(opened, inspected, rows_of, what):
    page, rows = opened(inspected[what] / "report.html"), rows_of(inspected[what])
    by_name = {}
    for row in rows:
        by_name.setdefault(row.get("model", ""), []).append(row)
    names = [name for name in by_name if name] or [page.title().removeprefix("Inside ")]
    for heading, column in CHARTS.items():
        together = page.get_by_text(heading, exact=True).count() > 0  # else each model has a chart of its own
        for number, (name, own) in enumerate(zip(names, by_name.values(), strict=True)):
            title = heading if together else f"{heading}, {name}"
            if number == 0 or not together:
                svg = panel(page, title).locator("svg")
                svg.scroll_into_view_if_needed()
                svg.focus()
            page.keyboard.press("ArrowDown" if number and together else "ArrowRight")
            for _ in own:
                page.keyboard.press("ArrowLeft")
            for layer, row in enumerate(own):
                told = TOLD.match(panel(page, title).locator(".readout").inner_text())
                assert (told["name"], told["over"], told["x"]) == (name, "layer (from 0)", str(layer))
                assert float(told["y"]) == six(row[f"{column}_mean"]), (title, layer)
                assert float(told["std"]) == six(row[f"{column}_std"]), (title, layer)
                page.keyboard.press("ArrowRight")


def test_the_nearest_point_is_told(opened, inspected, rows_of):
    page, rows = opened(inspected["pictures"] / "report.html"), rows_of(inspected["pictures"])
    title = "coding rate Rᶜ (nats)"
    panel(page, title).scroll_into_view_if_needed()
    dots = panel(page, title).locator("circle.dot")
    assert dots.count() == len(rows)
    for i, row in enumerate(rows):  # the models one after the other, as in the file
        box = dots.nth(i).bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2 + 1.5, box["y"] + box["height"] / 2 - 1.5)
        told = TOLD.match(panel(page, title).locator(".readout").inner_text())
        assert (told["name"], told["x"]) == (row["model"], row["layer"])
        assert float(told["y"]) == six(row["coding_rate_mean"])
        ring = panel(page, title).locator(".here").bounding_box()
        assert ring["x"] + ring["width"] / 2 == pytest.approx(box["x"] + box["width"] / 2, abs=1)
    assert told_by(page, title, 0.99, 0.99)["x"] == "5"


def test_colours_tell_the_block_norms(opened, inspected):
    import json

    page = opened(inspected["pictures"] / "report.html")
    norms = json.loads((inspected["pictures"] / "measures.json").read_text())["subspace_block_norms"]
    heats = page.locator("svg.heat")
    assert heats.count() == 6  # of three layers of each model
    heats.nth(1).scroll_into_view_if_needed()
    image = heats.nth(1).locator("image").bounding_box()
    page.mouse.move(image["x"] + image["width"] * 4.5 / 6, image["y"] + image["height"] * 1.5 / 6)
    readout = page.locator(".panel:has(svg.heat) .readout").nth(1)
    row, column, value = re.match(r"head (\d), head (\d): (\S+)", readout.inner_text()).groups()
    assert (row, column) == ("1", "4")
    assert float(value) == six(norms[3][1][4])
    heats.nth(1).press("ArrowLeft")
    assert readout.inner_text().startswith("head 1, head 3")


def as_inspected(name):
    """A model of the demonstration in float32, as `crate inspect` opens it."""
    return open_model(str(demo.loading.folder_of(name)), None, in_single=True)


@pytest.fixture(scope="module")
def made(inspected):
    """What the demonstration makes of the first picture that its page shows: the class of each is another."""
    demonstration = demo.load("fashion")
    boot = demonstration.pictures.labels.index("Ankle boot")  # the first class of the folder is "Ankle boot"
    pixels = demonstration.processor(demonstration.pictures.images[boot], return_tensors="pt")["pixel_values"]
    return trace(as_inspected("fashion"), pixels, ("attention", "codes"))


def text_of(page, what):
    """A line of the look into the first model."""
    return page.locator(what).first.inner_text()


def shown_value(page):
    return float(page.locator(".viewer .value").first.inner_text().rpartition(": ")[2])


def test_a_patch_is_chosen_by_mouse_and_keys(opened, inspected, made):
    page = opened(inspected["pictures"] / "report.html")
    stage, said = page.locator(".stage").first, page.locator(".said").first
    assert "Layer 4, mean of the heads: where the class token looks" in said.inner_text()
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()

    def hover(row, column):
        page.mouse.move(box["x"] + box["width"] * (column + 0.5) / 7, box["y"] + box["height"] * (row + 0.5) / 7)
        return shown_value(page)

    maps = [layer.attention[0].float().numpy() for layer in made.layers]
    assert hover(2, 5) == pytest.approx(maps[4][:, 0].mean(axis=0)[1 + 2 * 7 + 5], abs=float(maps[4].max()) / 500)
    page.mouse.click(box["x"] + box["width"] * 3.5 / 7, box["y"] + box["height"] * 1.5 / 7)
    assert "where the patch in row 1, column 3 looks" in said.inner_text()
    page.get_by_role("button", name="head 2").first.click()
    page.locator(".viewer input.layer").first.press("ArrowLeft")
    assert "Layer 3, head 2: where the patch in row 1, column 3 looks" in said.inner_text()
    for place in ((0, 0), (1, 3), (6, 6), (4, 2)):
        true = maps[3][2, 1 + 1 * 7 + 3]
        assert hover(*place) == pytest.approx(true[1 + place[0] * 7 + place[1]], rel=0.01, abs=float(true.max()) / 500)
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowUp"):
        stage.press(key)
    assert "row 2, column 4 looks" in said.inner_text()
    largest = maps[3][2, 1 + 2 * 7 + 4, 1:].max()
    assert shown_value(page) == pytest.approx(largest, rel=0.01)  # the largest is told where nothing is pointed at
    stage.press("Home")
    assert "where the class token looks" in said.inner_text()
    for _ in range(9):
        stage.press("ArrowRight")
    assert "row 0, column 6 looks" in said.inner_text()  # the border holds


def test_codes_are_shown(opened, inspected, made):
    page = opened(inspected["pictures"] / "report.html")
    code = made.layers[4].codes[0].float().numpy()  # (50, 96)
    line = text_of(page, ".code-of")
    assert line.startswith(f"{(code[0] != 0).sum()} of 96 entries of the code of the class token are not 0")
    first = page.locator(".neurons button").first
    neuron, value = re.match(r"neuron (\d+), value (\S+)", first.get_attribute("aria-label")).groups()
    assert int(neuron) == code[0].argmax()
    assert float(value) == pytest.approx(code[0].max(), abs=float(code.max()) / 120)
    first.press("Enter")
    assert text_of(page, ".said") == f"Layer 4, neuron {neuron}: where it fires"
    assert shown_value(page) == pytest.approx(code[1:, int(neuron)].max(), abs=float(code.max()) / 120)
    assert page.locator(".neurons button[aria-pressed=true]").first.evaluate("(e) => e === document.activeElement")
    page.get_by_label("shown").first.select_option("nonzeros")
    page.locator(".stage").first.press("ArrowRight")
    shares = (code[1:] != 0).mean(axis=-1)
    assert shown_value(page) == pytest.approx(shares.max(), abs=0.001)
    assert (
        page.locator(".code-of")
        .first.inner_text()
        .startswith(f"{(code[1] != 0).sum()} of 96 entries of the code of the ")
    )


def test_pictures_are_of_all_classes(opened, inspected):
    page = opened(inspected["pictures"] / "report.html")
    thumbs = page.locator(".viewer").first.locator(".thumbs button")
    names = [thumb.get_attribute("title").split(";")[0] for thumb in thumbs.all()]
    assert names == ["Ankle boot", "Bag", "Dress", "Sandal", "Shirt", "T-shirt or top"]
    shown = demo.pictures()
    for thumb, name in zip(thumbs.all(), names, strict=True):
        png = base64.b64decode(thumb.locator("img").get_attribute("src").partition(",")[2])
        true = shown.images[shown.labels.index(name.replace(" or ", "/"))]
        seen = np.asarray(Image.open(io.BytesIO(png)).convert("L"), dtype=float)
        assert np.abs(seen - np.asarray(true)).max() <= 1, name
    before = page.locator(".stage img").first.get_attribute("src")
    thumbs.nth(3).press("Enter")
    assert page.locator(".caption").first.inner_text().startswith("Sandal; read as ")
    assert page.locator(".stage img").first.get_attribute("src") != before
    assert thumbs.nth(3).get_attribute("aria-pressed") == "true"


def test_tokens_are_chosen_by_mouse_and_keys(opened, inspected):
    page = opened(inspected["text"] / "report.html")
    demonstration = demo.load("python")
    text = " ".join(demo.texts()[:6])
    ids = demonstration.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"][:, :64]
    made = trace(as_inspected("python"), ids, ("attention", "codes"))
    words = page.locator(".viewer .tokens button")
    assert words.count() == ids.shape[1] == 64
    assert "Layer 5, mean of the heads: where token 63" in text_of(page, ".said")
    words.nth(7).click()
    page.get_by_role("button", name="head 1").first.press("Enter")
    page.locator(".viewer input.layer").first.press("Home")
    true = made.layers[0].attention[0, 1].float().numpy()
    for i in (0, 3, 7, 40):
        words.nth(i).hover()
        assert shown_value(page) == pytest.approx(true[7, i], rel=0.01, abs=float(true[7].max()) / 500)
    words.nth(7).press("ArrowLeft")
    assert "where token 6" in text_of(page, ".said")
    assert page.locator(".tokens .query").evaluate("(e) => e === document.activeElement")
    code = made.layers[0].codes[0, 6]
    assert text_of(page, ".code-of").startswith(f"{int((code != 0).sum())} of 96 entries")


def test_what_is_not_held_is_said(opened, inspected, tmp_path, images_of_demo):
    from crate_transformers.analysis.inside import look_inside
    from crate_transformers.report.viewer import view_html

    model, pixels, samples = images_of_demo
    view = look_inside(model, pixels, samples, 4, most=2 * (6 * 50 * 50 + 50 * 96))
    (tmp_path / "page.html").write_text(page_html("Look", {}, [("View", view_html(view))]))
    page = opened(tmp_path / "page.html")
    assert "held for the first picture in layers 3, 4 of 6" in page.locator(".viewer").inner_text()
    page.locator(".stage").first.press("ArrowDown")
    assert text_of(page, ".said") == "Layer 4, mean of the heads: where the patch in row 0, column 0 looks"
    page.locator(".layer").first.press("ArrowRight")
    assert "where the class token looks (this page holds no weights of the patch" in text_of(page, ".said")
    assert "does not hold the entries" in text_of(page, ".code-of")
    page.get_by_label("shown").first.select_option("neuron")
    assert "holds no code" in text_of(page, ".said")
    page.get_by_label("shown").first.select_option("nonzeros")
    assert shown_value(page) > 0


@pytest.fixture(scope="module")
def images_of_demo():
    from crate_transformers.report.viewer import Looked

    demonstration = demo.load("fashion")
    images = list(demonstration.pictures.images[:2])
    pixels = demonstration.processor(images, return_tensors="pt")["pixel_values"]
    samples = [Looked(f"picture {i}", picture=np.asarray(image.convert("RGB"))) for i, image in enumerate(images)]
    return demonstration.model, pixels, samples


@pytest.mark.parametrize("what", ["pictures", "text", "autoencoder"])
def test_labels_do_not_collide(opened, inspected, what):
    page = opened(inspected[what] / "report.html")
    for width in WIDTHS:
        assert overlapping(page, width) == NONE, width


def test_odd_labels_do_not_collide(opened, tmp_path):
    names = [
        "Ankle boot",
        "a very long name of a class indeed",
        "猫",
        "狗" * 12,
        "W" * 30,
        *map(str, range(30)),
    ]
    truth = np.arange(len(names)).repeat(3)
    charts = [
        Chart("small", "step", (Series("a long name, " * 9, (0, 1), (1e-7, 2e-7)), Series("b", (1,), (0.0,)))),
        Chart("large", "optimizer step", (Series("c", tuple(range(0, 1000001, 1000)), (-1234567.0,) * 1001),)),
        Chart("gap", "step", tuple(Series(f"s{i}", (0, 1), (math.nan, float(i))) for i in range(7))),
    ]
    steps = [str(1000 * i) for i in range(200)]
    heats = [
        confusion_heat(truth, truth, names),
        Heat("layers", np.ones((48, 200)), "layer", "optimizer step", [str(i) for i in range(48)], steps),
        Heat("few", np.ones((24, 60)), "layer", "step", [str(i) for i in range(24)], steps[:60]),
        Heat("short", np.ones((3, 90)), "layer", "step", ["0", "1", "2"], [str(i) for i in range(90)]),
    ]
    content = charts_html(charts) + "".join(map(heat_html, heats))
    (tmp_path / "page.html").write_text(page_html("Odd", {"a": 1}, [("Charts", content)]))
    page = opened(tmp_path / "page.html")
    for width in WIDTHS:
        assert overlapping(page, width) == NONE, width


def test_a_collision_would_be_seen(opened, tmp_path):
    text = '<text x="5" y="20">one label</text><text x="20" y="20">another</text>'
    (tmp_path / "page.html").write_text(page_html("Bad", {}, [("Bad", f'<svg viewBox="0 0 90 30">{text}</svg>')]))
    assert overlapping(opened(tmp_path / "page.html"), 400)["over"] == [["one label", "another"]]


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_use_it(opened, inspected, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    for what, folder in inspected.items():
        page = opened(folder / "report.html", width, scheme)
        page.locator(".neurons button").first.click()
        found = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
        assert [(what, v["id"], [n["html"] for n in v["nodes"]][:3]) for v in found] == []


def test_without_scripts_the_figures_are_there(opened, inspected):
    page = opened(inspected["pictures"] / "report.html", scripts=False)
    assert not page.locator(".viewer").first.is_visible()
    image = page.locator("section:has(.viewer)").first.locator("noscript img")
    assert image.is_visible()
    assert "every head of layer 4" in image.get_attribute("alt")
    assert page.locator("svg.chart polyline").first.is_visible()
    text = opened(inspected["text"] / "report.html", scripts=False)
    words = text.locator("noscript .tokens span")
    assert words.count() == 64
    assert words.last.is_visible()


def test_numbers_are_taken_along(opened, inspected):
    page = opened(inspected["pictures"] / "report.html")
    link = page.get_by_role("link", name="Download measures.csv").get_attribute("href")
    content = base64.b64decode(link.partition(",")[2]).decode()
    assert content == (inspected["pictures"] / "measures.csv").read_text()
    assert len(list(csv.DictReader(io.StringIO(content)))) == 12
