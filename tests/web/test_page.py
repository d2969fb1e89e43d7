"""The page in a real browser: Chromium without a window, driven as a user would."""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait
from servers import Client, serving

from arm_sr import Upscaler
from arm_sr.web.service import Limits

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs Chromium and chromedriver (Debian: chromium-driver)"),
]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A server of the shipped model."""
    with serving({"plain-x4": Upscaler("plain-x4", backend="onnxruntime")}) as started:
        yield started


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Chromium without a window."""
    options = ChromeOptions()
    options.binary_location = BROWSER
    profile = tmp_path_factory.mktemp("profile")
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", f"user-data-dir={profile}"):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(client: Client, browser: Chrome) -> Iterator[Chrome]:
    """The page as it opens; at the end nothing went wrong in its console but refusals."""
    browser.set_window_size(1200, 900)
    browser.get(f"http://127.0.0.1:{client.port}/")
    WebDriverWait(browser, 30).until(lambda page: page.find_elements(By.CSS_SELECTOR, "#width option"))
    yield browser
    told = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert [] == [text for text in told if "status of 4" not in text]


@pytest.fixture(scope="module")
def picture(photo: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A piece of the photo, 144x112."""
    path = tmp_path_factory.mktemp("pictures") / "photo.png"
    PIL.Image.fromarray(photo[:112, 160:304]).save(path)
    return path


def text_of(page: Chrome, name: str) -> str:
    return page.find_element(By.ID, name).text


def wait_for(page: Chrome, what: Callable[[], object]) -> None:
    stale = [StaleElementReferenceException]  # the page was about to change
    WebDriverWait(page, 60, poll_frequency=0.05, ignored_exceptions=stale).until(lambda _: what())


def facts(page: Chrome) -> dict[str, str]:
    rows = page.find_elements(By.CSS_SELECTOR, "#facts tr")
    return {row.find_element(By.TAG_NAME, "th").text: row.find_element(By.TAG_NAME, "td").text for row in rows}


def share(page: Chrome) -> float:
    """Of the largest sub-net's MACs, in percent."""
    found = re.search(r"([\d.]+)% of the largest", facts(page)["MACs"])
    assert found
    return float(found[1])


def upscaled(page: Chrome, act: Callable[[], object]) -> None:
    """Do something, and wait until the page has a new picture and its curve."""
    before = page.find_element(By.ID, "picture").get_attribute("src")
    act()
    wait_for(page, lambda: page.find_element(By.ID, "picture").get_attribute("src") != before)
    wait_for(page, lambda: page.execute_script("return document.getElementById('picture').complete"))
    wait_for(page, lambda: page.find_elements(By.CSS_SELECTOR, "#curve .line"))


def give(page: Chrome, picture: Path) -> None:
    upscaled(page, lambda: page.find_element(By.ID, "file").send_keys(str(picture)))


def test_a_picture_is_upscaled_and_told_about(page: Chrome, picture: Path) -> None:
    """Result, legend, time, prediction and curve, at the budget of the slider."""
    give(page, picture)
    size = page.execute_script("const p = document.getElementById('picture'); return [p.naturalWidth, p.naturalHeight]")
    assert [576, 448] == size
    assert 0 < share(page) <= 40
    assert "ms" in facts(page)["Time"]
    assert "dB" in facts(page)["Predicted PSNR"]
    assert "PSNR, Y" not in facts(page)
    assert "Done: 576x448" in text_of(page, "status")
    branches = [row.text.split()[0] for row in page.find_elements(By.CSS_SELECTOR, "#legend tbody tr")]
    assert ["bicubic", "w16", "w48", "w64"] == branches
    line = page.find_element(By.CSS_SELECTOR, "#curve .line").get_attribute("points").split()
    assert 20 == len(line)
    now = page.find_element(By.ID, "now")
    nearest = min(line, key=lambda point: abs(float(point.split(",")[0]) - float(now.get_attribute("cx"))))
    assert abs(float(nearest.split(",")[1]) - float(now.get_attribute("cy"))) < 12
    assert "redicted" in page.find_element(By.ID, "curve-section").text


def test_moving_a_slider_moves_the_point(page: Chrome, picture: Path) -> None:
    """By the keyboard, as by the mouse; eta and one branch too."""
    give(page, picture)
    first = float(page.find_element(By.ID, "now").get_attribute("cx"))
    slider = page.find_element(By.ID, "budget")
    upscaled(page, lambda: slider.send_keys(Keys.END))
    wait_for(page, lambda: float(page.find_element(By.ID, "now").get_attribute("cx")) > first)
    assert "100%" == page.find_element(By.ID, "budget-value").text
    upscaled(page, lambda: page.find_element(By.ID, "eta").send_keys(Keys.HOME))
    assert 0 == share(page)
    assert page.find_element(By.CSS_SELECTOR, "[value=eta]").is_selected()
    upscaled(page, lambda: Select(page.find_element(By.ID, "width")).select_by_value("w16"))
    assert page.find_element(By.CSS_SELECTOR, "[value=width]").is_selected()
    assert 2 < share(page) < 8


def test_the_heat_map_lies_over_the_picture(page: Chrome, picture: Path) -> None:
    """In the colours of the legend, and of the picture's size."""
    give(page, picture)
    upscaled(page, lambda: Select(page.find_element(By.ID, "width")).select_by_value("w48"))
    heat = page.find_element(By.ID, "heat")
    assert not heat.is_displayed()
    page.find_element(By.ID, "show-heat").click()
    assert heat.is_displayed()
    assert page.find_element(By.ID, "picture").size == heat.size
    pixel = page.execute_script(
        "const h = document.getElementById('heat'); return [...h.getContext('2d').getImageData(300, 300, 1, 1).data]"
    )
    swatch = page.find_elements(By.CSS_SELECTOR, ".swatch")[2].value_of_css_property("background-color")
    assert re.findall(r"\d+", swatch)[:3] == [str(value) for value in pixel[:3]]


def test_a_ground_truth_is_compared(page: Chrome, picture: Path) -> None:
    """The picture keeps its size, and the PSNR is there, also as a point."""
    page.find_element(By.ID, "truth").click()
    give(page, picture)
    assert "144x112" == facts(page)["Size"]
    assert re.fullmatch(r"\d\d\.\d\d dB", facts(page)["PSNR, Y"])
    assert page.find_element(By.ID, "measured").is_displayed()
    assert "PSNR" in text_of(page, "status")


def test_refusals_are_said_and_forgotten(page: Chrome, picture: Path, tmp_path: Path) -> None:
    """In the server's words, where a screen reader hears them; the next picture is upscaled."""
    (tmp_path / "bad.png").write_bytes(picture.read_bytes()[:500])
    page.find_element(By.ID, "file").send_keys(str(tmp_path / "bad.png"))
    wait_for(page, lambda: "damaged or cut short" in text_of(page, "error"))
    assert "alert" == page.find_element(By.ID, "error").get_attribute("role")
    give(page, picture)
    assert not page.find_element(By.ID, "error").is_displayed()


def test_limits_are_told_before_sending(browser: Chrome, picture: Path) -> None:
    """A file that is too large is not sent."""
    with serving({"plain-x4": Upscaler("plain-x4")}, limits=Limits(body_bytes=1000)) as client:
        browser.get(f"http://127.0.0.1:{client.port}/")
        WebDriverWait(browser, 30).until(lambda page: page.find_elements(By.CSS_SELECTOR, "#width option"))
        browser.find_element(By.ID, "file").send_keys(str(picture))
        wait_for(browser, lambda: "over the 1000" in text_of(browser, "error"))
        browser.get("about:blank")


def test_all_controls_are_reached_by_the_keyboard_and_named(page: Chrome, picture: Path) -> None:
    """In their order, with a frame around the one that has the focus."""
    give(page, picture)
    page.execute_script("document.activeElement.blur()")
    reached = []
    for _ in range(25):
        ActionChains(page).send_keys(Keys.TAB).perform()
        active = page.switch_to.active_element
        if active.tag_name == "body":
            break
        assert active.accessible_name, active.get_attribute("outerHTML")
        assert "none" != active.value_of_css_property("outline-style")
        reached.append(active.get_attribute("id") or active.get_attribute("value") or active.tag_name)
    controls = ["file", "truth", "model", "budget", "budget", "eta", "width", "objective"]
    assert [*controls, "show-heat", "download", "summary"] == reached
    for element in page.find_elements(By.CSS_SELECTOR, "input, select, svg, img, canvas"):
        assert element.accessible_name or not element.is_displayed(), element.get_attribute("outerHTML")


@pytest.mark.parametrize("width", [360, 700, 1200])
def test_nothing_is_cut_in_a_narrow_window(page: Chrome, picture: Path, width: int) -> None:
    """The page never scrolls sideways, and every control is within it."""
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        give(page, picture)
        page.find_element(By.ID, "show-heat").click()
        page.find_element(By.TAG_NAME, "summary").click()
        wide = page.execute_script("const d = document.documentElement; return [d.scrollWidth, d.clientWidth]")
        assert wide[0] == wide[1] <= width
        for element in page.find_elements(By.CSS_SELECTOR, "input, select, img, svg, table, canvas, p"):
            box = element.rect
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width + 0.5, element.get_attribute("outerHTML")[:80]
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_picture_can_be_dropped(page: Chrome, photo: np.ndarray) -> None:
    """Anywhere; the drop carries a real file."""
    script = """
        const [done] = [arguments[0]];
        const canvas = document.createElement("canvas");
        canvas.width = 40; canvas.height = 30;
        canvas.getContext("2d").fillRect(5, 5, 20, 10);
        canvas.toBlob((blob) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([blob], "dropped.png", { type: "image/png" }));
            const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
            document.querySelector("h1").dispatchEvent(new DragEvent("drop", options));
            done(true);
        });
    """
    upscaled(page, lambda: page.execute_async_script(script))
    assert "160x120" == facts(page)["Size"]


def test_the_newest_wish_wins(page: Chrome, picture: Path) -> None:
    """Many changes at once end with the last one."""
    give(page, picture)
    slider = page.find_element(By.ID, "budget")
    slider.send_keys(Keys.HOME)
    time.sleep(0.3)
    upscaled(page, lambda: slider.send_keys(Keys.ARROW_RIGHT * 29))
    wait_for(page, lambda: 20 < share(page) <= 30)


def test_the_policy_holds(page: Chrome) -> None:
    """The browser refuses scripts and addresses that are not ours."""
    page.execute_script(
        "const s = document.createElement('script'); s.text = 'window.bad = 1'; document.body.append(s)"
    )
    assert page.execute_script("return window.bad === undefined")
    blocked = page.execute_async_script(
        "fetch('data:text/plain,x').then(() => arguments[0](false), () => arguments[0](true))"
    )
    assert blocked
    refusals = json.dumps(page.get_log("browser"))
    assert "Content Security Policy" in refusals
