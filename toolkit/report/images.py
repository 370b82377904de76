"""Pictures of rows as PNG inside the page."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from toolkit.errors import MissingError
from toolkit.report.markup import Html, tag

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["check_pillow", "picture_tag", "png_uri"]

_MOST = 96
"""Pixels of a picture's longer side in the page: larger ones are made smaller, since a page holds dozens of them."""


def check_pillow() -> None:
    """Refuse before the work what could not be finished.

    Raises:
        MissingError: Pillow is not installed.
    """
    try:
        import PIL  # noqa: F401 - whether it is there
    except ImportError as error:
        raise MissingError(
            f"a report needs Pillow for its pictures ({error}); install the extra 'train': pip install '.[train]' in "
            "the project"
        ) from error


def png_uri(picture: NDArray[np.uint8]) -> str:
    """A picture, uint8 (height, width) or (height, width, 3), as a data URI. The same pixels are the same text."""
    from PIL import Image

    image = Image.fromarray(picture)
    if max(image.size) > _MOST:
        image.thumbnail((_MOST, _MOST))
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def picture_tag(picture: NDArray[np.uint8], said: str, kind: str = "row-picture") -> Html:
    """A picture for the page; small ones are shown with their pixels as squares."""
    height, width = picture.shape[:2]
    return tag("img", src=png_uri(picture), alt=said, width=width, height=height, class_=kind)
