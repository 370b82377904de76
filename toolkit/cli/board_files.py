"""What ``toolkit bench --on`` writes on this machine: a report a board, and the pages that were asked for."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.cli.outputs import checked_file, checked_report
from toolkit.remote import BoardResult
from toolkit.remote.boards import Board

__all__ = ["Files"]

_SUFFIXES = {"markdown": (".md", ".markdown"), "csv": (".csv",), "plot": (".png", ".svg")}


class Files:
    """Places for everything, known to be writable before the work.

    Attributes:
        reports: one a board.
        from_boards: names of what boards are asked for besides, see `toolkit.remote.job.PAGES`.
    """

    def __init__(
        self,
        path: Path,
        boards: Sequence[Board],
        output: Path | None,
        pages: Mapping[str, Path | None],
        *,
        save_settings: bool,
    ) -> None:
        """Raise what hinders it.

        Args:
            path: of the bundle or artifact: reports go beside it unless there is an output.
            boards: where there are several, the name of each comes before the suffix of its files.
            output: the report.
            pages: the others, by "markdown", "csv" and "plot".
            save_settings: beside the bundle too.

        Raises:
            UsageError: a file cannot be written, or is named as it should not be.
            MissingError: nothing to draw with.
        """
        beside = path.resolve()  # not in it: to a bundle nothing is added
        stem = beside.name.removesuffix(".zip")
        self._several = len(boards) > 1
        self.reports = [
            checked_report(
                self._of(output, board) if output else beside.with_name(f"{stem}.{board.file_name}.bench.json"),
                "bench.json",
            )
            for board in boards
        ]
        self._pages: list[tuple[str, list[Path]]] = []
        for name, page in pages.items():
            if checked_file(page, f"--{name}", _SUFFIXES[name]) and page is not None:
                self._pages.append((name, [self._of(page, board) for board in boards]))
        if save_settings:
            places = [beside.with_name(f"{stem}.{board.file_name}.settings.json") for board in boards]
            self._pages.append(("save-settings", places))
        self.from_boards = tuple(name for name, _ in self._pages if name != "plot")
        if pages.get("plot") is not None:
            from toolkit.cli.bench_plot import check_matplotlib

            check_matplotlib()

    def _of(self, place: Path, board: Board) -> Path:
        return place.with_name(f"{place.stem}.{board.file_name}{place.suffix}") if self._several else place

    def write(self, results: Sequence[BoardResult]) -> None:
        """Write what came.

        Raises:
            StorageError: the disk is full or fails.
        """
        from toolkit.cli.console import note
        from toolkit.publishing import write_atomic

        for at, result in enumerate(results):
            if result.report is None:
                continue
            write_atomic(self.reports[at], json.dumps(result.report, separators=(",", ":")) + "\n")
            note(f"{result.board.name}: report, every sample included: {self.reports[at]}")
            for name, places in self._pages:
                data = _drawn(result, places[at]) if name == "plot" else result.pages.get(name)
                if data is not None:
                    write_atomic(places[at], data)


def _drawn(result: BoardResult, place: Path) -> Any:
    """The plot, drawn here; None where the report is none that can be drawn."""
    from toolkit.cli.bench_plot import draw_latency

    try:
        return draw_latency(dict(result.report or {}), place.suffix[1:].lower())
    except (LookupError, TypeError, ValueError):
        return None
