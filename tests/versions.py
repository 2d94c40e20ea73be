"""The suite against the versions of torch and transformers that the metadata allow, and the newest there are.

    make versions                        all three, an hour on two cores; writes docs/versions.md
    python tests/versions.py oldest      one of oldest, allowed, newest

oldest: the lower bounds of pyproject.toml. allowed: what pip takes today. newest: the newest released, bounds or not,
which tells what the next bound will need. Each in a fresh virtual environment in a temporary folder.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import venv
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "versions.md"
PACKAGES = ("torch", "torchvision", "transformers")
BESIDE_THE_OLDEST = ("numpy<2.4",)  # the Triton of torch 2.11 cannot interpret its kernels with a newer one


def lower_bounds() -> list[str]:
    """The oldest minor release of each package, as pip takes it."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return [f"{name}=={found}.*" for name in PACKAGES for found in re.findall(f'"{name}>=([0-9.]+)', text)]


def installed(python: Path) -> str:
    code = f"from importlib.metadata import version as v; print(', '.join(f'{{n}} {{v(n)}}' for n in {PACKAGES}))"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def tried(which: str, folder: Path) -> str:
    """A row of the page: what was installed, and pytest's closing line."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    extra = [*lower_bounds(), *BESIDE_THE_OLDEST] if which == "oldest" else []
    subprocess.run([*pip, "-e", f"{ROOT}[dev]", *extra], check=True, cwd=ROOT)
    if which == "newest":  # pip says which of our bounds this breaks, and installs it
        subprocess.run([*pip, "--upgrade", *PACKAGES], check=True, cwd=ROOT)
    versions = installed(python)
    print(f"{which}: {versions}", flush=True)
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    done = subprocess.run([python, "-m", "pytest"], cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = [line.strip("= ") for line in done.stdout.splitlines() if re.search(r"\b(passed|failed|error)", line)]
    print(done.stdout[-6000:], flush=True)
    closing = lines[-1] if lines else f"no closing line, status {done.returncode}"
    return f"| {which} | {versions} | {sys.version.split()[0]} | {closing} | {date.today()} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", nargs="*", choices=("oldest", "allowed", "newest"))
    for which in parser.parse_args().which or ("oldest", "allowed", "newest"):
        with tempfile.TemporaryDirectory() as folder:
            row = tried(which, Path(folder))
        lines = PAGE.read_text(encoding="utf-8").splitlines(keepends=True)
        PAGE.write_text("".join(f"{row}\n" if line.startswith(f"| {which} |") else line for line in lines))
        print(row, flush=True)


if __name__ == "__main__":
    main()
