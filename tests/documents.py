"""The project's pages as data: their fenced blocks, inline code, links and headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_OPERATORS = "();<>|&"


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is that of its first line of text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page, of all languages unless some are given."""
    found = [
        Block(page, (token.map or [0])[0] + 2, token.info.strip(), token.content)
        for token in _tokens(page)
        if token.type == "fence"
    ]
    return [block for block in found if not languages or block.language in languages]


def inline_code(page: Path) -> list[str]:
    return [token.content for token in _tokens(page) if token.type == "code_inline"]


def links(page: Path) -> list[str]:
    """What links and images point at."""
    targets = [token.attrGet("href") or token.attrGet("src") for token in _tokens(page)]
    return [str(target) for target in targets if target]


def anchors(page: Path) -> set[str]:
    """The names under which GitHub links to a page's headings."""
    tokens = _tokens(page)
    titles = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    return {anchor(title) for title in titles}


def anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def commands(block: Block) -> Iterator[list[str]]:
    """The commands of a ``bash`` block, or those after the prompts of a ``console`` block, as lists of words."""
    for line in block.text.splitlines():
        if block.language == "console" and not line.startswith("$ "):
            continue
        yield from split(line.removeprefix("$ "))


def split(line: str) -> Iterator[list[str]]:
    """The simple commands of a shell's line, without comments; what is redirected to is a command of its own."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=_OPERATORS)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set(_OPERATORS):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def program(page: Path) -> str:
    """The Python blocks of a page, which are one program."""
    return "\n".join(block.text for block in blocks(page, "python"))


def _tokens(page: Path) -> list[Token]:
    """All tokens, those inside of paragraphs, headings and table cells too."""
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")):
        found.append(token)
        found += token.children or []
    return found
