"""Run the notebooks of docs/notebooks/, and write each with what it shows as .ipynb and as one .html file.

    python scripts/notebooks.py [FOLDER]        build/notebooks by default; needs the extra [docs]

An .html file holds its pictures, its style and its equations (MathML): it asks nothing of elsewhere. A notebook that
fails ends the run with status 1, after the others; what it showed until then is written, too.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "docs" / "notebooks").glob("*.py"))
SECONDS_A_CELL = 280
AS_HTML = {
    "nb-execution-mode": "off",
    "nb-merge-streams": "true",
    "nb-output-stderr": "remove",  # progress bars
    "nb-render-text-lexer": "text",
    "myst-enable-extensions": "dollarmath",
    "myst-dmath-double-inline": "true",
    "math-output": "MathML",
    "image-loading": "embed",
}


def run(path: Path) -> tuple[nbformat.NotebookNode, str]:
    """(the notebook with its outputs, what went wrong or nothing); it runs in a folder of its own, which is removed."""
    notebook = jupytext.read(path)
    with tempfile.TemporaryDirectory() as place:
        resources = {"metadata": {"path": place}}
        try:
            NotebookClient(notebook, timeout=SECONDS_A_CELL, kernel_name="python3", resources=resources).execute()
        except CellExecutionError as error:
            return notebook, str(error)
    return notebook, ""


def write(notebook: nbformat.NotebookNode, file: Path) -> None:
    """FILE.ipynb and FILE.html."""
    nbformat.write(notebook, file.with_suffix(".ipynb"))
    with tempfile.TemporaryDirectory() as pictures:
        options = [f"--{name}={value}" for name, value in {**AS_HTML, "nb-output-folder": pictures}.items()]
        source, page = str(file.with_suffix(".ipynb")), str(file.with_suffix(".html"))
        program = "from myst_nb.docutils_ import cli_html5; cli_html5()"
        subprocess.run([sys.executable, "-c", program, "--halt=warning", *options, source, page], check=True)


def main(folder: str = "build/notebooks") -> int:
    """Run and write all; 1 where one failed."""
    output, failed = Path(folder), []
    output.mkdir(parents=True, exist_ok=True)
    for path in NOTEBOOKS:
        started = time.perf_counter()
        notebook, problem = run(path)
        write(notebook, output / path.stem)
        print(f"{path.stem}: {'failed' if problem else 'ran'} in {time.perf_counter() - started:.0f} s", flush=True)
        if problem:
            print(problem, file=sys.stderr)
            failed.append(path.stem)
    print(f"{len(NOTEBOOKS)} notebooks in {output}, as .ipynb and .html" + (f"; failed: {failed}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
