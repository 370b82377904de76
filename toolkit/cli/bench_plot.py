"""The picture of ``toolkit bench --plot``: how often which latency occurred, every sample drawn."""

from typing import Any

__all__ = ["check_matplotlib", "draw_latency"]


def check_matplotlib() -> None:
    """Before anything is measured: whether it can be drawn.

    Raises:
        MissingError: matplotlib is not installed.
    """
    from toolkit.errors import MissingError

    try:
        import matplotlib.figure  # noqa: F401 - only whether it can be imported
    except ImportError as error:
        raise MissingError(
            f"--plot needs matplotlib ({error}); install the extra 'train': pip install '.[train]' in the project"
        ) from error


def draw_latency(report: dict[str, Any], form: str) -> bytes:
    """The share of calls that took longer than a time, for each file, on logarithmic axes.

    Args:
        report: see `BenchReport.to_json`, samples included.
        form: "png" or "svg".

    Raises:
        ToolkitError: no single stream was measured.
    """
    import io

    import matplotlib as mpl
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from toolkit.benchmarking.samples import unpack
    from toolkit.benchmarking.tables import names_of
    from toolkit.errors import ToolkitError

    figure = Figure(figsize=(8, 4.5), dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawn = False
    for name, file in zip(names_of(report), report["files"], strict=True):
        result = file["scenarios"]["single-stream"]
        if result is None:
            continue
        drawn = True
        times = np.sort(np.concatenate([np.asarray(r) for r in unpack(result["latency"]["samples_ns"])])) / 1000
        longer = 1 - np.arange(len(times)) / len(times)
        axes.step(times, longer, where="post", label=f"{name}: p50 {result['latency']['p50_ns'] / 1000:,.1f} us")
    if not drawn:
        raise ToolkitError("no single stream was measured, so there is nothing to draw; measure again")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for share, label in ((0.5, "p50"), (0.1, "p90"), (0.01, "p99"), (0.001, "p99.9")):
        axes.axhline(share, color="0.85", linewidth=0.8, zorder=0)
        axes.annotate(label, (1, share), xycoords=("axes fraction", "data"), xytext=(4, -3), textcoords="offset points")
    axes.set_xlabel("latency of one row, us")
    axes.set_ylabel("share of calls that took longer")
    noisy = " (noisy machine)" if report["noise"]["noisy"] else ""
    axes.set_title(f"{report['host']['cpu_model'] or 'this machine'}{noisy}", loc="left", fontsize=11)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "toolkit"}):  # the same figures make the same file
        figure.savefig(picture, format=form, bbox_inches="tight", metadata={"Date": None} if form == "svg" else None)
    return picture.getvalue()
