"""Reading pictures: bit for bit where that can be, by one rule where not, one clear line for what is no picture."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import threading
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from toolkit import images as module
from toolkit.errors import InputError, MissingError, ToolkitError
from toolkit.idx import gunzip, pack, unpack_images
from toolkit.images import ImageFile, read_images

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PIXELS = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
MANY = st.integers(0, 5).flatmap(lambda n: arrays(np.uint8, (n, 28, 28)))


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _read(data: bytes) -> ImageFile:
    return read_images("-", data)


def _same(left: NDArray[Any], right: NDArray[Any]) -> None:
    assert left.dtype == np.uint8
    np.testing.assert_array_equal(left, right, strict=True)


# As it is


def test_a_28x28_grey_png_is_taken_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "with a space.png"
    Image.fromarray(PIXELS).save(path)
    file = read_images(path)
    _same(file.images, PIXELS[np.newaxis])
    assert file.notes == ()
    assert file.names == [str(path)]


@pytest.mark.parametrize("level", [0, 255])
def test_a_28x28_grey_picture_is_never_inverted(level: int) -> None:
    _same(_read(_encoded(Image.new("L", (28, 28), level))).images, np.full((1, 28, 28), level, np.uint8))


def test_a_28x28_grey_jpeg_is_what_pillow_decodes() -> None:
    data = _encoded(Image.fromarray(PIXELS), "JPEG", quality=90)
    with Image.open(io.BytesIO(data)) as image:
        _same(_read(data).images[0], np.asarray(image))


@given(MANY)
def test_any_array_survives_npy(array: NDArray[np.uint8]) -> None:
    _same(_read(_npy(array)).images, array)
    _same(_read(_npy(np.asfortranarray(array))).images, array)


@given(MANY)
def test_any_array_survives_idx(array: NDArray[np.uint8]) -> None:
    _same(_read(pack(array)).images, array)
    _same(_read(gzip.compress(pack(array))).images, array)


@given(MANY.filter(len))
def test_any_array_survives_a_raw_pipe(array: NDArray[np.uint8]) -> None:
    file = _read(array.tobytes())
    if not array.tobytes().startswith(module._JPEG):
        _same(file.images, array)


def test_one_image_in_npy() -> None:
    _same(_read(_npy(PIXELS)).images, PIXELS[np.newaxis])


def test_what_a_file_is_its_bytes_say(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(gzip.compress(pack(PIXELS[np.newaxis])))
    _same(read_images(path).images[0], PIXELS)


def test_several_images_are_named_by_index() -> None:
    assert _read(np.zeros(784 * 3, np.uint8).tobytes()).names == ["-[0]", "-[1]", "-[2]"]


def test_a_named_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(_npy(PIXELS),))
    writer.start()
    _same(read_images(path).images[0], PIXELS)
    writer.join()


# The rule for other pictures


def _shape_on(background: int, ink: int, size: tuple[int, int] = (56, 56)) -> Image.Image:
    image = Image.new("L", size, background)
    image.paste(ink, (20, 10, 36, 46))
    return image


def test_a_dark_thing_on_white_becomes_bright_on_black() -> None:
    dark, bright = _read(_encoded(_shape_on(255, 0))), _read(_encoded(_shape_on(0, 255)))
    _same(dark.images, bright.images)
    assert dark.images[0, 14, 14] == 255
    assert dark.images[0, 0].max() == 0
    assert dark.notes == ("standard input: 56x56 L picture inverted, as its border is bright, fitted into 28x28",)
    assert bright.notes == ("standard input: 56x56 L picture fitted into 28x28",)


@pytest.mark.parametrize(("level", "inverted"), [(127, False), (128, True)])
def test_where_inversion_begins(level: int, *, inverted: bool) -> None:
    expected = 255 - level if inverted else level
    assert _read(_encoded(Image.new("L", (30, 30), level))).images[0, 14, 14] == expected


def test_only_the_outermost_pixels_decide_on_inversion() -> None:
    image = Image.new("L", (28, 30), 255)
    image.paste(0, (0, 0, 28, 1))
    image.paste(0, (0, 29, 28, 30))
    image.paste(0, (0, 0, 1, 30))  # three of four sides are dark, so the median is
    assert _read(_encoded(image)).images[0, 14, 14] == 255


@pytest.mark.parametrize(("size", "band"), [((56, 28), (7, 21, 0, 28)), ((28, 56), (0, 28, 7, 21))])
def test_a_picture_keeps_its_shape_and_is_centred_on_black(
    size: tuple[int, int], band: tuple[int, int, int, int]
) -> None:
    pixels = _read(_encoded(Image.new("L", size, 100))).images[0]
    expected = np.zeros((28, 28), np.uint8)
    expected[band[0] : band[1], band[2] : band[3]] = 100
    _same(pixels, expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1), (27, 28), (3000, 2000)])
def test_any_size_gives_28x28(size: tuple[int, int]) -> None:
    assert _read(_encoded(Image.new("L", size, 80))).images.shape == (1, 28, 28)


def test_colours_become_luma() -> None:
    image = Image.new("RGB", (28, 28), (10, 200, 30))
    file = _read(_encoded(image))
    assert set(file.images.ravel().tolist()) == {round(0.299 * 10 + 0.587 * 200 + 0.114 * 30)}
    assert file.notes == ("standard input: 28x28 RGB picture made grey",)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_lies_on_white(mode: str) -> None:
    image = Image.new(mode, (28, 28), 0)  # transparent black: must not be seen as black
    image.paste((0, 0, 0, 255) if mode == "RGBA" else (0, 255), (10, 10, 18, 18))
    file = _read(_encoded(image))
    expected = np.zeros((28, 28), np.uint8)
    expected[10:18, 10:18] = 255
    _same(file.images[0], expected)
    assert "transparency laid on white" in file.notes[0]


def test_a_transparent_colour_of_a_grey_or_indexed_png() -> None:
    small = _shape_on(7, 0).crop((14, 14, 42, 42))
    for image in (_shape_on(7, 0), _shape_on(7, 0).convert("P"), small):
        file = _read(_encoded(image, transparency=7))
        assert file.images[0, 0, 0] == 0
        assert file.images[0, 14, 14] == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_that_was_turned(orientation: int) -> None:
    from PIL import ImageOps

    upright = Image.fromarray(np.arange(60 * 40, dtype=np.uint32).reshape(60, 40).astype(np.uint8) // 2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _encoded(upright, "PNG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = _read(_encoded(ImageOps.exif_transpose(image)))  # Pillow's own idea of it
    file = _read(data)
    _same(file.images, expected.images)
    assert ("turned upright" in file.notes[0]) == (orientation > 1)


def test_a_turned_28x28_picture_is_only_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    dark = PIXELS // 3
    file = _read(_encoded(Image.fromarray(dark), exif=exif))
    _same(file.images[0], np.rot90(dark, -1))


def test_broken_exif_is_no_reason_to_refuse_a_picture() -> None:
    data = _encoded(Image.fromarray(PIXELS), "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff broken")
    assert _read(data).images.shape == (1, 28, 28)


def test_sixteen_bits_are_scaled_not_cut_off() -> None:
    grey = np.zeros((28, 28), np.uint16)
    grey[10:18, 10:18], grey[0, 0] = 0xFFFF, 0x8080
    file = _read(_encoded(Image.fromarray(grey)))
    assert (file.images[0, 14, 14], file.images[0, 0, 0]) == (0xFF, 0x80)
    assert "from 16 to 8 bits" in file.notes[0]


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "CMYK", "I;16"])
def test_other_modes_are_read(mode: str) -> None:
    image = Image.new("L", (30, 30)).convert("RGB").convert(mode) if mode != "I;16" else Image.new(mode, (30, 30))
    file = _read(_encoded(image, "JPEG" if mode == "CMYK" else "PNG"))
    assert file.images.max() <= 2  # JPEG may be off by a little


# What is no picture


def _png_that_claims(width: int, height: int) -> bytes:
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    chunk = (13).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk + (0).to_bytes(4, "big") + b"IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "standard input is empty"),
        (b"hello", "begins with b'hello'"),
        (bytes(785), "785 bytes are no multiple of 784"),
        (_encoded(Image.fromarray(PIXELS))[:-300], "cannot be decoded"),
        (_encoded(Image.fromarray(PIXELS), "JPEG")[:300], "cannot be decoded"),
        (_encoded(Image.fromarray(PIXELS).resize((90, 90)), "JPEG")[:-900], "cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n", "damaged PNG or JPEG header"),
        (_png_that_claims(9_000, 9_000), "more than 64 million pixels"),
        (_png_that_claims(60_000, 60_000), "more than 64 million pixels"),
        (_npy(PIXELS)[:-1], "783 bytes of pixels, its header says 784"),
        (_npy(PIXELS) + b"x", "785 bytes of pixels"),
        (_npy(PIXELS)[:20], "damaged .npy header"),
        (b"\x93NUMPY\x09\x09" + bytes(100), "damaged .npy header"),
        (_npy(PIXELS.astype(np.float32)), "convert with array.astype(numpy.uint8)"),
        (_npy(PIXELS / 255), "undo the division by 255"),
        (_npy(np.full((28, 28), np.nan)), "NaN or infinity"),
        (_npy(PIXELS.astype(np.int64) - 1), "values run from -1 to"),
        (_npy(PIXELS.astype(np.int64)), "convert with array.astype(numpy.uint8)"),
        (_npy(np.zeros((28, 28), np.uint8).astype(str)), "holds dtype <U"),
        (_npy(np.array([[{}]], object)), "holds dtype object"),
        (_npy(PIXELS.reshape(784)), "has shape (784,)"),
        (_npy(PIXELS[np.newaxis, :, :, np.newaxis]), "has shape (1, 28, 28, 1)"),
        (_npy(np.zeros((2, 2, 28, 28), np.uint8)), "has shape (2, 2, 28, 28)"),
        (_npy(np.array(3, np.uint8)), "has shape ()"),
        (pack(PIXELS[np.newaxis])[:-1], "has 799 bytes, expected 800"),
        (pack(PIXELS[np.newaxis]) + b"x", "has 801 bytes, expected 800"),
        (pack(PIXELS[np.newaxis])[:15], "expected idx images"),
        (pack(np.zeros((2, 14, 14), np.uint8)), "images of 14x14, expected 28x28"),
        (pack(np.zeros(10, np.uint8)), "holds idx labels"),
        (gzip.compress(pack(np.zeros(10, np.uint8)), mtime=0), "holds idx labels"),
        (gzip.compress(pack(PIXELS[np.newaxis]), mtime=0)[:-20], "gzip data is cut short"),
        (gzip.compress(pack(PIXELS[np.newaxis]), mtime=0)[:-8] + bytes(8), "gzip data is damaged"),
        (gzip.compress(b"hello", mtime=0), "begins with 68 65 6c 6c"),
        (b"\x00\x00\x08\x03\xff\xff\xff\xff\x00\x00\x00\x1c\x00\x00\x00\x1c", "4294967295 images"),
    ],
)
def test_bad_input_is_one_line_of_exit_2(data: bytes, says: str) -> None:
    with pytest.raises(InputError) as caught:
        _read(data)
    line = str(caught.value)
    assert says in line.replace("  ", " ")
    assert "\n" not in line
    assert ";" in line  # what to do next
    assert caught.value.exit_code == 2


def test_an_array_header_that_claims_the_moon_reserves_nothing() -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 28, 28)}"
    header = header.ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(784)
    with pytest.raises(InputError, match="cut short"):
        _read(data)


def test_a_gzip_bomb_is_not_unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IMAGES", 10)
    with pytest.raises(InputError, match="unfolds to more than 7856 bytes"):
        _read(gzip.compress(bytes(100_000)))
    with pytest.raises(ValueError, match="more than 5"):
        gunzip(gzip.compress(bytes(6)), 5)


def test_too_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IMAGES", 2)
    for data in (_npy(np.zeros((3, 28, 28), np.uint8)), pack(np.zeros((3, 28, 28), np.uint8))):
        with pytest.raises(InputError, match="holds 3 images, expected 2 at most"):
            _read(data)
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(InputError, match="split it"):
        _read(bytes(784 * 2))
    with pytest.raises(InputError, match="split it"):
        read_images("/dev/zero")  # which has no end


def test_raw_pixels_come_from_a_pipe_only(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(bytes(784))
    with pytest.raises(InputError, match="expected a PNG"):
        read_images(path)


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("nope.png", MissingError, "does not exist"),
        ("", InputError, "is a folder"),
        ("file.txt/x.png", InputError, "Not a directory"),
        ("\0", InputError, "cannot read"),
        ("x" * 300, InputError, "File name too long"),
    ],
)
def test_paths_that_are_no_file(tmp_path: Path, name: str, error: type[ToolkitError], says: str) -> None:
    (tmp_path / "file.txt").write_text("hello")
    with pytest.raises(error, match=says):
        read_images(f"{tmp_path}/{name}")


def test_a_file_that_may_not_be_read() -> None:
    """As a person who is not root: where the tests run as root, the reading process gives its rights up."""
    script = """
import os, tempfile
from toolkit.errors import InputError
from toolkit.images import read_images
with tempfile.NamedTemporaryFile(suffix=".png") as file:
    os.chmod(file.name, 0)
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            read_images(file.name)
        except InputError as error:
            os._exit(0 if "Permission denied" in str(error) else 5)
        os._exit(6)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=60)


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = _encoded(Image.fromarray(PIXELS))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingError, match=r"the extra 'images': pip install '\.\[images\]'"):
        _read(picture)
    _same(_read(_npy(PIXELS)).images[0], PIXELS)  # which needs no Pillow


@given(st.binary(max_size=2000), st.integers(0, 6))
def test_no_bytes_end_in_anything_but_images_or_an_error_of_ours(data: bytes, kind: int) -> None:
    starts = (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\x93NUMPY\x01\x00", b"\x00\x00\x08\x03", b"\x1f\x8b")
    try:
        file = _read((starts[kind] if kind < len(starts) else _encoded(Image.fromarray(PIXELS))[:400]) + data)
    except ToolkitError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either way is right
    else:
        assert file.images.dtype == np.uint8
        assert file.images.shape[1:] == (28, 28)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_spoilt_picture_ends_in_images_or_an_error_of_ours(position: int, value: int) -> None:
    data = bytearray(_encoded(Image.fromarray(PIXELS).resize((40, 40)), "JPEG"))
    data[position % len(data)] = value
    try:
        assert _read(bytes(data)).images.shape[1:] == (28, 28)
    except ToolkitError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either way is right


def test_idx_packs_bytes_only() -> None:
    with pytest.raises(InputError, match="got dtype float64"):
        pack(np.zeros(3))  # type: ignore[arg-type]


def test_idx_images_are_read_only() -> None:
    images = unpack_images(pack(PIXELS[np.newaxis]), "x", at_most=1)
    with pytest.raises(ValueError, match="read-only"):
        images[0, 0, 0] = 1


@pytest.mark.parametrize(
    "header",
    [
        "{1: 2, 'a': 3}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (28, 28), [[[",
        "{'descr': '|,8', 'fortran_order': False, 'shape': (28, 28)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (0, 100000000000000000000000)}",
        "nothing",
    ],
)
def test_a_damaged_array_header_is_one_line(header: str) -> None:
    text = header.encode().ljust(117) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    with pytest.raises(InputError) as caught:
        _read(data)
    assert "\n" not in str(caught.value)
