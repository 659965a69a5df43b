"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

DEVICE_CHOICES = ("auto", "cpu", "cuda", "fake")


def _device(text: str) -> str:
    if text in DEVICE_CHOICES or re.fullmatch(r"cuda:[0-9]{1,4}", text):
        return text
    several = "; run takes several as --devices" if "," in text else ""
    raise typer.BadParameter(f"{text!r} is not one of {', '.join(map(repr, DEVICE_CHOICES))}, 'cuda:N'{several}.")


def _presets(incomplete: str) -> list[str]:
    from lorabench.catalog import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def _cards(incomplete: str) -> list[str]:
    from lorabench.catalog import CARDS

    return [name for name in CARDS if name.lower().startswith(incomplete.lower())]


ScenarioPaths = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH",
        help="Scenario files, or folders of which the YAML files directly inside are taken.",
        show_default=False,
    ),
]
Select = Annotated[
    str,
    typer.Option("-k", metavar="EXPR", help="Only cases whose name matches, as in pytest: 'int8 and not reentrant'."),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        parser=_device,
        metavar="[auto|cpu|cuda|cuda:N|fake]",
        help="Where to run; auto is cuda where there is a GPU, else cpu.",
        autocompletion=lambda incomplete: [name for name in DEVICE_CHOICES if name.startswith(incomplete)],
    ),
]
Devices = Annotated[
    str | None,
    typer.Option(
        "--devices",
        metavar="LIST",
        help="GPUs of one model to run cases on at the same time, one on each: 'cuda:0,cuda:1'.",
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Use this model in every case: a preset, an existing path or a hub id.",
        show_default=False,
        autocompletion=_presets,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Give a setting this value in every case, 'batch_size=4' or 'adapter.rank=16'; may be repeated.",
        show_default=False,
    ),
]
Gpu = Annotated[
    str,
    typer.Option(
        "--gpu",
        metavar="NAME",
        help="The card to predict for, with its capacity: T4, V100-16, V100-32, RTX3090, RTX4090, RTX5090, L4, A10, "
        "A100-40, A100-80, L40S, H100, H200 or B200.",
        show_default=False,
        autocompletion=_cards,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON Lines, one object a line, and nothing else.")]
