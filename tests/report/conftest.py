"""Pages of the demonstration, made once: pictures beside a baseline, a text, an autoencoder."""

import csv

import pytest

from crate_transformers import demo
from crate_transformers.analysis.study import StudyOptions
from crate_transformers.evaluation.inspection import Subject, inspect_source


@pytest.fixture(scope="session")
def fashion_folder(tmp_path_factory):
    """The pictures of the demonstration in folders by class: PATH/train and PATH/test, all in each."""
    root = tmp_path_factory.mktemp("fashion")
    shown = demo.pictures()
    for part in ("train", "test"):
        for i, (image, label) in enumerate(zip(shown.images, shown.labels, strict=True)):
            place = root / part / label.replace("/", " or ")
            place.mkdir(parents=True, exist_ok=True)
            image.save(place / f"{i:02}.png")
    return root


@pytest.fixture(scope="session")
def inspected(fashion_folder, tmp_path_factory):
    """{what: folder of `crate inspect`}."""
    root = tmp_path_factory.mktemp("inspected")
    fashion, vit, mae, python = (
        str(demo.loading.folder_of(name)) for name in ("fashion", "fashion-vit", "fashion-mae", "python")
    )
    subjects = {
        "pictures": Subject(fashion, baseline=vit, data=f"imagefolder:{fashion_folder}"),
        "text": Subject(python, text=" ".join(demo.texts()[:6])),
        "autoencoder": Subject(mae, data=f"imagefolder:{fashion_folder}"),
    }
    for name, subject in subjects.items():
        inspect_source(subject, root / name, StudyOptions())
    return {name: root / name for name in subjects}


@pytest.fixture(scope="session")
def rows_of():
    """rows_of(folder) -> the rows of its measures.csv."""

    def read(folder):
        with (folder / "measures.csv").open() as file:
            return list(csv.DictReader(file))

    return read
