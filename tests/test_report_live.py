"""The live panel in a real browser: the model that runs in the page, and a picture to draw in."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from tests.breaking import repin
from tests.conftest import REFERENCE
from tests.looks import CHECKS, SCHEMES, WIDTHS, Look, chromium, look, needs_browser
from tests.reports import copied, edit_manifest, reported
from tests.wasm import needs_clang, reference_chain
from toolkit.c_code.chain import run
from toolkit.c_code.source import write_source
from toolkit.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from playwright.sync_api import Browser, Page

    from toolkit.data import FashionMnist

pytestmark = [needs_browser, needs_clang]

NO_VECTORS = "WebAssembly.validate = () => false;"
READY = "() => document.getElementById('live-time').textContent && document.getElementById('live-said').textContent"
CELLS = "all => all.map((e) => [e.getAttribute('class'), Number(e.getAttribute('fill-opacity'))])"
HEIGHTS = "all => all.map((e) => e.getBoundingClientRect().height)"
LOGITS = """([text, size]) => {
  const bytes = Uint8Array.from(atob(text), (each) => each.charCodeAt(0)), found = [];
  const { model } = document.getElementById("live-panel");
  for (let at = 0; at < bytes.length; at += size)
    found.push(...new Uint32Array(model.run(bytes.subarray(at, at + size)).buffer));
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from chromium()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The reference artifact's page, and what the command says of it."""
    artifact = copied(tmp_path_factory.mktemp("live"))
    _, found, _ = reported(artifact)
    return artifact / "report.html", found


@pytest.fixture
def seen(browser: Browser, made: tuple[Path, dict[str, Any]]) -> Iterator[Look]:
    found = opened(browser, made[0])
    yield found
    assert found.said == []
    found.page.context.close()


def opened(browser: Browser, path: Path, width: int = 1400, scheme: str = "light", **options: Any) -> Look:
    found = look(browser, path, width, scheme, **options)
    found.page.wait_for_function(READY)
    return found


def pixels(page: Page) -> NDArray[np.uint8]:
    """What the model was given last."""
    given = page.evaluate("Array.from(document.getElementById('live-panel').model.input)")
    return np.array(given, np.uint8).reshape(28, 28)


def shown_is_what_python_computes(page: Page) -> None:
    """Every neuron and every answer on the page follows from the picture on the page."""
    chain, values = reference_chain(), pixels(page).reshape(-1).astype(np.int64)
    for at, layer in enumerate(chain.layers[:-1]):
        sums = layer.weights.astype(np.int64) @ values + layer.bias
        values = np.clip(np.rint(sums.astype(np.float32) * layer.multipliers), 0, 255).astype(np.int64)
        caption = page.locator(f"#live-caption-{at}").text_content()
        assert caption == f"{layer.name}: {(values > 0).sum()} of {layer.outputs} active"
        cells = page.eval_on_selector_all(f"#live-layer-{at} rect", CELLS)
        assert [kind for kind, _ in cells] == ["" if value > 0 else "off" for value in values]
        strong = [opacity if kind == "" else 0 for kind, opacity in cells]
        expected = np.where(values > 0, 0.12 + 0.88 * values / max(values.max(), 1), 0)
        np.testing.assert_allclose(strong, expected, atol=0.006)
    logits = run(chain, pixels(page)[None])[0].astype(np.float64)
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    rows = page.locator("#live-answers li").all()
    assert [row.locator(".live-name").text_content() for row in rows] == list(chain.class_names)
    said = [float(str(row.locator(".live-value").text_content()).rstrip("%")) for row in rows]
    np.testing.assert_allclose(said, 100 * shares, atol=0.051)
    assert "said" in str(rows[int(shares.argmax())].get_attribute("class"))
    assert page.locator("#live-answers .said").count() == 1
    name = chain.class_names[int(shares.argmax())]
    page.wait_for_function(f"document.getElementById('live-said').textContent.startsWith({f'Says {name} ('!r})")


@pytest.mark.parametrize("script", ["", NO_VECTORS], ids=["vectors", "plain"])
def test_the_page_computes_the_bits_and_labels_that_python_does(
    browser: Browser, made: tuple[Path, dict[str, Any]], fashion_mnist: FashionMnist, script: str
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(script)
    page.goto(made[0].as_uri())
    page.wait_for_function(READY)
    assert (" with vectors" in str(page.locator("#live-time").text_content())) == (not script)
    rows = fashion_mnist.test_images[2_000:2_400]
    bits = page.evaluate(LOGITS, [base64.b64encode(rows.tobytes()).decode(), 784])
    found = np.array(bits, np.uint32).reshape(400, 10)
    np.testing.assert_array_equal(found, run(reference_chain(), rows).view(np.uint32))
    said = Predictor(REFERENCE, kind="int8").predict_batch(rows).labels
    np.testing.assert_array_equal(found.view(np.float32).argmax(axis=1), said)
    context.close()


def test_its_rows_are_test_rows_and_it_compares_itself(
    seen: Look, made: tuple[Path, dict[str, Any]], fashion_mnist: FashionMnist
) -> None:
    page, live = seen.page, made[1]["live"]
    count = len(live["rows"])
    assert count > 60
    assert sum(not row["right"] for row in live["rows"]) >= 12
    assert {row["label"] for row in live["rows"]} == set(range(10))
    proof = page.locator("#live-proof")
    assert str(proof.text_content()).startswith(f"On all {count} test rows of this panel it gives the very bits")
    assert "good" in str(proof.get_attribute("class"))
    options = page.locator("#live-row option")
    assert options.count() == count
    for at in (0, count // 2, count - 1):
        page.get_by_label("Start from").select_option(index=at)
        entry = live["rows"][int(str(options.nth(at).get_attribute("value")))]
        np.testing.assert_array_equal(pixels(page), fashion_mnist.test_images[entry["row"]])
        shown_is_what_python_computes(page)
        assert page.locator("#live-answers .true .live-name").text_content() == entry["title"]
        assert ("mistaken" in str(options.nth(at).text_content())) == (not entry["right"])


def spoilt(path: Path, target: Path, at: int) -> Path:
    """The page with one bit of the module changed, `at` bytes from its end."""
    text = path.read_text(encoding="utf-8")
    before, data, after = re.split(r'(?<=id="live-data">)(.*?)(?=</script>)', text, maxsplit=1, flags=re.DOTALL)
    found = json.loads(data)
    rest = bytearray(base64.b64decode(found["rest"]))
    rest[at] ^= 0x40
    found["rest"] = base64.b64encode(rest).decode()
    target.write_text(before + json.dumps(found) + after, encoding="utf-8")
    return target


def test_one_changed_bit_of_a_weight_is_seen_and_said(
    browser: Browser, made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    text = made[0].read_text(encoding="utf-8")
    rest = base64.b64decode(re.search(r'"rest": "([^"]*)"', text)[1])  # type: ignore[index]  # it is there
    weight = rest.index(reference_chain().layers[2].weights[3].tobytes()) + 5
    page = opened(browser, spoilt(made[0], tmp_path / "spoilt.html", weight)).page
    proof = page.locator("#live-proof")
    assert re.match(r"On \d+ of \d+ test rows it gives other bits than onnxruntime", str(proof.text_content()))
    assert "bad" in str(proof.get_attribute("class"))
    colour = proof.evaluate("e => getComputedStyle(e).color")
    assert colour == "rgb(192, 31, 46)"  # --bad
    page.context.close()


def test_a_module_that_is_none_is_said_in_one_line(
    browser: Browser, made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    text = made[0].read_text(encoding="utf-8")
    (tmp_path / "broken.html").write_text(re.sub(r'"simd": "....', '"simd": "AAAA', text), encoding="utf-8")
    found = look(browser, tmp_path / "broken.html", 768, "light")
    found.page.locator("#live-failed").wait_for()
    assert str(found.page.locator("#live-failed").text_content()).startswith("This browser does not run the model: ")
    assert found.page.locator("#live-panel").is_hidden()
    assert found.said == []
    found.page.context.close()


def test_without_a_script_it_says_what_it_needs(browser: Browser, made: tuple[Path, dict[str, Any]]) -> None:
    page = look(browser, made[0], 768, "light", java_script_enabled=False).page
    assert page.locator("noscript p").is_visible()
    assert page.locator("#live-panel").is_hidden()
    page.context.close()


def middle(page: Page, column: int, row: int) -> tuple[float, float]:
    """Where a pixel of the picture is on the screen, onto which it is scrolled."""
    page.locator("#live-picture").evaluate("e => e.scrollIntoView({ block: 'center', behavior: 'instant' })")
    box = page.locator("#live-canvas").bounding_box()
    assert box is not None
    return box["x"] + (column + 0.5) * box["width"] / 28, box["y"] + (row + 0.5) * box["height"] / 28


def set_range(page: Page, name: str, value: int) -> None:
    page.get_by_label(name, exact=True).fill(str(value))


def test_drawing_and_erasing_with_a_mouse(seen: Look) -> None:
    page = seen.page
    page.get_by_role("button", name="Clear").click()
    assert not pixels(page).any()
    set_range(page, "Width", 1)
    set_range(page, "Grey", 200)
    page.mouse.click(*middle(page, 5, 7))
    expected = np.zeros((28, 28), np.uint8)
    expected[7, 5] = 200
    np.testing.assert_array_equal(pixels(page), expected)
    assert page.locator("#live-spot").text_content() == "column 5, row 7: 200"
    shown_is_what_python_computes(page)
    # A fast pointer: two events alone, and yet no gap between them.
    set_range(page, "Grey", 255)
    page.mouse.move(*middle(page, 2, 20))
    page.mouse.down()
    page.mouse.move(*middle(page, 25, 20))
    page.mouse.up()
    expected[20, 2:26] = 255
    np.testing.assert_array_equal(pixels(page), expected)
    page.mouse.move(*middle(page, 10, 10))  # no button is down
    np.testing.assert_array_equal(pixels(page), expected)
    page.get_by_label("Erase").check()
    set_range(page, "Width", 3)
    page.mouse.click(*middle(page, 10, 20))
    expected[19:22, 9:12] = 0
    np.testing.assert_array_equal(pixels(page), expected)
    shown_is_what_python_computes(page)
    assert str(page.locator("#live-pixels").text_content()).startswith("784 pixels, ")
    page.get_by_role("button", name="Back to the test row").click()
    assert page.locator("#live-pixels").text_content() == "784 pixels"
    assert pixels(page).any()


def test_the_canvas_shows_the_pixels_that_the_model_gets(seen: Look) -> None:
    page = seen.page
    drawn = page.evaluate(
        "Array.from(document.getElementById('live-canvas').getContext('2d').getImageData(0, 0, 28, 28).data)"
    )
    shown = np.array(drawn, np.uint8).reshape(28, 28, 4)
    for channel in range(3):
        np.testing.assert_array_equal(shown[:, :, channel], pixels(page))
    assert (shown[:, :, 3] == 255).all()


def test_drawing_with_a_finger(browser: Browser, made: tuple[Path, dict[str, Any]]) -> None:
    found = opened(browser, made[0], 360, has_touch=True, is_mobile=True)
    page = found.page
    page.get_by_role("button", name="Clear").tap()
    page.touchscreen.tap(*middle(page, 12, 9))
    found_pixels = pixels(page)
    assert (found_pixels[9:11, 12:14] == 255).all()  # a pen two pixels wide
    assert np.count_nonzero(found_pixels) == 4
    # A finger in the picture draws, and does not scroll the page.
    assert page.locator("#live-picture").evaluate("e => getComputedStyle(e).touchAction") == "none"
    shown_is_what_python_computes(page)
    assert found.said == []
    page.context.close()


def moved(picture: NDArray[np.uint8], right: int, down: int) -> NDArray[np.uint8]:
    wide = np.pad(picture, 1)
    return wide[1 - down : 29 - down, 1 - right : 29 - right]


@pytest.mark.parametrize(
    ("name", "key", "right", "down"),
    [("left", "Left", -1, 0), ("right", "Right", 1, 0), ("up", "Up", 0, -1), ("down", "Down", 0, 1)],
)
def test_shifting(seen: Look, name: str, key: str, right: int, down: int) -> None:
    page = seen.page
    expected = moved(pixels(page), right, down)
    page.get_by_role("button", name=f"Shift {name} by a pixel").click()
    np.testing.assert_array_equal(pixels(page), expected)
    shown_is_what_python_computes(page)
    page.locator("#live-picture").press(f"Shift+Arrow{key}")
    np.testing.assert_array_equal(pixels(page), moved(expected, right, down))


def test_flipping(seen: Look) -> None:
    page = seen.page
    begun = pixels(page)
    page.get_by_role("button", name="Flip left to right").click()
    np.testing.assert_array_equal(pixels(page), begun[:, ::-1])
    page.get_by_role("button", name="Flip top to bottom").click()
    np.testing.assert_array_equal(pixels(page), begun[::-1, ::-1])
    shown_is_what_python_computes(page)


def test_everything_goes_by_keys(seen: Look) -> None:
    page = seen.page
    page.get_by_label("Start from").focus()
    before = pixels(page)
    page.keyboard.press("ArrowDown")
    assert (pixels(page) != before).any()
    for _ in range(2):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.ariaLabel") == "Next test row"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "live-picture"
    assert page.locator("#live-mark").is_visible()
    expected = pixels(page).copy()
    assert page.locator("#live-spot").text_content() == f"column 14, row 14: {expected[14, 14]}"
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
    assert page.locator("#live-spot").text_content() == f"column 12, row 13: {expected[13, 12]}"
    page.keyboard.press("Backspace")
    expected[13:15, 12:14] = 0
    np.testing.assert_array_equal(pixels(page), expected)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    expected[13:15, 13:15] = 255
    np.testing.assert_array_equal(pixels(page), expected)
    for _ in range(40):  # the mark stays in the picture
        page.keyboard.press("ArrowRight")
    assert page.locator("#live-spot").text_content() == f"column 27, row 13: {expected[13, 27]}"
    shown_is_what_python_computes(page)
    page.keyboard.press("Tab")  # out of the picture again
    assert page.evaluate("document.activeElement.name") == "live-pen"


def test_previous_and_next_go_round(seen: Look) -> None:
    page = seen.page
    last = page.locator("#live-row option").count() - 1
    page.get_by_role("button", name="Previous test row").click()
    assert page.evaluate("document.getElementById('live-row').selectedIndex") == last
    page.get_by_role("button", name="Next test row").click()
    assert page.evaluate("document.getElementById('live-row').selectedIndex") == 0


def test_everything_has_a_name_for_who_cannot_see(seen: Look) -> None:
    page = seen.page
    tree = page.locator("#live-panel").aria_snapshot()
    for control in ("button", "combobox", "radio", "slider", "application", "img"):
        lines = [line.strip() for line in tree.splitlines() if re.match(rf"\s*- '?{control}\b", line)]
        assert lines, control
        assert all(re.match(rf"- '?{control} \"[^\"]+\"", line) for line in lines), lines
    assert page.locator("#live-said").get_attribute("role") == "status"
    page.locator("#live-layer-0 rect").nth(3).hover()
    assert re.fullmatch(r"neuron 3: [\d.]+", str(page.locator("#live-layer-0 rect title").nth(3).text_content()))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_fits_and_can_be_read_whatever_is_drawn(
    browser: Browser, made: tuple[Path, dict[str, Any]], width: int, scheme: str
) -> None:
    found = opened(browser, made[0], width, scheme)
    page = found.page
    for name in ("Next test row", "Flip left to right", "Shift up by a pixel", "Clear", "Measure again"):
        page.get_by_role("button", name=name).click()
        page.wait_for_timeout(200)
        for check in CHECKS:
            assert page.evaluate(check) == [], name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for size in page.eval_on_selector_all("#live-panel button", HEIGHTS):
        assert size >= 32  # for a finger
    fetched = [url for url in found.requests if not url.startswith("data:")]
    assert fetched == [made[0].as_uri()]
    assert found.said == []
    page.context.close()


def test_on_paper_there_is_the_picture_with_its_answers_and_no_button(seen: Look) -> None:
    page = seen.page
    page.set_viewport_size({"width": 794, "height": 1123})
    page.emulate_media(media="print")
    assert page.locator("#live-canvas").is_visible()
    assert page.locator("#live-answers").is_visible()
    for kind in ("button", "input", "select"):
        assert not any(each.is_visible() for each in page.locator(f"#live-panel {kind}").all())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def with_c(artifact: Path, *, weight: int | None = None) -> None:
    """Put C files into an artifact, as an export with them does; with one weight changed where it is given."""
    source = write_source(reference_chain(), "another name")
    code = source.code
    if weight is not None:
        before, head, weights = code.partition("weights_3[1536] MODEL_ALIGNED = {\n")
        assert head
        values = weights.split(",", 1)
        code = f"{before}{head}    {weight},{values[1]}"
    for name, text in (("model.c", code), ("model.h", source.header)):
        (artifact / name).write_text(text)
        record = {"kind": "c", "sha256": "", "bytes": len(text)}
        edit_manifest(artifact, lambda manifest, name=name, record=record: manifest["files"].update({name: record}))  # type: ignore[misc]  # defaults bind
    repin(artifact)


@pytest.mark.parametrize("weight", [None, 126])
def test_the_artifacts_own_c_is_what_runs(browser: Browser, tmp_path: Path, weight: int | None) -> None:
    artifact = copied(tmp_path)
    with_c(artifact, weight=weight)
    reported(artifact)
    page = opened(browser, artifact / "report.html").page
    assert ("good" in str(page.locator("#live-proof").get_attribute("class"))) == (weight is None)
    page.context.close()


def test_without_a_compiler_the_report_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, browser: Browser
) -> None:
    artifact = copied(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    text, found, done = reported(artifact)
    live = cast("dict[str, str]", found["live"])
    assert live["missing"].startswith("There is no live panel: WebAssembly is compiled with clang and lld")
    assert live["command"] == "apt-get install clang lld && toolkit report fashion-mnist"
    assert live in found["missing"]
    assert live["command"] in done.err
    assert "live-data" not in text
    assert "wasm-unsafe-eval" not in text
    page = look(browser, artifact / "report.html", 360, "dark").page
    assert page.locator("section#live .missing").is_visible()
    for check in CHECKS:
        assert page.evaluate(check) == []
    page.context.close()
