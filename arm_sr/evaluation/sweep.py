"""The trade-off curve: many settings on one folder, beside interpolation and every static sub-net."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..api import Upscaler
from ..atomic import write_bytes
from ..errors import ImageError
from .pairs import readable_pairs
from .quality import Score, finite, score_picture, summarise

OPERATING_POINTS = {"L": 0.05, "M": 0.0, "S": -0.05}
"""ARM's: the cheapest setting that reaches the largest sub-net's PSNR and so many dB (Chen et al., ECCV 2022)."""
COSTS = {"macs_share": "share of MACs of the largest sub-net", "ms": "milliseconds"}
"""What a setting may be cheap in."""


@dataclass(frozen=True)
class Setting:
    """One point of a sweep."""

    rule: str
    """`static`, `budget`, `eta` for ARM's rule, `trade-off` for eta with the objective `mse`, or `arm` for a budget
    with ARM's own table and objective."""
    value: str
    """Branch, budget or eta."""
    upscaler: Upscaler
    """Runs it."""
    how: dict[str, Any]
    """Arguments of `Upscaler.upscale`."""


def settings_of(upscaler: Upscaler, budgets: Sequence[str], etas: Sequence[str], arm: Upscaler | None) -> list[Setting]:
    """Interpolation and every static sub-net, then budgets and etas, then the same budgets as ARM decides them."""
    points = [Setting("static", name, upscaler, {"width": name}) for name in upscaler.branches]
    points += [Setting("budget", b, upscaler, {"budget": b}) for b in budgets]
    points += [Setting("eta", e, upscaler, {"eta": e}) for e in etas]
    points += [Setting("trade-off", e, upscaler, {"eta": e, "objective": "mse"}) for e in etas]
    if arm is not None:
        points += [Setting("arm", b, arm, {"budget": b, "objective": "psnr"}) for b in budgets]
    return points


def sweep(settings: Sequence[Setting], files: Sequence[Path], repeats: int = 3,
          done: Callable[[int], object] = lambda count: None) -> list[dict[str, Any]]:  # fmt: skip
    """Run every setting on every picture, all settings of a picture in turn so that ratios of times hold.

    Args:
        settings: points of the curve; the first picture is run once before, as a warm-up.
        files: HR pictures; those that cannot be read are named in the log and left out.
        repeats: runs of each; the median time counts.
        done: called with 1 after each setting of each picture.

    Returns:
        One row a setting: `rule`, `value`, the figures of `summarise`, for comparison the best single
        branch in one pass that costs no more MACs (`static`) with the gain over it in dB (`gain_rgb_all`), and
        which of `OPERATING_POINTS` it is by each of `COSTS` (`points_macs_share`, `points_ms`), such as `MS`.
    """
    scores: list[list[Score]] = [[] for _ in settings]
    scale = settings[0].upscaler.scale
    for pair in readable_pairs(files, scale):
        for point, kept in zip(settings, scores, strict=True):
            if not kept:
                point.upscaler.upscale(pair.lr, **point.how)
            kept.append(score_picture(point.upscaler, pair, point.how, repeats))
            done(1)
    if not scores[0]:
        raise ImageError(f"none of {len(files)} pictures could be read")
    rows: list[dict[str, Any]] = [
        {
            "rule": point.rule,
            "value": point.value,
            "pictures": len(kept),
            **{k: round(v, 5) for k, v in summarise(kept).items()},
        }
        for point, kept in zip(settings, scores, strict=True)
    ]
    static = [row for row in rows if row["rule"] == "static"]
    for row in rows:
        rivals = [other for other in static if other is not row and other["macs_share"] <= row["macs_share"]]
        best = max(rivals, key=lambda other: other["psnr_rgb_all"], default=None)
        row["static"] = best and best["value"]
        row["gain_rgb_all"] = best and round(row["psnr_rgb_all"] - best["psnr_rgb_all"], 5)
    _mark(rows, static[-1]["psnr_rgb_all"])
    return rows


def _mark(rows: Sequence[dict[str, Any]], largest: float) -> None:
    """Say in each of `rows` which operating point it is; `largest` is the PSNR of the largest sub-net in dB."""
    for cost in COSTS:
        for row in rows:
            row[f"points_{cost}"] = ""
        for letter, offset in OPERATING_POINTS.items():
            reaching = [row for row in rows if row["psnr_rgb_all"] >= largest + offset]
            if reaching:
                min(reaching, key=lambda row: row[cost])[f"points_{cost}"] += letter


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table of a sweep as Markdown."""
    lines = [
        "| setting | MACs | RGB all pixels | RGB mean | Y mean | SSIM Y | ms | seam | against one pass of |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        beside = f"{row['static']}: {row['gain_rgb_all']:+.3f}" if row["static"] else ""
        seam = "" if row["seam"] != row["seam"] else f"{row['seam']:.3f}"
        by_macs, by_time = (" " + " ".join(row[f"points_{cost}"]) if row[f"points_{cost}"] else "" for cost in COSTS)
        lines.append(
            f"| {row['rule']} {row['value']} | {row['macs_share']:.1%}{by_macs} | {row['psnr_rgb_all']:.3f} | "
            f"{row['psnr_rgb']:.3f} | {row['psnr_y']:.3f} | {row['ssim_y']:.4f} | {row['ms']:.0f}{by_time} | {seam} | "
            f"{beside} |"
        )
    if any(row[f"points_{cost}"] for row in rows for cost in COSTS):
        wanted = ", ".join(f"{letter} {offset:+.2f}" for letter, offset in OPERATING_POINTS.items())
        lines += ["", f"Letters: the cheapest that reaches the largest sub-net's RGB over all pixels and {wanted} dB."]
    return "\n".join(lines)


def write_sweep(rows: Sequence[dict[str, Any]], about: dict[str, Any], out: Path) -> None:
    """Write `sweep.csv`, `sweep.json` and `sweep.png` into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(out / "sweep.csv", text.getvalue().encode())
    clean = [finite(row) for row in rows]
    write_bytes(out / "sweep.json", (json.dumps({**about, "rows": clean}, indent=2) + "\n").encode())
    write_bytes(out / "sweep.png", _plot(rows, about))


def _plot(rows: Sequence[dict[str, Any]], about: dict[str, Any]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    labels = {"budget": "budget, squared error", "eta": "eta, ARM's rule", "trade-off": "eta, squared error",
              "arm": "budget, ARM's table and objective"}  # fmt: skip
    for axes, (x, title) in zip(figure.subplots(1, 2), COSTS.items(), strict=True):
        for rule, label in labels.items():
            points = sorted((row[x], row["psnr_rgb_all"]) for row in rows if row["rule"] == rule)
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
        for row in rows:
            if row["rule"] == "static":
                axes.plot(row[x], row["psnr_rgb_all"], "k^")
                axes.annotate(row["value"], (row[x], row["psnr_rgb_all"]), xytext=(5, -10), textcoords="offset points")
        for row in rows:
            if letters := row[f"points_{x}"]:
                place = row[x], row["psnr_rgb_all"]
                axes.plot(*place, "o", markersize=10, fillstyle="none", color="k")
                axes.annotate(" ".join(letters), place, xytext=(-5, 8), textcoords="offset points", weight="bold")
        axes.set_xlabel(title)
        axes.set_ylabel("RGB PSNR over all pixels, dB")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right")
    figure.suptitle(f"{about['model']} on {about['pictures']} pictures of {about['data']}, {about['machine']}")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
