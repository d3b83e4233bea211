"""Every kind of image becomes RGB; broken ones are named before any work starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import examples, picture
from vlmadapt.data.dataset import Example
from vlmadapt.data.image_formats import formats
from vlmadapt.data.images import check_image, check_images, read_image, to_rgb
from vlmadapt.errors import DataError


def saved(path: Path, image: Image.Image, **options: Any) -> Image.Image:
    image.save(path, **options)
    return read_image(path)


def colour(image: Image.Image, x: int = 0, y: int = 0) -> tuple[int, ...]:
    assert image.mode == "RGB"
    pixel = image.getpixel((x, y))
    assert isinstance(pixel, tuple)
    return pixel


def truncated(path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_grey(tmp_path: Path) -> None:
    assert colour(saved(tmp_path / "a.png", Image.new("L", (4, 4), 90))) == (90, 90, 90)


def test_palette(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), (200, 30, 10)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert colour(saved(tmp_path / "a.png", image)) == (200, 30, 10)


def test_cmyk(tmp_path: Path) -> None:
    assert colour(saved(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 0, 0, 0)))) == (255, 255, 255)


def test_transparent_is_white(tmp_path: Path) -> None:
    assert colour(saved(tmp_path / "a.png", Image.new("RGBA", (4, 4), (0, 0, 0, 0)))) == (255, 255, 255)
    assert colour(saved(tmp_path / "b.png", Image.new("RGBA", (4, 4), (0, 0, 0, 128)))) == (127, 127, 127)
    assert colour(saved(tmp_path / "c.png", Image.new("LA", (4, 4), (0, 0)))) == (255, 255, 255)


def test_transparent_palette_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 9, 9, 9])
    assert colour(saved(tmp_path / "a.gif", image, transparency=0)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((4, 4), 100 * 257, dtype=np.uint16))
    assert colour(saved(tmp_path / "a.png", deep)) == (100, 100, 100)
    assert colour(saved(tmp_path / "a.tif", deep)) == (100, 100, 100)


def test_floats_are_scaled_over_their_range(tmp_path: Path) -> None:
    ramp = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    image = saved(tmp_path / "a.tif", Image.fromarray(ramp))
    assert [colour(image, x)[0] for x in range(3)] == [0, 128, 255]
    gaps = saved(tmp_path / "c.tif", Image.fromarray(np.array([[np.nan, 0.0, 0.5, 1.0, np.inf]], dtype=np.float32)))
    assert [colour(gaps, x)[0] for x in range(5)] == [0, 0, 128, 255, 255]
    flat = saved(tmp_path / "b.tif", Image.fromarray(np.ones((2, 2), dtype=np.float32)))
    assert colour(flat) == (0, 0, 0)


def test_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert saved(tmp_path / "a.png", image, exif=exif).size == (4, 8)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_truncated_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    path = truncated(tmp_path / f"half{suffix}")
    with pytest.raises(DataError, match=rf"half\{suffix}' cannot be read"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_check_refuses_what_decoding_refuses_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    """Bytes overwritten anywhere, blocks of zeros and of noise, ends cut off."""
    draw, path, refused = np.random.default_rng(1), tmp_path / f"a{suffix}", 0
    pixels = np.kron(draw.integers(0, 255, (8, 8, 3), dtype=np.uint8), np.ones((12, 12, 1), dtype=np.uint8))
    Image.fromarray(pixels).save(tmp_path / f"whole{suffix}")
    whole = (tmp_path / f"whole{suffix}").read_bytes()
    for number in range(60):
        content, start = bytearray(whole), int(draw.integers(2, len(whole) - 40))
        if number % 4 == 0:
            content[start] = int(draw.integers(256))
        elif number % 4 == 1:
            content[start : start + 40] = bytes(40)
        elif number % 4 == 2:
            content[start : start + 40] = draw.bytes(40)
        else:
            del content[start:]
        path.write_bytes(content)
        errors = []
        for read in (read_image, check_image):
            try:
                read(path)
                errors.append("")
            except DataError as error:
                errors.append(str(error))
        assert errors[0] == errors[1], number
        refused += bool(errors[0])
    assert 15 < refused < 60


def test_a_check_of_a_jpeg_makes_few_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    monkeypatch.setattr("vlmadapt.data.images.to_rgb", lambda image: sizes.append(image.size))
    Image.new("RGB", (640, 480)).save(tmp_path / "a.jpg")
    check_image(tmp_path / "a.jpg")
    read_image(tmp_path / "a.jpg")
    assert sizes == [(80, 60), (640, 480)]


def test_no_image_empty_or_missing_is_refused_by_name(tmp_path: Path) -> None:
    text, empty = tmp_path / "text.jpg", tmp_path / "empty.jpg"
    text.write_text("not an image")
    empty.touch()
    with pytest.raises(DataError, match=r"text\.jpg' cannot be read"):
        read_image(text)
    with pytest.raises(DataError, match=r"empty\.jpg' cannot be read"):
        read_image(empty)
    with pytest.raises(DataError, match=r"missing\.jpg' does not exist"):
        read_image(tmp_path / "missing.jpg")


def test_other_formats_are_not_opened_whatever_the_file_is_called(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match=r"a\.png' cannot be read \(UnidentifiedImageError"):
        read_image(tmp_path / "a.png")


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match="not a regular file"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("ending", [".gif", ".avif", ".jp2", ".jfif", ".webp", ".tga"])
def test_formats_that_are_listed_are_decoded(tmp_path: Path, ending: str) -> None:
    red, _, blue = colour(saved(tmp_path / f"a{ending}", Image.new("RGB", (16, 16), (200, 30, 10))), 8, 8)
    assert red > 180
    assert blue < 40


def test_a_decoded_image_is_read_like_its_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGBA", (8, 4), (0, 0, 0, 0))
    image.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        same = to_rgb(opened)
    assert same.size == (4, 8)
    assert same.tobytes() == read_image(tmp_path / "a.png").tobytes()


def test_heif_is_read_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("pillow_heif")
    module.register_heif_opener = lambda: Image.register_open("HEIF", Image.OPEN["PNG"][0])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    assert "HEIF" in formats.__wrapped__()


def test_a_heif_image_without_its_package_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"broken")
    with pytest.raises(DataError) as error:
        read_image(tmp_path / "a.heic")
    assert ("pip install 'vlmadapt[heif]'" in str(error.value)) == ("HEIF" not in formats())


def test_sound_images_pass_with_progress(tmp_path: Path) -> None:
    sound = examples(tmp_path, 5)
    seen: list[tuple[int, int]] = []
    assert check_images(sound, progress=lambda done, total: seen.append((done, total))) == sound
    assert seen == [(i, 5) for i in range(1, 6)]


def test_broken_images_are_counted_and_five_are_named(tmp_path: Path) -> None:
    bad = tuple(Example(truncated(tmp_path / f"bad{i}.png"), 0) for i in range(7))
    with pytest.raises(DataError, match="7 of 10 images cannot be read") as error:
        check_images((*examples(tmp_path, 3), *bad))
    message = str(error.value)
    assert [f"bad{i}.png" in message for i in range(7)] == [True] * 5 + [False] * 2
    assert "--skip_corrupt true" in message


def test_broken_images_are_skipped_on_request(tmp_path: Path) -> None:
    bad = Example(truncated(tmp_path / "bad.png"), 0)
    good = Example(picture(tmp_path / "good.png"), 1)
    assert check_images((bad, good), skip=True) == (good,)
    with pytest.raises(DataError, match="no other is left"):
        check_images((bad,), skip=True)
