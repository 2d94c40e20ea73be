"""Patches in the promised order, positions counted as the two text shells do, sizes that do not fit refused."""

import math

import pytest
import torch

from crate_transformers import CrateConfig, CrateVisionConfig, CrateVisionModel
from crate_transformers.layers import TextEmbeddings, patchify, resample_positions, sincos_positions, unpatchify

BATCH, CHANNELS, GRID, PATCH = 2, 3, (5, 7), (11, 13)
HEIGHT, WIDTH = GRID[0] * PATCH[0], GRID[1] * PATCH[1]


def test_patches_are_flattened_by_row_column_channel():
    images = torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH)
    patches = patchify(images, PATCH)
    assert patches.shape == (BATCH, GRID[0] * GRID[1], PATCH[0] * PATCH[1] * CHANNELS)
    for row, column, y, x, channel in [(0, 0, 0, 1, 2), (3, 4, 5, 6, 1), (4, 6, 10, 12, 2)]:
        value = images[1, channel, row * PATCH[0] + y, column * PATCH[1] + x]
        assert patches[1, row * GRID[1] + column, (y * PATCH[1] + x) * CHANNELS + channel] == value
    assert torch.equal(unpatchify(patches, PATCH, GRID), images)


def test_the_fixed_table_is_sines_and_cosines_of_column_then_row():
    width, rows, columns = 20, 3, 5
    table = sincos_positions(width, (rows, columns))
    assert table.shape == (1, 1 + rows * columns, width)
    assert not table[0, 0].any()
    quarter = width // 4
    for row, column in [(0, 1), (2, 0), (1, 4)]:
        encoded = table[0, 1 + row * columns + column]
        for i in range(quarter):
            frequency = 10000 ** (-i / quarter)
            expected = [math.sin(column * frequency), math.cos(column * frequency)]
            expected += [math.sin(row * frequency), math.cos(row * frequency)]
            given = [encoded[half * quarter + i].item() for half in range(4)]
            assert given == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="multiple of 4"):
        sincos_positions(18, (2, 2))


def test_resampled_positions_keep_the_class_token_and_the_axes():
    rows, columns = torch.arange(5.0), torch.arange(7.0)
    grid = torch.stack([rows[:, None].expand(5, 7), columns[None, :].expand(5, 7)], dim=-1)
    table = torch.cat([torch.tensor([[[-3.0, -4.0]]]), grid.reshape(1, -1, 2)], dim=1)
    torch.testing.assert_close(resample_positions(table, (5, 7), (5, 7)), table, rtol=0, atol=0)
    finer = resample_positions(table, (5, 7), (10, 21))
    assert finer[0, 0].tolist() == [-3.0, -4.0]
    fine_grid = finer[0, 1:].view(10, 21, 2)
    assert (fine_grid[1:-1].diff(dim=0)[..., 0] > 0).all()  # the first channel still grows with the row ...
    assert (fine_grid[:, 1:-1].diff(dim=1)[..., 1] > 0).all()  # ... the second with the column
    assert fine_grid[..., 0].std(dim=1).max() < 1e-5
    assert fine_grid[..., 1].std(dim=0).max() < 1e-5


@pytest.mark.parametrize(
    ("shape", "interpolate", "message"),
    [
        ((2, 3, 15, 28), False, r"expected images of 15 x 21 pixels, got 15 x 28.*interpolate_pos_encoding"),
        ((2, 1, 15, 21), False, r"expected 3 channels, got 1"),
        ((3, 15, 21), False, r"\(batch, channels, height, width\)"),
        ((2, 3, 16, 21), True, r"16 x 21 pixels cannot be cut into patches of 5 x 7"),
        ((2, 3, 0, 21), True, r"cannot be cut"),
    ],
)
def test_an_image_that_does_not_fit_is_an_error(shape, interpolate, message):
    config = CrateVisionConfig(hidden_size=6, num_attention_heads=2, image_size=(15, 21), patch_size=(5, 7))
    with pytest.raises(ValueError, match=message):
        CrateVisionModel(config)(torch.zeros(shape), interpolate)


def text_embeddings(**fields):
    config = CrateConfig(
        vocab_size=23,
        hidden_size=6,
        num_attention_heads=2,
        num_hidden_layers=1,
        max_position_embeddings=13,
        **fields,
    )
    return TextEmbeddings(config).eval()


def test_positions_of_the_encoder_shell_follow_the_padding():
    embeddings = text_embeddings(pad_token_id=1)
    ids = torch.tensor([[0, 5, 6, 1, 1], [1, 1, 0, 7, 8]])
    counted = embeddings(ids)
    torch.testing.assert_close(counted, embeddings(ids, position_ids=torch.tensor([[2, 3, 4, 1, 1], [1, 1, 2, 3, 4]])))
    # of embeddings alone, what is embedded as the padding is padding
    vectors = embeddings.word_embeddings(ids)
    torch.testing.assert_close(embeddings(inputs_embeds=vectors), counted)
    torch.testing.assert_close(
        embeddings(inputs_embeds=vectors + 1.0),
        embeddings(inputs_embeds=vectors + 1.0, position_ids=torch.arange(2, 7).expand(2, -1)),
    )


def test_positions_of_the_decoder_shell_skip_left_padding_and_continue_after_the_cache():
    embeddings = text_embeddings(pad_token_id=None, type_vocab_size=0)
    ids = torch.tensor([[3, 5, 6], [4, 7, 8]])
    mask = torch.tensor([[1, 1, 1], [0, 1, 1]])
    torch.testing.assert_close(
        embeddings(ids, attention_mask=mask), embeddings(ids, position_ids=torch.tensor([[0, 1, 2], [0, 0, 1]]))
    )
    past_and_now = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    torch.testing.assert_close(
        embeddings(ids, attention_mask=past_and_now, past_length=2),
        embeddings(ids, position_ids=torch.tensor([[2, 3, 4], [0, 1, 2]])),
    )
    torch.testing.assert_close(
        embeddings(ids, past_length=4), embeddings(ids, position_ids=torch.tensor([[4, 5, 6], [4, 5, 6]]))
    )
