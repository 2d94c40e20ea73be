"""Every page that a command writes, opened in headless Chromium: its script runs and the console stays empty."""

import base64
import csv
import io
import re
import subprocess

import pytest
from browsing import NONE, WIDTHS, overlapping

WORDS = "the cat sat on the mat . the dog sat on the log ."


@pytest.fixture
def opened(chromium):
    """page -> (the document after its scripts, the console's lines)."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=2000"]

    def open_page(page):
        command = [chromium, *flags, "--dump-dom", page.as_uri()]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return ran.stdout, [line for line in ran.stderr.splitlines() if "CONSOLE" in line]

    return open_page


@pytest.mark.chromium
def test_a_console_line_is_seen(opened, tmp_path):
    (tmp_path / "page.html").write_text(
        "<!doctype html><p id='p'></p><script>p.textContent = 6 * 7; missing()</script>"
    )
    document, console = opened(tmp_path / "page.html")
    assert ">42<" in document
    assert "missing is not defined" in console[0]


@pytest.mark.chromium
def test_pages_open_without_a_console_line(opened, crate, digits_model, text_model_folder, tmp_path):
    crate("inspect", digits_model, "--limit", 5, "--pictures", 2, "--output", tmp_path / "images")
    crate("inspect", text_model_folder, "--text", WORDS, "--output", tmp_path / "text")
    crate("neurons", text_model_folder, "--text", WORDS, "--output", tmp_path / "neurons")
    pages = {
        digits_model / "report.html": "Confusion matrix",
        tmp_path / "images" / "report.html": "Components of the subspace features",
        tmp_path / "text" / "report.html": 'class="query"',  # the script marked the token that is looked from
        tmp_path / "neurons" / "neurons.html": "Neuron",
    }
    for page, words in pages.items():
        document, console = opened(page)
        assert words in document, page.name
        assert not console, page.name


@pytest.fixture(scope="module")
def browser(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.mark.chromium
def test_values_of_a_run_are_told(browser, digits_model):
    page = browser.new_page()
    page.goto((digits_model / "report.html").as_uri())
    for file, title, column in (
        ("curves.csv", "loss", "validation loss"),
        ("layers.csv", "coding rate Rᶜ (nats)", "coding_rate_mean"),
    ):
        link = page.get_by_role("link", name=f"Download {file}")
        content = base64.b64decode(link.get_attribute("href").partition(",")[2]).decode()
        rows = [row for row in csv.DictReader(io.StringIO(content)) if row[column]]
        panel = page.locator(".panel", has=page.get_by_text(title, exact=True)).locator("visible=true")
        panel = panel.filter(has=page.locator("svg.chart")).first
        svg = panel.locator("svg")
        svg.press("ArrowRight")
        if file == "curves.csv":
            svg.press("ArrowDown")
        for _ in rows:
            svg.press("ArrowLeft")
        for row in rows:
            told = panel.locator(".readout").inner_text()
            x, y = re.search(r"(\S+), value ([^ ,]+)", told).groups()
            assert (x, float(y)) == (row.get("step") or row["layer"], float(f"{float(row[column]):.6g}"))
            svg.press("ArrowRight")
        assert len(rows) >= 1
    page.close()


@pytest.mark.chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_use_the_report_of_a_run(browser, digits_model, text_model_folder, scheme):
    from axe_playwright_python.sync_playwright import Axe

    for folder, width in ((digits_model, 1280), (digits_model, 400), (text_model_folder, 400)):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.goto((folder / "report.html").as_uri())
        assert page.locator(".viewer").is_visible()
        found = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
        assert [(folder.name, v["id"], [n["html"] for n in v["nodes"]][:3]) for v in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        context.close()


@pytest.mark.chromium
def test_labels_of_a_run_do_not_collide(browser, digits_model, text_model_folder):
    for folder in (digits_model, text_model_folder):
        page = browser.new_page()
        page.goto((folder / "report.html").as_uri())
        for width in WIDTHS:
            assert overlapping(page, width) == NONE, (folder.name, width)
        page.close()
