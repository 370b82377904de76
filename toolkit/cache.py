"""The user's cache: what the toolkit fetched or made once, and can fetch or make again."""

import os
from pathlib import Path

from toolkit.errors import UsageError

__all__ = ["cache_root"]


def cache_root() -> Path:
    """The folder for everything that is kept between runs; it need not exist.

    Raises:
        UsageError: this user has no home folder, and no variable names another place.
    """
    try:
        if own := os.environ.get("TOOLKIT_CACHE"):
            return Path(own).expanduser().absolute()
        if (general := Path(os.environ.get("XDG_CACHE_HOME", ""))).is_absolute():
            return general / "toolkit"
        return Path.home() / ".cache" / "toolkit"
    except RuntimeError as error:
        raise UsageError(f"no folder to keep the data in ({error}); set TOOLKIT_CACHE to one") from error
