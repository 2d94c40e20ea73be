"""What the commands share: the folder to write, notes on stderr, bars that pass everything on."""

import pytest
import torch

from crate_transformers.cli.terminal import check_folder, note, one_by_one, output_folder, with_progress


def test_a_folder_to_write(tmp_path):
    assert check_folder(tmp_path / "new") == tmp_path / "new"
    assert not (tmp_path / "new").exists()
    assert output_folder(tmp_path / "new" / "deep").is_dir()
    (tmp_path / "file").touch()
    for check in (check_folder, output_folder):
        with pytest.raises(ValueError, match="is a file: name a folder"):
            check(tmp_path / "file")


def test_notes_and_bars_leave_stdout_alone(capsys):
    note("assumed")
    batch = {"input_ids": torch.zeros(2, 3)}
    assert list(with_progress(batch, 2, "reading")) == [batch]
    assert list(with_progress(iter([batch, batch]), None, "reading")) == [batch, batch]
    assert list(one_by_one([3, 5], 2, "reading")) == [3, 5]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "assumed\n"  # no bar, and no empty line of one, where there is no terminal
