"""Fits a figure's SVG into the page: the page's colours and width, ids that no other figure has, a text alternative."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from markupsafe import Markup

from lorabench.report.page.palette import THEMED

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_FONT = re.compile(r"font-family:[^;]*;? *")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_LONG_NUMBER = re.compile(r"\d+\.\d{3,}")
_COORDINATES = ("d", "x", "y", "transform")
_NOT_SHOWN = (f"{{{_SVG}}}metadata",)


def inlined(svg: str, name: str, description: str) -> Markup:
    """``svg`` as matplotlib wrote it, for a page. ``name`` makes its ids unique, ``description`` is read aloud.

    Drops the size, so that the style sheet decides it; keeps the view box.
    """
    root = ET.fromstring(svg)
    width, height = (float(part) for part in root.attrib["viewBox"].split()[2:])
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in _NOT_SHOWN:
                parent.remove(child)
    used = _referred(root)
    for element in root.iter():
        _adapt(element, name, used)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-label", description)
    root.set("class", "plot")
    root.set("style", f"aspect-ratio: {width:g} / {height:g}")
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    return Markup(ET.tostring(root, encoding="unicode"))


def _referred(root: ET.Element) -> frozenset[str]:
    found = set()
    for element in root.iter():
        for attribute, value in element.attrib.items():
            found.update(_REFERENCE.findall(value))
            if attribute.endswith("href"):
                found.add(value.removeprefix("#"))
    return frozenset(found)


def _adapt(element: ET.Element, name: str, used: frozenset[str]) -> None:
    identity = element.attrib.pop("id", None)
    if identity in used:
        element.set("id", f"{name}-{identity}")
    for attribute, value in element.attrib.items():
        if attribute in _COORDINATES:
            # A hundredth of a point cannot be seen.
            element.set(attribute, _LONG_NUMBER.sub(lambda found: f"{float(found.group()):.2f}", value))
        elif attribute.endswith("href"):
            element.set(attribute, f"#{name}-{value.removeprefix('#')}")
        elif attribute in ("style", "clip-path"):
            text = _REFERENCE.sub(rf"url(#{name}-\1)", value)
            element.set(attribute, _COLOUR.sub(lambda found: THEMED.get(found.group(), found.group()), text))
    style = element.get("style")
    if style and element.tag.endswith("text"):
        # The page has a font of its own.
        element.set("style", _FONT.sub("", style))
    if element.tag == f"{{{_SVG}}}style" and element.text:
        # Applies to the whole page where it is inlined.
        element.text = ""
