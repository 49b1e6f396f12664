"""Archives are unpacked within limits, whatever they say of themselves."""

import io
import struct
import tarfile
import zipfile
from pathlib import PurePosixPath

import pytest

from bundle.preparation import archives
from bundle.preparation.archives import ArchiveError, unpacked

FILES = {"a/sub-01_T1w.nii.gz": b"one", "a/IM0001": b"two", "b/x.img": b"3", "b/x.hdr": b"4", ".DS_Store": b"5"}


def tar(path, members=FILES, mode="w:gz", **more):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in more.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path, members=FILES, **more):
    with zipfile.ZipFile(path, "w", **more) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def unpack(archive):
    return unpacked(archive, PurePosixPath("in"), archive.parent / "work" / archive.name)


def refusal(archive):
    with pytest.raises(ArchiveError) as error:
        unpack(archive)
    return str(error.value)


@pytest.mark.parametrize("make", [zipped, tar, lambda path: tar(path.with_suffix(".tar"), mode="w")])
def test_files_are_unpacked_under_names_of_our_own(tmp_path, make):
    items = unpack(make(tmp_path / ("a.zip" if make is zipped else "a.tgz")))
    found = {str(item.inside): (item.path.name, item.path.read_bytes()) for item in items}
    assert found == {
        "in/a/sub-01_T1w.nii.gz": ("000001.nii.gz", b"one"),
        "in/a/IM0001": ("000002", b"two"),
        "in/b/x.img": ("000003.img", b"3"),
        "in/b/x.hdr": ("000003.hdr", b"4"),
    }


@pytest.mark.parametrize("name", ["../a.nii", "/etc/a.nii", "a/../../b", "..\\a.nii", "C:\\a.nii", "\\\\host\\a"])
def test_no_name_leads_out_of_the_archive(tmp_path, name):
    for archive in (zipped(tmp_path / "a.zip", {name: b"x"}), tar(tmp_path / "a.tgz", {name: b"x"})):
        assert "leads out of the archive" in refusal(archive)
    assert not list(tmp_path.rglob("*.nii"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    assert "a link or a device" in refusal(tar(tmp_path / "a.tgz", {"a": b""}, type=kind, linkname="/etc/passwd"))


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("a")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "a link or a device" in refusal(tmp_path / "a.zip")


@pytest.mark.parametrize("make", [zipped, tar])
def test_what_unpacks_to_far_more_than_its_size_is_refused(tmp_path, make, monkeypatch):
    monkeypatch.setattr(archives, "FREE", 1 << 16)
    more = {"compression": zipfile.ZIP_DEFLATED} if make is zipped else {}
    bomb = make(tmp_path / ("a.zip" if make is zipped else "a.tgz"), {"a.nii": bytes(40 << 20)}, **more)
    assert "more than 200 times its size" in refusal(bomb)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.nii")) < 30 << 20


def test_the_size_that_a_zip_states_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "FREE", 0)
    bomb = zipped(tmp_path / "a.zip", {"a.nii": bytes(8 << 20)}, compression=zipfile.ZIP_DEFLATED)
    content = bomb.read_bytes().replace(struct.pack("<I", 8 << 20), struct.pack("<I", 100))
    bomb.write_bytes(content)
    assert refusal(bomb)


def test_a_long_header_of_a_tar_file_is_not_read(tmp_path):
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 32
    (tmp_path / "a.tar").write_bytes(header.tobuf() + bytes(1 << 16))
    assert "expected a short one" in refusal(tmp_path / "a.tar")


def test_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_FILES", 3)
    assert "more than 3 files" in refusal(zipped(tmp_path / "a.zip", {f"{k}.nii": b"x" for k in range(5)}))


def test_an_encrypted_zip_is_refused_in_words(tmp_path):
    content = bytearray(zipped(tmp_path / "a.zip", {"a.nii": b"x"}).read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    assert "is encrypted; unpack it with its password" in refusal(tmp_path / "a.zip")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz", "a.tar.gz"])
def test_a_damaged_archive_is_refused_in_words(tmp_path, name):
    whole = (
        zipped(tmp_path / name)
        if name.endswith(".zip")
        else tar(tmp_path / name, mode="w" if name == "a.tar" else "w:gz")
    )
    content = whole.read_bytes()
    for broken in (b"", b"not an archive" * 50, content[: len(content) // 3]):
        whole.write_bytes(broken)
        assert "damaged or cut off" in refusal(whole)


def test_two_files_of_one_name_are_refused(tmp_path):
    content = zipped(tmp_path / "a.zip", {"a.nii": b"1", "b.nii": b"2"}).read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"b.nii", b"a.nii"))
    assert "two files of one name" in refusal(tmp_path / "a.zip")
