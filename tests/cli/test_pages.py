"""Every page that a command writes, opened in headless Chromium: its script runs and the console stays empty."""

import subprocess

import pytest

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
