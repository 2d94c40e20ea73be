"""Small pieces of pictures: sizes, files, colours."""

import io

import numpy as np
from PIL import Image

from crate_transformers.report.canvas import color_map
from crate_transformers.report.pictures import grown, picture_sheet, png_bytes


def test_a_picture_grows_by_whole_pixels():
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(grown(picture, (4, 9)), picture.repeat(2, axis=0).repeat(3, axis=1))


def test_pictures_and_maps_as_files():
    for array in (np.arange(30, dtype=np.uint8).reshape(2, 5, 3), np.arange(35, dtype=np.uint8).reshape(5, 7)):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(array)))), array)


def test_colours_of_a_map():
    colors = color_map(np.linspace(0, 1, 7), "cividis")
    assert colors.shape == (7, 3)
    assert colors[0].sum() < colors[-1].sum()


def test_a_sheet_has_a_heading_for_every_row_and_column():
    picture = np.zeros((2, 3, 3), dtype=np.uint8)
    axes = picture_sheet([[picture] * 3] * 2, ["a", "b", "c"], ["d", "e"]).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["d", "e"]
