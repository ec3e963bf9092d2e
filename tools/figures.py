"""Figures for the documentation: small enough to be kept in git."""

# pyright: reportUnknownMemberType=false
# (matplotlib's own annotations are not complete)

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

_COLORS = 64
"""Enough for lines on white; a third of the bytes of a true-colour file."""


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG with a palette. The same figure gives the same file.

    Args:
        figure: to write.
        path: of the file.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, facecolor="white", metadata={"Software": None})
    with Image.open(buffer) as image:
        palette = image.convert("RGB").quantize(_COLORS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        palette.save(path, optimize=True)
