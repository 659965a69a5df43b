"""Whether the masks of a forward pass mask anything: transformers reads their values, and fake tensors hold none.

Some models make a mask of ones where they are given none (OPT does, in transformers 5.17). On CUDA transformers sees
then that nothing is masked, and takes the way without a mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_padded: ContextVar[bool] = ContextVar("padded", default=True)


def is_padded() -> bool:
    """What :func:`unpadded` told; yes where nothing was, since a mask that is made takes memory."""
    return _padded.get()


@contextmanager
def unpadded() -> Iterator[None]:
    """Within it no row has padding: a mask, whoever makes it, is all ones."""
    token = _padded.set(False)
    try:
        yield
    finally:
        _padded.reset(token)
