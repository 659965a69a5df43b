"""Colours of figures: the set of Okabe and Ito, which the colour-blind can tell apart, and inks.

Okabe and Ito, "Color Universal Design" (2008), https://jfly.uni-koeln.de/color/. Yellow is left out: nobody sees it on
white.
"""

from __future__ import annotations

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Shape tells series apart where colour does not, in print for instance."""

INK, MUTED, LINE, PAPER = "#1c2126", "#5b646d", "#d5dade", "#ffffff"

STATIC, DYNAMIC = SERIES[0], SERIES[4]
ALLOCATED, RESERVED, DEVICE_USED = SERIES[0], SERIES[5], SERIES[3]

THEMED = {
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, 1)},
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    PAPER: "none",
}
"""What an inlined figure says instead of a colour, so that it follows the page's theme."""
