from __future__ import annotations

import json
import os

import pytest

from lorabench.runner.lines import CHUNK_BYTES, LineReader, encode, write_all


@pytest.fixture
def pipe():
    read_fd, write_fd = os.pipe()
    yield read_fd, write_fd
    os.close(read_fd)


def test_a_message_is_one_line():
    data = encode({"text": "one\ntwo", "number": 0.1})
    assert data.count(b"\n") == 1
    assert json.loads(data) == {"text": "one\ntwo", "number": 0.1}


@pytest.mark.parametrize(
    ("value", "error"), [(float("nan"), ValueError), (float("inf"), ValueError), (object(), TypeError)]
)
def test_what_is_not_json_is_refused(value, error):
    with pytest.raises(error):
        encode({"value": value})


def test_lines_are_put_together_from_pieces(pipe):
    read_fd, write_fd = pipe
    reader = LineReader(read_fd)
    found = []
    for piece in (b"on", b"e\ntw", b"o\nthree\n", b"never ended"):
        write_all(write_fd, piece)
        found.append(reader.read())
    os.close(write_fd)
    assert found == [[], [b"one"], [b"two", b"three"], []]
    assert reader.read() is None


def test_a_line_may_be_longer_than_a_read(pipe):
    read_fd, write_fd = pipe
    reader, line = LineReader(read_fd), b"x" * (CHUNK_BYTES + 10)
    pid = os.fork()
    if pid == 0:
        write_all(write_fd, line + b"\n")
        os._exit(0)
    os.close(write_fd)
    found = []
    while (lines := reader.read()) is not None:
        found += lines
    os.waitpid(pid, 0)
    assert found == [line]


def test_nothing_to_read_is_told_apart_from_the_end(pipe):
    read_fd, write_fd = pipe
    os.set_blocking(read_fd, False)
    with pytest.raises(BlockingIOError):
        LineReader(read_fd).read()
    os.close(write_fd)
