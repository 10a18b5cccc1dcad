"""Draws how CPU grows with the number of objects listed: reads `report.series` as JSON, writes an SVG.

    … | python -m benchmarks.plot docs/benchmarks-listing.svg

Runs in a venv of its own, which has matplotlib.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import matplotlib

COLOURS: Final = {
    "refart": "#c2185b",
    "floor": "#9e9e9e",
    "obstore": "#00897b",
    "rclone": "#3949ab",
    "s5cmd": "#6d4c41",
    "boto3": "#ef6c00",
    "s3fs": "#f9a825",
    "datachain": "#8e24aa",
    "quilt3": "#1e88e5",
    "dvc": "#7cb342",
    "wandb": "#212121",
}


def draw(series: dict[str, list[tuple[int, float]]], path: str) -> None:
    """One line a way, those that list the most and cost the most first in the legend."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.5), layout="constrained")
    drawn: list[str] = []
    for name, points in sorted(series.items(), key=lambda item: _slope(item[1]), reverse=True):
        tool = name.split()[0]
        style: dict[str, Any] = {"color": COLOURS[tool], "linewidth": 3 if tool == "refart" else 1.5}
        style["linestyle"] = "--" if tool in drawn else "-"
        drawn.append(tool)
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name, **style)
    axes.set(xscale="log", yscale="log", xlabel="objects", ylabel="CPU seconds of the process")
    axes.grid(which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, metadata={"Date": None})


def _slope(points: list[tuple[int, float]]) -> float:
    """Seconds an object at the largest size."""
    objects, cpu_s = points[-1]
    return cpu_s / objects


def main() -> None:
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "refart", "svg.fonttype": "none", "font.size": 10})
    draw(json.load(sys.stdin), sys.argv[1])


if __name__ == "__main__":
    main()
