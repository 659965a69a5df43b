"""Fits a figure's SVG into the page: the page's colours and width, ids that no other figure has, a text alternative."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping

from markupsafe import Markup

from lorabench.report.page.palette import THEMED

_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_FONT = re.compile(r"font-family:[^;]*;? *")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_LONG_NUMBER = re.compile(r"\d+\.\d{3,}")
_COORDINATES = ("d", "x", "y", "transform")
_NOT_SHOWN = (f"{{{_SVG}}}metadata",)
_WORDS = frozenset({f"{{{_SVG}}}text", f"{{{_SVG}}}tspan"})
_GROUP, _USE = f"{{{_SVG}}}g", f"{{{_SVG}}}use"


def inlined(svg: str, name: str, description: str) -> Markup:
    """``svg`` as matplotlib wrote it, for a page. ``name`` makes its ids unique, ``description`` is read aloud.

    Drops the size, so that the style sheet decides it, and what a browser does without: a report has thousands of dots,
    and each repeats its style. Keeps the view box.
    """
    root = ET.fromstring(svg)
    width, height = (float(part) for part in root.attrib["viewBox"].split()[2:])
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in _NOT_SHOWN:
                parent.remove(child)
    ids = {identity: f"{name}.{number}" for number, identity in enumerate(_referred(root), start=1)}
    for element in root.iter():
        _adapt(element, ids)
    for element in root.iter():
        _shorten(element)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-label", description)
    root.set("class", "plot")
    root.set("style", f"aspect-ratio: {width:g} / {height:g}; --width: {width:g}px")
    ET.register_namespace("", _SVG)
    return Markup(ET.tostring(root, encoding="unicode"))


def _referred(root: ET.Element) -> list[str]:
    """Ids that something refers to, in the order in which it does."""
    found: dict[str, None] = {}
    for element in root.iter():
        for attribute, value in element.attrib.items():
            found |= dict.fromkeys(_REFERENCE.findall(value))
            if attribute == _HREF:
                found[value.removeprefix("#")] = None
    return list(found)


def _adapt(element: ET.Element, ids: Mapping[str, str]) -> None:
    identity = element.attrib.pop("id", None)
    if identity and identity in ids:
        element.set("id", ids[identity])
    if target := element.attrib.pop(_HREF, None):
        element.set("href", f"#{ids[target.removeprefix('#')]}")
    for attribute, value in element.attrib.items():
        if attribute in _COORDINATES:
            # A hundredth of a point cannot be seen.
            element.set(attribute, _LONG_NUMBER.sub(lambda found: f"{float(found.group()):.2f}", value))
        elif attribute in ("style", "clip-path"):
            text = _REFERENCE.sub(lambda found: f"url(#{ids[found.group(1)]})", value)
            element.set(attribute, _COLOUR.sub(lambda found: THEMED.get(found.group(), found.group()), text))
    style = element.get("style")
    if style and element.tag.endswith("text"):
        # The page has a font of its own.
        element.set("style", _FONT.sub("", style))
    if element.tag == f"{{{_SVG}}}style" and element.text:
        # Applies to the whole page where it is inlined.
        element.text = ""


def _shorten(element: ET.Element) -> None:
    """Drops indentation; a style that all marks of a group have becomes the group's, which they inherit."""
    if element.tag not in _WORDS:
        if not (element.text or "").strip():
            element.text = None
        for child in element:
            if not (child.tail or "").strip():
                child.tail = None
    styles = {child.get("style") for child in element}
    if element.tag == _GROUP and len(element) > 1 and len(styles) == 1 and {child.tag for child in element} == {_USE}:
        [style] = styles
        if style and "style" not in element.attrib:
            element.set("style", style)
            for child in element:
                del child.attrib["style"]
