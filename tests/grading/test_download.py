"""What packers, mail programs and students make of a download: walked, and each thing named."""

import io
import json
import struct
import zipfile

import pytest

from grading import NOTEBOOKS, submission
from grading.download import read_download
from lib import CourseError


def zipped(files: dict[str, bytes], days: dict[str, int] | None = None) -> bytes:
    """A zip of files by name; days: of November, 20 where nothing else is said, 0 for no date."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            day = (days or {}).get(name, 20)
            info = zipfile.ZipInfo("x", (2026, 11, day, 10, 0, 0) if day else (1980, 1, 1, 0, 0, 0))
            info.filename = name  # as it is: the constructor mends names
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return out.getvalue()


def notebooks(tmp_path, files: dict[str, bytes]) -> dict[str, bytes]:
    (tmp_path / "d.zip").write_bytes(zipped(files))
    return {f.path: f.read() for f in read_download(tmp_path / "d.zip") if f.is_notebook}


@pytest.mark.parametrize("name", [
    "jane/a.ipynb", "jane/a.IPYNB", "jane/a.ipynb.txt", "jane/a.ipynb.json", "jane/a.Ipynb.TXT",
    "jane/a.ipynb.download"])
def test_a_notebook_by_whatever_suffix(tmp_path, name):
    assert notebooks(tmp_path, {name: b"{}"}) == {name: b"{}"}


@pytest.mark.parametrize("name", ["a.ipynb.html", "a.py", "ipynb", "a.ipynb.pdf", "a.docx"])
def test_no_notebook_by_its_suffix(tmp_path, name):
    assert not notebooks(tmp_path, {name: b"{}"})


@pytest.mark.parametrize("name", [
    "jane/._a.ipynb", "__MACOSX/jane/a.ipynb", "jane/.ipynb_checkpoints/a.ipynb",
    ".git/a.ipynb", "jane\\._a.ipynb", "../../a.ipynb", "jane/~$a.ipynb"])
def test_junk_is_no_submission(tmp_path, name):
    assert set(notebooks(tmp_path, {name: b"{}", "bob/a.ipynb": b"[]"})) == {"bob/a.ipynb"}


@pytest.mark.parametrize("name", ["hw\\jane\\a.ipynb", "hw/jane\\a.ipynb", "hw\\\\jane//a.ipynb",
                                  "/hw/./jane/a.ipynb"])
def test_folders_are_folders(tmp_path, name):
    assert set(notebooks(tmp_path, {name: b"{}"})) == {"hw/jane/a.ipynb"}


def test_a_zip_in_the_zip_is_a_folder_and_a_third_one_is_not_opened(tmp_path):
    inner = zipped({"sub\\a.ipynb": b"{}", "deeper.zip": zipped({"b.ipynb": b"{}"})})
    assert set(notebooks(tmp_path, {"jane/hw.ZIP": inner, "bob/broken.zip": b"PK"})) == {
        "jane/hw.ZIP/sub/a.ipynb"}


def test_names_in_utf8_without_the_flag_that_says_so(tmp_path):
    """As zips of Linux and macOS are; the library takes them for cp437."""
    data = bytearray(zipped({"José/a.ipynb": b"{}"}))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        struct.pack_into("<H", data, data.index(mark) + at, 0)
    (tmp_path / "d.zip").write_bytes(data)
    assert [f.path for f in read_download(tmp_path / "d.zip")] == ["José/a.ipynb"]


def test_an_encrypted_file_is_told(tmp_path):
    data = bytearray(zipped({"jane/a.ipynb": b"{}"}))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        struct.pack_into("<H", data, data.index(mark) + at, 1)
    (tmp_path / "d.zip").write_bytes(data)
    [file] = read_download(tmp_path / "d.zip")
    with pytest.raises(CourseError, match="encrypted"):
        file.read()


TEXT = (NOTEBOOKS / "01_sentiment.ipynb").read_text()


@pytest.mark.parametrize("data", [
    TEXT.encode("utf-16"), TEXT.encode("utf-16-le"), TEXT.encode("utf-8-sig"),
    TEXT.encode() + b"\0\0", ("\n " + TEXT).encode("utf-16-be"),
    TEXT.replace("# Exercise 1\\n", "# \u00c9xercise\\n").encode("cp1252", "ignore")])
def test_every_encoding_holds_the_same_cells(data):
    want = submission.cells_of(TEXT.encode(), "01_sentiment")
    got = submission.cells_of(data, "01_sentiment")
    assert [cell.grade_id for cell in got] == [cell.grade_id for cell in want]


@pytest.mark.parametrize("data, what", [
    (b"", "empty"), (b"\0\0\n", "empty"),
    (TEXT.encode()[:5000], "cut off"), (TEXT.encode()[:-30], "cut off"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 5\n", "Git LFS"),
    (TEXT.replace('"cells"', '\n<<<<<<< HEAD\n"cells"', 1).encode(), "conflict markers of git"),
    (TEXT.replace('"cells"', '\n=======\n"cells"', 1).encode(), "conflict markers of git"),
    (b"<!DOCTYPE html><html>", "web page"), (b"\xef\xbb\xbf<html>", "web page"),
    (zipped({"a": b""}), "zip"), (b"%PDF-1.7", "PDF"), (b"print(1)", "not a readable notebook")])
def test_what_is_no_notebook_is_called_what_it_is(data, what):
    with pytest.raises(CourseError, match=what):
        submission.cells_of(data, "01_sentiment")


@pytest.mark.parametrize("output", [
    {"xy": [[1, 2]] * 700_000}, {"z": [[]] * 1_100_000}, {"text": "[{" * 600_000},
    {"outputs": [{"outputs": [[]] * 1_100_000}]}])
def test_brackets_in_outputs_do_not_count(output):
    notebook = json.loads(TEXT)
    next(c for c in notebook["cells"] if c["cell_type"] == "code")["outputs"] = [
        {"output_type": "display_data", "metadata": {}, "data": output}]
    assert submission.cells_of(json.dumps(notebook).encode(), "01_sentiment") == \
        submission.cells_of(TEXT.encode(), "01_sentiment")


@pytest.mark.parametrize("data", [
    b'{"cells": ' + b"[" * 2_000_000, b'{"cells": [' + b"{}," * 2_000_000 + b"{}]}",
    b'{"outputs": [' + b'\\"[' * 2_000_000])
def test_brackets_elsewhere_still_do(data):
    with pytest.raises(CourseError, match="not a readable notebook"):
        submission.cells_of(data, "01_sentiment")


@pytest.mark.parametrize("chapter", ["02_grpo", "03_persona", "04_reasoning"])
def test_another_chapter_is_named(chapter):
    data = (NOTEBOOKS / f"{chapter}.ipynb").read_bytes()
    with pytest.raises(CourseError, match=f"this is {chapter}, not 01_sentiment"):
        submission.cells_of(data, "01_sentiment")
    assert submission.cells_of(data, chapter)
