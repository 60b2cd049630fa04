"""The page in a real browser: paint, fill, compare, go on, download; keys, fingers, screens; accessibility by axe-core."""

import itertools
import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from services import loaded, mask, picture, process, stored

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian, Ubuntu: apt install chromium)")

AXE = Path(__file__).parent / "axe" / "axe.min.js"
SCREENS = {
    "light": {"viewport": {"width": 1280, "height": 800}},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with process(tmp_path_factory.mktemp("service"), "--max-pixels", "25000000") as found:
        yield found.url


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def tab(browser):
    """A tab for each screen, which all tests share: to open one takes Chromium a second or two."""

    @cache
    def tab(screen: str):
        context = browser.new_context(**SCREENS[screen])
        context.set_default_timeout(120_000)
        return context.new_page()

    return tab


@pytest.fixture
def page(request, tab, url):
    """The page on a screen, loaded anew, which may ask nobody else and must end without an error."""
    page, wrong = tab(getattr(request, "param", "light")), []
    listeners = {
        "pageerror": lambda error: wrong.append(str(error)),
        "console": lambda message: wrong.append(message.text) if is_wrong(message) else None,
        "request": lambda asked: None if asked.url.startswith((url, "blob:")) else wrong.append(asked.url),
    }
    for kind, listener in listeners.items():
        page.on(kind, listener)
    page.goto(url)
    page.wait_for_selector("body[data-state=empty]")
    yield page
    page.unroute_all()
    for kind, listener in listeners.items():
        page.remove_listener(kind, listener)
    assert not wrong


def is_wrong(message) -> bool:
    return message.type == "error" and "status of 422" not in message.text  # one test is refused on purpose


def show(page, name: str, data: bytes) -> None:
    page.set_input_files("#picture-file", {"name": name, "mimeType": "image/png", "buffer": data})
    page.wait_for_selector("body[data-state=painting]")


def shows(page, identity: str, words: str) -> None:
    sync_api.expect(page.locator(f"#{identity}")).to_contain_text(words, timeout=60_000)


def place(page, x: float, y: float, width: int, height: int) -> tuple[float, float]:
    """Where a pixel of the picture, fitted as ``View.fit`` does, lies on the page."""
    box = page.locator("#canvas").bounding_box()
    margin = min(24, box["width"] / 20)
    scale = min((box["width"] - 2 * margin) / width, (box["height"] - 2 * margin) / height, 8)
    return box["x"] + box["width"] / 2 + (x - width / 2) * scale, box["y"] + box["height"] / 2 + (y - height / 2) * scale


def stroke(page, points, width: int, height: int) -> None:
    page.mouse.move(*place(page, *points[0], width, height))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*place(page, *point, width, height), steps=6)
    page.mouse.up()


def filled(page) -> bytes:
    """What the download holds after Fill."""
    page.click("#fill")
    page.wait_for_selector("body[data-state=result]")
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename.endswith("_filled.png")
    return Path(download.value.path()).read_bytes()


def near(points, radius: float, width: int, height: int) -> np.ndarray:
    """Pixels [H, W] within that many of a line through the points."""
    y, x = np.mgrid[:height, :width] + 0.5
    distance = np.full((height, width), np.inf)
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
        distance = np.minimum(distance, np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0)))
    return distance <= radius


def test_paint_fill_download_keeps_known_pixels_to_the_bit(page):
    width, height = 300, 200
    original = picture("RGB", 1, height, width)
    show(page, "photo.png", stored(original))
    size = float(page.locator("#size-text").inner_text().removesuffix(" px"))
    line = [(60, 60), (180, 90), (200, 150)]
    stroke(page, line, width, height)
    result, given = loaded(filled(page)), np.asarray(original)
    assert result.shape == given.shape
    outside, inside = ~near(line, size / 2 + 1.5, width, height), near(line, size / 2 - 1.5, width, height)
    np.testing.assert_array_equal(result[outside], given[outside])
    assert (result[inside] != given[inside]).any(axis=1).mean() > 0.9  # noise that is filled is not what it was


def test_undo_erase_and_go_on_with_the_result(page):
    width, height = 120, 90
    original = np.asarray(picture("RGB", 2, height, width))
    show(page, "photo.png", stored(Image.fromarray(original)))
    assert page.is_disabled("#fill")
    stroke(page, [(20, 20), (60, 20)], width, height)
    stroke(page, [(20, 70), (60, 70)], width, height)
    page.keyboard.press("Control+z")
    assert page.is_enabled("#redo")
    first = loaded(filled(page))
    changed = (first != original).any(axis=2)
    assert changed[10:30].any() and not changed[50:].any()
    page.click("#continue")
    page.wait_for_selector("body[data-state=painting]")
    assert page.locator("#file").inner_text().startswith("photo_filled.png")
    stroke(page, [(80, 20), (80, 70)], width, height)
    page.keyboard.press("e")
    page.locator("#size").fill("100")
    stroke(page, [(80, 80), (81, 80)], width, height)
    second = loaded(filled(page))
    np.testing.assert_array_equal(second[:, :60], first[:, :60])
    assert (second != first).any()


def test_a_mask_with_either_hole_and_one_of_another_size(page):
    original = np.asarray(picture())
    for hole in ("white", "black"):
        drawn = np.asarray(mask()) if hole == "white" else 255 - np.asarray(mask())
        show(page, "photo.png", stored(Image.fromarray(original)))
        if not page.is_visible("#load-mask"):
            page.click("#mask summary")
        page.select_option("#mask-hole", hole)
        wrong = {"name": "m.png", "mimeType": "image/png", "buffer": stored(mask(64, 64))}
        page.set_input_files("#mask-file", wrong)
        shows(page, "status", "The mask is 64")
        page.set_input_files("#mask-file", {**wrong, "buffer": stored(Image.fromarray(drawn))})
        page.wait_for_selector("#fill:enabled")
        result, hidden = loaded(filled(page)), np.asarray(mask()) > 0
        np.testing.assert_array_equal(result[~hidden], original[~hidden])
        assert (result[hidden] != original[hidden]).any(axis=1).mean() > 0.9


def test_what_is_transparent_can_be_the_hole(page):
    layered = picture()
    layered.putalpha(Image.fromarray(255 - np.asarray(mask())))
    show(page, "sticker.png", stored(layered))
    page.click("#mask summary")
    page.check("#alpha")
    result = loaded(filled(page))
    assert (result[..., 3] == 255).all()
    known = np.asarray(mask()) == 0
    np.testing.assert_array_equal(result[known][:, :3], np.asarray(layered)[known][:, :3])


def test_keys_alone_suffice(page):
    original = np.asarray(picture())
    show(page, "photo.png", stored(Image.fromarray(original)))
    page.locator("#canvas").focus()
    for key in (" ", "ArrowRight", "ArrowRight", "ArrowDown", " "):
        page.keyboard.press(key if key != " " else "Space")
    page.keyboard.press("f")
    page.wait_for_selector("body[data-state=result]")
    assert page.evaluate("document.activeElement.id") == "download"
    with page.expect_download() as download:
        page.keyboard.press("d")
    result = loaded(Path(download.value.path()).read_bytes())
    changed = (result != original).any(axis=2)
    assert changed[20, 28] and not changed[:10].any()


def test_a_picture_by_pasting_and_by_dropping(page):
    move = """([data, kind]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(data)], "given.png", { type: "image/png" }));
        const details = { bubbles: true, cancelable: true };
        const event = kind === "paste" ? new ClipboardEvent(kind, { ...details, clipboardData: transfer })
            : new DragEvent(kind, { ...details, dataTransfer: transfer });
        document.body.dispatchEvent(event);
    }"""
    for kind, width in (("paste", 70), ("drop", 80)):
        page.evaluate(move, [list(stored(picture("RGB", 0, 50, width))), kind])
        shows(page, "file", f"given.png · {width} ")


@pytest.mark.sampled
@pytest.mark.parametrize("page", SCREENS, indirect=True)
def test_accessibility_and_fit_in_every_state(page):
    width, height = 300, 200
    for state in ("empty", "painting", "result"):
        if state == "painting":
            show(page, "photo.png", stored(picture("RGB", 1, height, width)))
            for summary in page.locator("summary").all():
                summary.click()
            stroke(page, [(100, 100), (150, 100)], width, height)
        if state == "result":
            page.click("#fill")
            page.wait_for_selector("body[data-state=result]")
        assert violations(page) == []
        reach = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert reach[0] <= reach[1]
        assert page.locator("#canvas").bounding_box()["height"] > 250


def violations(page) -> list[str]:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    return [f"{each['id']}: {[node['html'][:100] for node in each['nodes']]}" for each in found["violations"]]


def test_what_axe_must_find_is_found(page):
    """Planted fault."""
    page.evaluate("document.body.append(document.createElement('button'))")
    assert any(each.startswith("button-name") for each in violations(page))


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_two_fingers_zoom_and_do_not_paint(page):
    show(page, "photo.png", stored(picture("RGB", 1, 200, 300)))
    session = page.context.new_cdp_session(page)
    (x, y), spread = place(page, 150, 100, 300, 200), 20
    for kind, reach in (("touchStart", spread), ("touchMove", 2 * spread), ("touchMove", 3 * spread), ("touchEnd", 0)):
        points = [{"x": x - reach, "y": y, "id": 0}, {"x": x + reach, "y": y, "id": 1}] if reach else []
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert page.is_disabled("#fill")
    page.touchscreen.tap(x, y)
    page.wait_for_selector("#fill:enabled")


@pytest.fixture
def half_a_minute(thorough):
    if not thorough:
        pytest.skip("takes half a minute; make test-all runs it")


def test_a_large_photograph_is_filled_at_full_size(half_a_minute, page):
    width, height = 6000, 4000
    ramp = np.add.outer(np.arange(height) // 16, np.arange(width) // 24).astype(np.uint8)
    original = np.dstack([ramp, ramp[::-1], 255 - ramp])
    show(page, "large.png", stored(Image.fromarray(original), compress_level=1))
    line = [(1000, 1000), (1400, 1200)]
    stroke(page, line, width, height)
    result = loaded(filled(page))
    outside = ~near(line, 250 / 2 + 10, width, height)
    np.testing.assert_array_equal(result[outside], original[outside])
    assert (result != original).any()


def test_the_api_is_a_page(page, url):
    page.goto(f"{url}/docs")
    page.wait_for_selector("article")
    assert page.locator("h2").all_inner_texts()[0].split() == ["POST", "/v1/inpaint"]
    assert violations(page) == []


def test_a_refusal_is_told(page):
    show(page, "photo.png", stored(picture()))
    page.route("**/v1/inpaint*", lambda route: route.fulfill(status=422, body=json.dumps({"detail": "the mask is odd"})))
    stroke(page, [(10, 10), (30, 10)], 56, 40)
    page.click("#fill")
    shows(page, "status", "the mask is odd")
    assert page.get_attribute("body", "data-state") == "painting"
