"""The rows of a comparison as a table, and as a plot of PSNR against time."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

STYLES = {
    "static": ("^", "one pass"),
    "time": ("o-", "routed within a budget"),
    "trade-off": ("v-", "routed by a trade-off"),
    "arm": ("s:", "ARM's procedure"),
    "onnx": ("D", "other networks"),
    "dnn_superres": ("P", "dnn_superres"),
}
"""Marker and name of each rule in the plot."""


def markdown(rows: Sequence[Mapping[str, Any]], engine: str, largest: str) -> str:
    """The rows of `compare`, with `peak_rss_mib` where it was measured, as a table in Markdown; the time of the sub-net
    `largest` is 1 on `engine`."""
    lines = [
        f"| engine | arm | time, {engine} {largest} = 1 | {largest} of its engine = 1 | ms | "
        "in the engine, ms | peak RSS, MiB | RGB all pixels | RGB mean | Y mean | "
        "against one pass of its engine that takes no longer |",
        "|---" * 11 + "|",
    ]
    for row in rows:
        inside = f"{row['ms'] * row['engine_share']:.0f} ({row['engine_share']:.0%})"
        peak = "" if row.get("peak_rss_mib") is None else f"{row['peak_rss_mib']:.0f}"
        beside = f"{row['static']}: {row['gain_rgb_all']:+.3f}" if row["static"] else ""
        lines.append(
            f"| {row['engine']} | {row['rule']} {row['value']} | {row['ratio']:.3f} | {row['own_ratio']:.3f} | "
            f"{row['ms']:.0f} | {inside} | {peak} | {row['psnr_rgb_all']:.3f} | {row['psnr_rgb']:.3f} | "
            f"{row['psnr_y']:.3f} | {beside} |"
        )
    return "\n".join(lines)


def as_good_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each run of ARM's procedure: the fastest arm of its engine that is as good."""
    lines = []
    for row in rows:
        if row["rule"] == "arm":
            name = f"{row['engine']} {row['rule']} {row['value']}"
            as_good = (
                f"{row['as_good']} is as good in {row['as_good_ratio']:.3f} of its time, "
                f"{row['as_good_engine_ratio']:.3f} of its time in the engine alone"
                if row["as_good"]
                else "no arm of this engine is as good"
            )
            lines.append(f"- {name}, {row['psnr_rgb_all']:.3f} dB: {as_good}")
    return "\n".join(lines)


def plot(runs: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> bytes:
    """PSNR over all pixels against time, as PNG: a panel a title with rows, a colour an engine, a marker a rule."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8 * len(runs), 6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, rows) in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs, strict=True):
        for number, engine in enumerate(dict.fromkeys(row["engine"] for row in rows)):
            for rule, (style, label) in STYLES.items():
                mine = [row for row in rows if (row["engine"], row["rule"]) == (engine, rule)]
                points = sorted((row["ratio"], row["psnr_rgb_all"], row["value"]) for row in mine)
                if not points:
                    continue
                x, y, names = zip(*points, strict=True)
                colour = f"C{number}"
                axes.plot(x, y, style, color=colour, markersize=4, label=f"{engine}: {label}")
                beside = {"xytext": (4, -9), "textcoords": "offset points", "color": colour, "fontsize": "small"}
                for place in zip(x, y, names, strict=True) if rule not in ("time", "trade-off", "arm") else ():
                    axes.annotate(place[2], place[:2], **beside)
        axes.set_xscale("log")
        axes.set_xlabel("time, one pass of the largest sub-net of the first engine = 1")
        axes.set_ylabel("RGB PSNR over all pixels, dB")
        axes.set_title(title)
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
