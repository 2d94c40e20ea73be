"""How long the explorer takes: from the command to a live picture, from a slider to what is drawn; its memory.

    python benchmarks/explorer.py [--tiny] [--moves 100] [--changes 1000] [--output FILE.json]

A browser (chromium) opens the page of a server that runs as `crate explore` does, and moves the slider of lambda. A
move ends when the answer to it is on the screen. --tiny takes CRATE-tiny at 224 pixels, untrained, instead of the
demonstration.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
MOVE = """async (value) => {
  const slider = document.querySelector("input[aria-label=lambda]");
  performance.clearMarks("drawn");
  const started = performance.now();
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(slider, value);
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  for (;;) {
    const [mark] = performance.getEntriesByName("drawn");
    if (mark) return mark.startTime - started;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}"""


def tiny_model(folder: Path) -> str:
    """CRATE-tiny at 224 pixels with weights as they are drawn, saved."""
    import torch

    from crate_transformers import CrateForImageClassification, CrateVisionConfig

    torch.manual_seed(0)
    config = CrateVisionConfig.from_size("tiny", image_size=224, patch_size=16, num_labels=10)
    CrateForImageClassification(config).save_pretrained(folder)
    return str(folder)


def live(page: Page) -> None:
    """Wait until what is shown is what the model computes."""
    while not page.evaluate("document.querySelector('header .status')?.textContent === 'live'"):
        page.wait_for_timeout(5)


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Start the server and the browser, move, count."""
    model = [tiny_model(folder / "tiny"), "--baseline", "untrained"] if arguments.tiny else []
    command = [sys.executable, "-m", "crate_transformers", "explore", *model, "--no-browser"]
    started = time.perf_counter()
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)
    try:
        assert server.stdout is not None
        address = re.search(r"http://\S+", server.stdout.readline())
        assert address is not None
        with sync_playwright() as playwright:
            path = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(address.group())
            page.wait_for_selector("h1")
            first = time.perf_counter() - started
            live(page)
            first_live = time.perf_counter() - started
            process = psutil.Process(server.pid)
            moves = [page.evaluate(MOVE, str(round(0.01 + 0.01 * (i % 90), 2))) for i in range(arguments.moves)]
            before = process.memory_info().rss
            for i in range(arguments.changes):
                page.evaluate(MOVE, str(round(0.01 + 0.01 * (i % 90), 2)))
            after = process.memory_info().rss
            browser.close()
    finally:
        server.terminate()
        server.wait(30)
    moves.sort()
    return {
        "model": "CRATE-tiny, 224 pixels" if arguments.tiny else "the demonstration",
        "seconds_to_first_view": round(first, 2),
        "seconds_to_live": round(first_live, 2),
        "moves": len(moves),
        "median_ms": round(statistics.median(moves), 1),
        "p95_ms": round(moves[max(int(0.95 * len(moves)) - 1, 0)], 1),
        "changes": arguments.changes,
        "memory_growth_mib": round((after - before) / 2**20, 1),
        "memory_mib": round(after / 2**20),
    }


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments, Path(folder))
    found |= {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()}
    print(json.dumps(found, indent=2))
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
