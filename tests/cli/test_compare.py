"""`arm-sr upscale --compare` and the legend of `--heatmap`."""

import base64
import io
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from arm_sr import Upscaler
from arm_sr.channels import without_hidden_colours
from arm_sr.cli import main
from arm_sr.report import branch_colours, legend, legend_height, legend_strip


@pytest.fixture
def run(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `arm-sr upscale` with the small model in an empty folder: (exit status, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: str) -> tuple[int, str]:
        status = main(["upscale", *argv, "-m", str(tiny_model), "-q"])
        return status, capsys.readouterr().err

    return call


def picture_in(page: str, name: str) -> np.ndarray:
    """The pixels of an image of the page."""
    found = re.search(rf'id="{name}"[^>]* src="data:image/png;base64,([^"]+)"', page)
    assert found
    with PIL.Image.open(io.BytesIO(base64.b64decode(found[1]))) as image:
        return np.asarray(image)


@pytest.mark.parametrize("kind", ["rgb", "grey", "rgba", "16"])
def test_the_page_holds_both_pictures(run, tiny_model: Path, photo: np.ndarray, kind: str) -> None:
    """Before is cubic interpolation, after is the file that was written, and the heat map is exact."""
    lr = np.ascontiguousarray(photo[:70, 160:250])
    wide = lr[..., 1].astype(np.uint16) * 257
    lr = {"rgb": lr, "grey": lr[..., 1].copy(), "rgba": np.dstack([lr, lr[..., 0]]), "16": wide}[kind]
    PIL.Image.fromarray(lr).save("a & b.png")
    assert (0, "") == run("a & b.png", "-b", "40%", "-o", "sr.png", "--compare", "c.html")
    page = Path("c.html").read_text()
    with PIL.Image.open("sr.png") as image:
        after = np.asarray(image)
    before = cv2.resize(without_hidden_colours(lr), (180, 140), interpolation=cv2.INTER_CUBIC)
    if kind == "16":
        after, before = (np.rint(each / 257).astype(np.uint8)[..., None].repeat(3, 2) for each in (after, before))
    assert np.array_equal(after, picture_in(page, "after"))
    assert np.array_equal(before, picture_in(page, "before"))
    heat = picture_in(page, "heat")
    assert (70, 90, 3) == heat.shape
    plan = Upscaler(tiny_model).plan(lr, "40%")
    colours = branch_colours(3)[plan.branch_map[np.arange(70) // plan.grid.patch][:, np.arange(90) // plan.grid.patch]]
    assert np.array_equal(colours, heat)
    assert [] == re.findall(r"https?://|(?:src|href)=\"(?!data:)", page)
    assert "default-src 'none'" in page
    assert "sr.png: before and after" in page
    assert ["bicubic", "w4", "w8"] == re.findall(r"</span>(\w+)</th>", page)


def test_wrong_places_are_said_before_the_work(run, photo: np.ndarray) -> None:
    """Status 2, and nothing is written."""
    for name in ("a.png", "b.png"):
        PIL.Image.fromarray(photo[:20, :20]).save(name)
    for argv, words in (
        (("a.png", "--compare", "no/c.html"), "--compare no/c.html: no file can be written"),
        (("a.png", "b.png", "--compare", "c.html"), "--compare takes one input"),
        (("a.png", "--compare", "a.png"), "would be replaced"),
        (("a.png", "-o", "o.png", "--compare", "o.png"), "written twice"),
    ):
        status, err = run(*argv)
        assert 2 == status
        assert words in err
    assert {"a.png", "b.png"} == {path.name for path in Path().iterdir()}


def test_a_name_that_is_no_text(run, photo: np.ndarray) -> None:
    """As a picture from an old system may have: the page shows it as well as it can."""
    PIL.Image.fromarray(photo[:20, :20]).save("a.png")
    assert (0, "") == run("a.png", "-o", "caf\udce9.png", "--compare", "c.html")
    assert "caf?.png: before and after" in Path("c.html").read_text()


def test_a_result_that_would_go_in_strips_has_its_page(run, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture is then computed whole."""
    monkeypatch.setattr("arm_sr.cli.picture.STRIPS_FROM", 1)
    PIL.Image.fromarray(photo[:60, :60]).save("a.png")
    assert (0, "") == run("a.png", "--compare", "c.html", "--size", "90x90", "-o", "o.png")
    assert (90, 90) == picture_in(Path("c.html").read_text(), "after").shape[:2]


def test_hidden_colours_are_on_neither_side(run, photo: np.ndarray) -> None:
    """Before is what the bicubic branch makes of the picture."""
    rgba = np.dstack([photo[:60, :60], np.full((60, 60), 255, np.uint8)])
    rgba[20:, 20:, 3] = 0
    rgba[20:, 20:, :3] = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    PIL.Image.fromarray(rgba).save("a.png")
    assert (0, "") == run("a.png", "--compare", "c.html", "-o", "o.png", "--width", "bicubic")
    page = Path("c.html").read_text()
    before, after = (picture_in(page, name).astype(int) for name in ("before", "after"))
    assert np.abs(before - after).max() <= 1


def test_too_large_for_a_page(run, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence before anything is computed."""
    PIL.Image.fromarray(photo[:20, :20]).save("a.png")
    monkeypatch.setattr("arm_sr.compare_page.MAX_PIXELS", 1599)
    status, err = run("a.png", "--compare", "c.html")
    assert 1 == status
    assert "40x40 pixels are too many for the page of --compare" in err
    assert not Path("c.html").exists()


@pytest.mark.parametrize("width", [20, 300, 2000, 6000])
def test_the_legend_fits_and_has_the_colours(tiny_model: Path, photo: np.ndarray, width: int) -> None:
    """A line a branch; the text stays within."""
    report = Upscaler(tiny_model).upscale(photo[:100, :100], "40%").stats
    strip = legend_strip(report, width)
    assert (legend_height(3, width), width, 3) == strip.shape
    line = len(strip) // 3
    for number, row in enumerate(legend(report)):
        part = strip[number * line : (number + 1) * line]
        assert tuple(bytes.fromhex(row["colour"][1:])) == tuple(part[line // 2, 0])
        assert (part[:, -1] == 255).all()
        assert width < 100 or (part < 100).any()


def test_the_legend_counts_what_was_computed(tiny_model: Path, photo: np.ndarray) -> None:
    """By branch, together the report's sum."""
    result = Upscaler(tiny_model).upscale(photo[:200, :200], "40%")
    rows = legend(result.stats)
    assert result.plan.counts == {row["name"]: row["patches"] for row in rows}
    assert sum(row["macs"] for row in rows) == pytest.approx(result.stats["macs"]["computed"])
    tiles, macs = result.plan.tiles, Upscaler(tiny_model).planner.macs
    for number, row in enumerate(rows):
        own = tiles.branch == number
        assert (tiles.computed_pixels[own] * macs.per_pixel[number]).sum() == pytest.approx(row["macs"])


def test_the_heat_map_has_the_legend_whole_and_in_strips(run, photo: np.ndarray, monkeypatch) -> None:
    """Below the picture."""
    PIL.Image.fromarray(photo[:100, :150]).save("a.png")
    maps = []
    for name, limit in (("whole", 10**9), ("strips", 1)):
        monkeypatch.setattr("arm_sr.cli.picture.STRIPS_FROM", limit)
        assert 0 == run("a.png", "-b", "40%", "-o", f"{name}.png", "--heatmap", f"{name}-h.png")[0]
        with PIL.Image.open(f"{name}-h.png") as image:
            maps.append(np.asarray(image))
    assert (200 + legend_height(3, 300), 300, 3) == maps[0].shape == maps[1].shape
    assert np.array_equal(maps[0][200:, :75], maps[1][200:, :75])


@pytest.mark.slow
def test_the_slider_in_a_browser(run, photo: np.ndarray) -> None:
    """Arrow keys move the line; the heat map is laid over."""
    browser, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("needs Chromium and chromedriver (Debian: chromium-driver)")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
    from selenium.webdriver.common.by import By

    PIL.Image.fromarray(photo[:100, 150:300]).save("a.png")
    assert 0 == run("a.png", "-b", "40%", "-o", "o.png", "--compare", "c.html")[0]
    options = ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{word}")
    page = Chrome(options=options, service=ChromeService(driver))
    try:
        page.set_window_size(360, 700)
        page.get(Path("c.html").resolve().as_uri())
        slider, before = page.find_element(By.ID, "at"), page.find_element(By.ID, "before")
        assert page.execute_script("return arguments[0].complete && arguments[0].naturalWidth", before) == 300
        assert "50%" in before.value_of_css_property("clip-path")
        slider.send_keys(Keys.ARROW_RIGHT * 5)
        assert "45%" in before.value_of_css_property("clip-path")
        assert "line at 55%" == slider.get_attribute("aria-valuetext")
        heat = page.find_element(By.ID, "heat")
        assert not heat.is_displayed()
        page.find_element(By.ID, "show-heat").send_keys(Keys.SPACE)
        assert heat.is_displayed()
        assert before.size == heat.size
        sides = page.execute_script("const d = document.documentElement; return [d.scrollWidth, d.clientWidth]")
        assert sides[0] <= sides[1]
        assert [] == [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    finally:
        page.quit()
