"""How one image file is read: as one sees it, or refused with its name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ghostlib.training.images import DataError, array_images, read_image


def pixel(path: Path) -> tuple[int, int, int]:
    image = read_image(path)
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


def saved(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize(("mode", "colour", "seen"), [
    ("1", 1, (255, 255, 255)), ("L", 100, (100, 100, 100)), ("LA", (100, 255), (100, 100, 100)),
    ("RGB", (1, 2, 3), (1, 2, 3)), ("RGBA", (1, 2, 3, 255), (1, 2, 3)), ("RGBA", (1, 2, 3, 0), (255, 255, 255)),
    ("LA", (0, 0), (255, 255, 255)), ("I;16", 0x8000, (128, 128, 128)), ("I;16", 0xFFFF, (255, 255, 255)),
    ("I;16", 300, (1, 1, 1))], ids=str)
def test_a_png_is_read_as_one_sees_it(tmp_path, mode, colour, seen):
    assert pixel(saved(Image.new(mode, (4, 3), colour), tmp_path / "a.png")) == seen


@pytest.mark.parametrize(("mode", "name"), [("I;16", "a.png"), ("I", "a.tif")])
def test_greys_of_8_bits_in_a_file_of_more_are_refused_and_black_is_black(tmp_path, mode, name):
    with pytest.raises(DataError, match=f"{name} cannot .*its greys have 16 or 32 bits and only go up to 200"):
        read_image(saved(Image.new(mode, (4, 3), 200), tmp_path / name))
    assert pixel(saved(Image.new(mode, (4, 3), 0), tmp_path / name)) == (0, 0, 0)


def test_a_palette_is_read_by_its_colours_and_its_transparency_is_white(tmp_path):
    image = Image.new("P", (4, 3))
    image.putpalette([10, 20, 30])
    assert pixel(saved(image, tmp_path / "a.png")) == (10, 20, 30)
    assert pixel(saved(image, tmp_path / "b.gif", transparency=0)) == (255, 255, 255)


def test_a_cmyk_jpeg_is_read_by_its_colours(tmp_path):
    red, green, blue = pixel(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "a.jpg"))
    assert red > 240 and green < 15 and blue < 15


def test_an_image_is_turned_as_its_exif_data_says(tmp_path):
    image = Image.new("L", (8, 4))
    image.paste(255, (0, 0, 4, 4))  # white is on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    turned = read_image(saved(image, tmp_path / "a.png", exif=exif))
    assert turned.size == (4, 8) and turned.getpixel((0, 0)) == (255,) * 3 and turned.getpixel((0, 7)) == (0,) * 3


def test_broken_exif_data_leaves_an_image_as_it_is(tmp_path):
    path = saved(Image.new("L", (8, 4), 7), tmp_path / "a.jpg", exif=b"Exif\0\0nonsense")
    assert read_image(path).size == (8, 4)


def png_of(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds one row's beginning."""
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b""))


def test_an_image_of_too_many_pixels_is_named_with_the_remedy(tmp_path):
    path = tmp_path / "huge.png"
    path.write_bytes(png_of(20_000, 20_000))
    with pytest.raises(DataError, match=rf"{path} cannot be read .*more pixels than the 178,956,970 .*scale it down"):
        read_image(path)


@pytest.mark.parametrize("content", ["nothing", "text", "half", "flipped", "absent", "folder"])
@pytest.mark.parametrize("ending", ["png", "jpg", "gif"])
def test_a_file_that_is_no_whole_image_is_named(tmp_path, content, ending):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    path = saved(Image.fromarray(noise), tmp_path / f"a.{ending}")
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.unlink()
    if content == "folder":
        path.mkdir()
    elif content == "flipped" and ending != "png":
        pytest.skip("only PNG has sums to see it by")
    elif content != "absent":
        path.write_bytes({"nothing": b"", "text": b"<html>404</html>", "half": whole[:middle],
                          "flipped": whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1:]}[content])
    with pytest.raises(DataError, match=rf"^{path} cannot be read as an image \(.+\); replace or remove it$"):
        read_image(path)


@pytest.mark.parametrize(("values", "told"), [
    (np.full((3, 3), 1e6, np.int32), "32 bits, of no known range"), (np.ones((3, 3), np.float32), "floating-point")])
def test_greys_of_no_known_range_are_refused(tmp_path, values, told):
    path = saved(Image.fromarray(values), tmp_path / "a.tif")
    with pytest.raises(DataError, match=f"{path} .*{told}"):
        read_image(path)


def test_arrays_may_have_colours():
    pixels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    images = array_images(pixels, np.array([0, 1]))
    assert np.array_equal(np.asarray(images.read(1)), pixels[1])
