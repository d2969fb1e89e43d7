"""The endpoint over real sockets: the right picture, or the right status with one sentence."""

import asyncio
import base64
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import PIL.Image
import pytest
from servers import Client, png, serving

from arm_sr import Upscaler
from arm_sr.imaging.metrics import psnr, psnr_y
from arm_sr.imaging.resample import lr_bicubic
from arm_sr.report import branch_colours
from arm_sr.web import queue
from arm_sr.web.service import Limits

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def small(photo: np.ndarray) -> np.ndarray:
    """A piece of the photo, 60x50."""
    return np.ascontiguousarray(photo[:50, 180:240])


def assert_refused(reply, status: int, words: str) -> None:
    """With one sentence in JSON."""
    assert (status, "application/json") == (reply.status, reply.headers["content-type"])
    assert ["error"] == list(reply.json)
    sentence = reply.json["error"]
    assert words in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("query", "how"),
    [
        ("", {}),
        ("budget=40%25", {"budget": "40%"}),
        ("eta=1.5", {"eta": 1.5}),
        ("eta=2&objective=mse", {"eta": 2, "objective": "mse"}),
        ("width=w4", {"width": "w4"}),
        ("model=tiny-x2&width=bicubic", {"width": "bicubic"}),
    ],
)
def test_the_answer_is_the_librarys_picture(client: Client, small: np.ndarray, query: str, how: dict) -> None:
    """To the bit, with the report in a header."""
    expected = client.upscalers["tiny-x2"].upscale(small, **how)
    reply = client.post(f"/upscale?{query}", png(small), Content_Type="image/png")
    assert (200, "image/png") == (reply.status, reply.headers["content-type"])
    assert np.array_equal(expected.image, reply.pixels)
    report = json.loads(reply.headers["x-report"])
    for name in ("budget", "branches", "macs", "output", "model", "predicted_psnr"):
        assert expected.stats[name] == report[name]
    assert {"read", "write", "infer", "total"} <= set(report["time_ms"])


def test_json_has_picture_report_and_heat_map(client: Client, small: np.ndarray) -> None:
    """The heat map is the plan's."""
    reply = client.post("/upscale?budget=40%25", png(small), Accept="application/json")
    assert (200, "application/json") == (reply.status, reply.headers["content-type"])
    expected = client.upscalers["tiny-x2"].upscale(small, "40%")
    with PIL.Image.open(io.BytesIO(base64.b64decode(reply.json["picture"]))) as image:
        assert np.array_equal(expected.image, np.asarray(image))
    heat = reply.json["heat_map"]
    assert expected.plan.branch_map.tolist() == heat["rows"]
    assert 2 * expected.plan.grid.patch == heat["patch"]
    assert expected.plan.counts == {branch["name"]: branch["patches"] for branch in heat["branches"]}
    assert sum(branch["macs"] for branch in heat["branches"]) == pytest.approx(expected.plan.macs)
    colours = [tuple(bytes.fromhex(branch["colour"][1:])) for branch in heat["branches"]]
    assert branch_colours(3).tolist() == [list(colour) for colour in colours]


def test_a_deadline_is_answered_with_a_whole_picture(client: Client, small: np.ndarray) -> None:
    """Whatever was done by then."""
    reply = client.post("/upscale?deadline=1ms", png(small))
    assert (100, 120, 3) == reply.pixels.shape
    assert "deadline" == json.loads(reply.headers["x-report"])["budget"]["kind"]


def test_a_ground_truth_is_shrunk_first_and_compared(client: Client, small: np.ndarray) -> None:
    """As `arm-sr evaluate` does; odd rows and columns at the end are left out."""
    truth = small[:49]
    reply = client.post("/upscale?truth=1&width=w8", png(truth))
    expected = client.upscalers["tiny-x2"].upscale(lr_bicubic(truth[:48], 2), width="w8").image
    assert np.array_equal(expected, reply.pixels)
    measured = json.loads(reply.headers["x-report"])["psnr"]
    assert psnr(expected, truth[:48]) == pytest.approx(measured["rgb_all"])
    assert psnr(expected, truth[:48], 2) == pytest.approx(measured["rgb"])
    assert psnr_y(expected, truth[:48], 2) == pytest.approx(measured["y"])


@pytest.mark.parametrize("form", ["png", "jpg", "jpeg", "webp", "tif", "tiff", "bmp"])
def test_formats(client: Client, small: np.ndarray, form: str) -> None:
    """By name, and the type says which."""
    reply = client.post(f"/upscale?width=bicubic&format={form}", png(small))
    kind = {"jpg": "jpeg", "tif": "tiff"}.get(form, form)
    assert (200, f"image/{kind}") == (reply.status, reply.headers["content-type"])
    assert (100, 120, 3) == reply.pixels.shape


def test_grey_alpha_and_16_bits_stay(client: Client, small: np.ndarray) -> None:
    """As with the command."""
    rgba = np.dstack([small, small[..., 0]])
    assert (100, 120, 4) == client.post("/upscale?width=w4", png(rgba)).pixels.shape
    wide = small[..., 0].astype(np.uint16) * 257
    reply = client.post("/upscale?width=w4", png(wide))
    assert ((100, 120), np.uint16) == (reply.pixels.shape, reply.pixels.dtype)
    assert_refused(client.post("/upscale?format=jpg", png(rgba)), 422, "JPEG has no transparency")


def test_the_curve_has_no_hidden_colours(client: Client, small: np.ndarray) -> None:
    """Of transparent pixels, which the plan does not look at."""
    hidden = np.dstack([small, np.zeros(small.shape[:2], np.uint8)])
    hidden[:10, :10, 3] = 255
    hidden[10:] = np.random.default_rng(0).integers(0, 256, hidden[10:].shape, np.uint8) * np.uint8([1, 1, 1, 0])
    curve = client.post("/curve", png(hidden)).json
    plan = client.upscalers["tiny-x2"].plan(hidden, curve["points"][3]["budget"])
    assert plan.predicted_psnr == pytest.approx(curve["points"][3]["psnr"])


def test_the_curve_is_what_plans_predict(client: Client, small: np.ndarray) -> None:
    """At twenty budgets and for every branch; it never falls."""
    reply = client.post("/curve", png(small))
    curve = reply.json
    upscaler = client.upscalers["tiny-x2"]
    assert curve["predicted"] is True
    assert 20 == len(curve["points"])
    for point in curve["points"]:
        plan = upscaler.plan(small, point["budget"])
        assert (plan.predicted_psnr, plan.macs / plan.macs_largest) == pytest.approx((point["psnr"], point["cost"]))
    levels = [point["psnr"] for point in curve["points"]]
    assert sorted(levels) == levels
    assert ["bicubic", "w4", "w8"] == [branch["name"] for branch in curve["branches"]]
    assert (0, 1) == (curve["branches"][0]["cost"], curve["branches"][-1]["cost"])
    half = client.post("/curve?truth=1", png(small)).json
    assert half["points"] != curve["points"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("budget=much", "budget 'much' cannot be read"),
        ("budget=-3%25", "must be above 0"),
        ("budget=40%25&eta=2", "budget and eta exclude each other"),
        ("budget=40%25&budget=50%25", "'budget' is given twice"),
        ("budgte=40%25", "unknown parameter 'budgte'"),
        ("eta=-1", "eta '-1'"),
        ("deadline=40%25", "must be a time"),
        ("width=w99", "unknown branch 'w99'"),
        ("objective=ssim", "unknown objective 'ssim'"),
        ("format=gif", "unknown format 'gif'"),
        ("format=../x", "unknown format '../x'"),
        ("model=plain-x9", "unknown model 'plain-x9'"),
        ("model=/etc", "unknown model '/etc'"),
        ("truth=yes", "truth 'yes'"),
    ],
)
def test_wrong_parameters_are_400(client: Client, small: np.ndarray, query: str, words: str) -> None:
    """Before the picture is looked at."""
    assert_refused(client.post(f"/upscale?{query}", png(small)), 400, words)


def test_nothing_is_measured_within_a_request(
    tiny_model: Path, small: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with serving({"tiny-x2": Upscaler(tiny_model)}) as client:
        assert_refused(client.post("/upscale?budget=50ms", png(small)), 400, "arm-sr calibrate")
    assert [] == list(tmp_path.iterdir())


def test_wrong_bodies_have_a_status_of_their_own(client: Client, small: np.ndarray) -> None:
    """Empty, no picture, cut, of another type, packed."""
    picture = png(small)
    assert_refused(client.post("/upscale", b""), 400, "the body is empty")
    assert_refused(client.post("/upscale", b"no picture"), 422, "the picture: this is not a PNG")
    assert_refused(client.post("/curve", picture[:-20]), 422, "the picture: the picture is damaged")
    for media_type in ("text/plain", "application/json", "application/x-www-form-urlencoded", "image/gif"):
        assert_refused(client.post("/upscale", picture, Content_Type=media_type), 415, f"not '{media_type}'")
    assert_refused(client.post("/upscale", picture, Content_Encoding="gzip"), 415, "Content-Encoding")
    assert 200 == client.post("/upscale", picture, Content_Type="Image/PNG; x=y").status


def test_limits_are_checked_before_decoding(serve, small: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the header; the ground truth need not be a quarter as large."""
    client = serve(limits=Limits(body_bytes=20_000, input_pixels=60 * 60, output_pixels=80 * 80))
    monkeypatch.setattr("arm_sr.web.service.decode_image", lambda *_: pytest.fail("it was decoded"))
    assert_refused(client.post("/upscale", png(small)), 413, "its result has 120x100 pixels, over the 6,400")
    assert_refused(client.post("/upscale", png(np.zeros((61, 60), np.uint8))), 413, "it has 60x61 pixels")
    assert_refused(client.post("/upscale", bytes(20_001)), 413, "over the 20,000 bytes")
    assert_refused(client.post("/upscale", iter([bytes(15_000)] * 2)), 413, "20,000 bytes")
    monkeypatch.undo()
    assert 200 == client.post("/upscale?truth=1", png(small)).status


def test_a_body_that_does_not_come_is_408(serve) -> None:
    """And its place is free again."""
    client = serve(limits=Limits(body_seconds=0.2), waiting=0)
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as slow:
        slow.sendall(b"POST /upscale HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
        assert b" 408 " in slow.recv(1000)
    assert 422 == client.post("/upscale", b"no picture").status


def test_unknown_addresses_and_methods(client: Client) -> None:
    """In JSON too."""
    assert_refused(client.ask("GET", "/nothing"), 404, "no such page")
    assert_refused(client.ask("GET", "/upscale"), 405, "no such method")
    assert_refused(client.ask("DELETE", "/"), 405, "no such method")


def test_the_page_comes_with_its_protection(client: Client) -> None:
    """All three files are ours, and nothing else may be loaded or run."""
    page = client.ask("GET", "/")
    assert (200, "text/html; charset=utf-8") == (page.status, page.headers["content-type"])
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    text = page.body.decode()
    assert [] == re.findall(r"https?://|<style|style=|\son\w+=|<script>", text)
    for path in set(re.findall(r'(?:src|href)="(/[^"]+)"', text)):
        assert 200 == client.ask("GET", path).status
    assert {"tiny-x2"} == {model["name"] for model in client.ask("GET", "/models").json["models"]}


def test_foreign_hosts_and_pages_are_refused(client: Client, serve, small: np.ndarray) -> None:
    """Rebound names and other sites; what the options allow is answered, with leave for the browser."""
    picture, port = png(small), client.port
    own = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    assert 200 == client.post("/upscale?width=w4", picture, **own).status
    assert 200 == client.ask("GET", "/", Host="[::1]:80").status
    own_name = serve(hosts=["192.0.2.7"])
    assert 200 == own_name.ask("GET", "/", Host="192.0.2.7:8765").status
    for host in ("example.org", "127.0.0.1.example.org", "localhost.", "", "[::1", "0.0.0.0"):
        assert_refused(client.ask("GET", "/", Host=host), 403, "--allow-host")
    for origin in ("http://example.org", "null", f"http://localhost:{port + 1}", "http://127.0.0.1", "file://"):
        refused = client.post("/upscale?width=w4", picture, **own | {"Origin": origin})
        assert_refused(refused, 403, "--allow-origin")
        assert "access-control-allow-origin" not in refused.headers
    open_one = serve(hosts=["pictures.example"], origins=["https://App.example/"])
    named = {"Host": "Pictures.Example", "Origin": "https://app.example"}
    reply = open_one.post("/upscale?width=w4", picture, **named)
    assert (200, "https://app.example") == (reply.status, reply.headers["access-control-allow-origin"])
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    assert 200 == open_one.ask("OPTIONS", "/upscale", **named, **asked).status
    assert_refused(open_one.ask("GET", "/", Host="example.org"), 403, "--allow-host")


def traversals() -> list[str]:
    """Three hundred spellings of ways out of a folder."""
    ups = ["../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "..\\", "%252e%252e%252f", "..%c0%af", "....//", ".%2e/",
           "%uff0e%uff0e/", "..;/", "..%00/", "/../", "//../"]  # fmt: skip
    goals = ["etc/passwd", "setup.cfg", "app.py", "static/page.js", "proc/self/environ"]
    starts = ["/", "/static/", "/page.css/", "/models/"]
    return [f"{start}{up * depth}{goal}" for up in ups for goal in goals for start in starts for depth in (1, 4)][::2]


def test_traversal_reaches_no_file(client: Client) -> None:
    """As paths; as the names of models and formats they are wrong parameters."""
    paths = traversals()
    assert 300 == len(set(paths))
    for path in paths:
        reply = client.ask("GET", path)
        assert reply.status in (404, 400), path
        assert b"root:" not in reply.body
        assert len(reply.body) < 100
    for path in paths[::10]:
        assert 400 == client.post(f"/upscale?model={path.replace('%', '%25')}", b"x").status


def test_twenty_at_once_are_answered_or_refused(serve, photo: np.ndarray) -> None:
    """Nobody hangs; who is refused knows when to come again."""
    client = serve(waiting=4)
    picture = png(photo[:200, :200])
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: client.post("/upscale", picture), range(20)))
    answered = [reply for reply in replies if reply.status == 200]
    refused = [reply for reply in replies if reply.status == 429]
    assert 20 == len(answered) + len(refused)
    assert len(answered) >= 5
    assert refused
    for reply in refused:
        assert_refused(reply, 429, "try again in")
        assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert 200 == client.post("/upscale", picture).status


def test_eight_clients_get_their_own_pictures(client: Client, photo: np.ndarray) -> None:
    """And their own reports, again and again."""
    upscaler = client.upscalers["tiny-x2"]
    pictures = [np.ascontiguousarray(photo[40 * n : 40 * n + 60, 40 * n : 40 * n + 50 + n]) for n in range(8)]
    widths = [upscaler.branches[n % 3] for n in range(8)]
    expected = [upscaler.upscale(lr, width=width).image for lr, width in zip(pictures, widths, strict=True)]

    def ask(number: int) -> None:
        for _ in range(4):
            while (reply := client.post(f"/upscale?width={widths[number]}", png(pictures[number]))).status == 429:
                time.sleep(0.05)
            assert np.array_equal(expected[number], reply.pixels)
            assert widths[number] == json.loads(reply.headers["x-report"])["budget"]["requested"]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))


def test_a_client_that_goes_away_leaves_its_place(serve, small: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of its body, while it waits, and while its picture is computed, which ends at the next tile."""
    client = serve(waiting=1)
    upscaler, picture = client.upscalers["tiny-x2"], png(small)
    begun, ended = threading.Event(), threading.Event()

    def endless(image: np.ndarray, **how: object) -> object:
        begun.set()
        try:
            for _ in range(1000):
                upscaler.progress(1)
                time.sleep(0.01)
        finally:
            ended.set()

    @contextmanager
    def asking(sent: int) -> Iterator[None]:
        with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
            head = f"POST /upscale HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(picture)}\r\n\r\n".encode()
            connection.sendall(head + picture[:sent])
            yield

    def answered() -> bool:
        until = time.monotonic() + 30
        while (status := client.post("/upscale", picture).status) == 429 and time.monotonic() < until:
            time.sleep(0.02)
        return status == 200

    for _ in range(5):
        with asking(100):
            pass
    assert answered()
    monkeypatch.setattr(upscaler, "upscale", endless)
    with asking(len(picture)):
        assert begun.wait(30)
        with asking(len(picture)):
            pass
    assert ended.wait(30)
    monkeypatch.undo()
    assert answered()


def test_faults_of_the_server_are_500_in_json(client: Client, small: np.ndarray, monkeypatch) -> None:
    """One sentence, without the inside of the program; and the next request is answered."""
    upscaler = client.upscalers["tiny-x2"]

    def fault(error: Exception):
        def raised(*_: object, **__: object) -> object:
            raise error

        monkeypatch.setattr(upscaler, "upscale", raised)
        return client.post("/upscale", png(small))

    assert_refused(fault(RuntimeError("secret")), 500, "something went wrong")
    assert_refused(fault(MemoryError()), 503, "not enough memory")
    monkeypatch.undo()
    assert 200 == client.post("/upscale", png(small)).status


def test_rubbish_instead_of_http_is_survived(client: Client) -> None:
    """Huge headers, no HTTP, negative lengths."""
    for data in (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 300_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 300_000,
        os.urandom(5000) + b"\r\n\r\n",
        b"POST /upscale HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /upscale HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", client.port), timeout=30) as connection:
            try:
                connection.sendall(data)
                assert re.match(rb"HTTP/1.1 4\d\d ", connection.recv(1000)), data[:60]
            except (BrokenPipeError, ConnectionResetError):
                pass
    assert 200 == client.ask("GET", "/").status


def test_work_that_nobody_waits_for_is_not_kept() -> None:
    """While another is worked for, many come and go: their bodies are free at once, and they never begin."""
    begun, go_on, begins = threading.Event(), threading.Event(), []

    class Body:
        """What a request holds."""

    def long(stop: queue.Stop) -> None:
        begun.set()
        go_on.wait(60)

    async def here() -> bool:
        return False

    async def gone() -> bool:
        return True

    async def run() -> None:
        works = queue.WorkQueue(8)
        first = asyncio.create_task(works.run(long, here))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        bodies = []
        for _ in range(3):
            body = Body()
            bodies.append(weakref.ref(body))
            with pytest.raises(queue.AbandonedError):
                await works.run(lambda _, body=body: begins.append(body), gone)
            del body
        assert [None] * 3 == [body() for body in bodies]
        go_on.set()
        await first
        await asyncio.to_thread(works.close)

    asyncio.run(run())
    assert not begins


def test_work_that_nobody_waits_for_never_begins() -> None:
    """A check between two tiles ends it."""
    stop = queue.Stop()
    stop.check()
    stop.set()
    with pytest.raises(queue.AbandonedError):
        stop.check()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal(tiny_model: Path, small: np.ndarray, number: signal.Signals) -> None:
    """On the loopback, with status 0 and nothing but its address said; a connection that is open does not hold it."""
    command = [sys.executable, "-m", "arm_sr", "serve", "-m", str(tiny_model), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        line = process.stderr.readline()
        found = re.search(r"tiny-x2 at (http://127\.0\.0\.1:(\d+)) ", line)
        assert found, line
        with urlopen(found[1], timeout=30) as page:
            assert b"arm_sr" in page.read()
        idle = http.client.HTTPConnection("127.0.0.1", int(found[2]), timeout=30)
        idle.request("GET", "/models")
        assert 200 == idle.getresponse().status
        process.send_signal(number)
        assert (0, "") == (process.wait(30), process.stderr.read())
        idle.close()


def test_shutting_down_drops_what_is_computed(tiny: dict[str, Upscaler], small: np.ndarray, monkeypatch) -> None:
    """At the next tile, within the grace."""
    upscaler, begun = tiny["tiny-x2"], threading.Event()

    def endless(image: np.ndarray, **how: object) -> None:
        begun.set()
        while True:
            upscaler.progress(1)
            time.sleep(0.01)

    monkeypatch.setattr(upscaler, "upscale", endless)
    monkeypatch.setattr("arm_sr.web.server.GRACE", 0)
    with ThreadPoolExecutor(1) as pool, serving(tiny) as client:
        asked = pool.submit(client.post, "/upscale", png(small))
        assert begun.wait(30)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        assert 500 == asked.result(30).status
        raise ConnectionResetError
