"""A file that is written whole or not at all."""

from __future__ import annotations

import os
import threading

import pytest

from lorabench.whole_file import write_whole


def fill_up(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("before", [None, "old"])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, before):
    path = tmp_path / "out.json"
    if before is not None:
        path.write_text(before)
    monkeypatch.setattr(os, "fsync", fill_up)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert [one.read_text() for one in tmp_path.iterdir()] == ([] if before is None else [before])


def test_a_new_file_gets_its_folder(tmp_path):
    write_whole(tmp_path / "a" / "b" / "out.json", "new")
    assert (tmp_path / "a" / "b" / "out.json").read_text() == "new"


def test_the_file_behind_a_link_is_replaced(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_a_pipe_is_written_into_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=write_whole, args=(pipe, "new"))
    writer.start()
    assert pipe.read_text() == "new"
    writer.join()
    assert pipe.is_fifo()
