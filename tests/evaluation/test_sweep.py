"""Operating points of a sweep."""

from arm_sr.evaluation.sweep import _mark, markdown


def row(value: str, share: float, ms: float, psnr: float) -> dict[str, object]:
    """A point of a sweep."""
    return {"rule": "budget", "value": value, "macs_share": share, "ms": ms, "psnr_rgb_all": psnr, "psnr_rgb": psnr,
            "psnr_y": psnr, "ssim_y": 0.9, "seam": 1.0, "static": None}  # fmt: skip


def test_the_cheapest_that_reaches_a_psnr_is_marked():
    """By MACs and by time, which need not be the same; one setting may be several points."""
    rows = [row("a", 0.2, 60, 29.9), row("b", 0.4, 40, 30.0), row("c", 0.5, 30, 29.96), row("d", 1.0, 90, 30.06)]
    _mark(rows, 30.0)
    assert ["", "MS", "", "L"] == [each["points_macs_share"] for each in rows]
    assert ["", "M", "S", "L"] == [each["points_ms"] for each in rows]
    lines = markdown(rows).splitlines()[2:]
    assert "| 40.0% M S |" in lines[1] and "| 40 M |" in lines[1]
    assert "| 20.0% |" in lines[0]


def test_a_point_that_nothing_reaches_is_left_out():
    """As L mostly is."""
    rows = [row("a", 0.2, 60, 29.9), row("b", 1.0, 100, 30.0)]
    _mark(rows, 30.0)
    assert ["", "MS"] == [each["points_ms"] for each in rows]
