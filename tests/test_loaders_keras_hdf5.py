"""HDF5 files that lie: about where data is, how much of it there is, or what it is."""

import io
import re
import tracemalloc
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gated_c.errors import FormatError, UnsupportedError
from gated_c.loaders.keras.hdf5 import Hdf5

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def written(write):
    """The bytes of a file."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        write(file)
    return content.getvalue()


def opened(write):
    return Hdf5(memoryview(written(write)))


@contextmanager
def at_most(size):
    """Fail if anything inside takes more memory."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


def array(content):
    return Hdf5(memoryview(content)).array("group/a")


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8"])
@pytest.mark.parametrize("libver", ["earliest", "v108", "v110", "latest"])
def test_arrays_of_any_float_type_are_read(dtype, libver):
    content = io.BytesIO()
    with h5py.File(content, "w", libver=libver) as file:
        file["group/b"] = file["group/deep/er/a"] = VALUES.astype(dtype)
        file["group"].attrs["names"] = ["a", "bc"]
    read = Hdf5(memoryview(content.getvalue()))
    for name in ("group/b", "group/deep/er/a"):
        np.testing.assert_array_equal(read.array(name), VALUES)
    assert sorted(read.members("group")) == ["b", "deep"]
    assert read.texts("group", "names") == ["a", "bc"]


def test_groups_of_hundreds_of_members_are_read():
    def write(file):
        for n in range(500):
            file[f"group/{n}"] = np.full(2, n, "f4")

    file = opened(write)
    assert sorted(map(int, file.members("group"))) == list(range(500))
    assert [file.array(f"group/{n}")[0] for n in range(500)] == list(range(500))


def test_an_array_in_one_piece_is_a_view_of_the_file():
    content = bytearray(written(lambda file: file.create_dataset("group/a", data=VALUES)))
    values = array(content)
    start = content.index(VALUES.tobytes())
    content[start : start + 4] = np.float32(7).tobytes()
    assert values[0, 0] == 7


def test_an_array_may_lie_in_its_header():
    def compact(file):
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(VALUES.shape)
        group = file.create_group("group")
        h5py.h5d.create(group.id, b"a", h5py.h5t.IEEE_F32LE, space, properties).write(
            h5py.h5s.ALL, h5py.h5s.ALL, VALUES
        )

    np.testing.assert_array_equal(opened(compact).array("group/a"), VALUES)


def test_bfloat16_is_read_where_keras_says_so():
    def write(file):
        halves = (VALUES.view(np.uint32) >> 16).astype(np.uint16).view("V2")
        file.create_dataset("group/a", data=halves).attrs["dtype"] = "bfloat16"

    np.testing.assert_array_equal(opened(write).array("group/a"), VALUES)


def external_data(file):
    file.create_dataset("group/a", shape=(3,), dtype="f4", external=[("/etc/passwd", 0, 12)])


def virtual_data(file):
    layout = h5py.VirtualLayout(shape=(3,), dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "a", shape=(3,))
    file.create_group("group").create_virtual_dataset("a", layout)


def external_link(file):
    file.create_group("group")["a"] = h5py.ExternalLink("other.h5", "/a")


def external_group(file):
    file["group"] = h5py.ExternalLink("other.h5", "/group")


def soft_link(file):
    file["b"] = VALUES
    file.create_group("group")["a"] = h5py.SoftLink("/b")


def never_written(file):
    file.create_dataset("group/a", shape=(10**6, 10**6), dtype="f4")


def fill_values_only(file):
    file.create_dataset("group/a", shape=(10**6, 10**6), dtype="f4", chunks=(1000, 1000), fillvalue=1.0)


def huge_chunks(file):
    file.create_dataset("group/a", shape=(2, 2), maxshape=(None, None), dtype="f4", chunks=(2**14, 2**14))


def bomb(file):
    file.create_dataset("group/a", data=np.zeros((2000, 2000), "f4"), compression="gzip")


def no_elements(file):
    file.create_dataset("group/a", shape=(0, 2**62, 2**62), dtype="f4")


def a_group(file):
    file.create_group("group/a")


def nothing(file):
    file.create_group("group")


REFUSED = {
    external_data: "other files",
    virtual_data: "in pieces",
    external_link: "a link",
    external_group: "a link",
    soft_link: "a link",
    never_written: "times the size|no data",
    fill_values_only: "in pieces",
    huge_chunks: "in pieces",
    bomb: "in pieces",
    no_elements: "",
    a_group: "no such array",
    nothing: "no such array",
}


@pytest.mark.parametrize("write", REFUSED, ids=lambda write: write.__name__)
def test_what_is_not_in_the_file_is_refused_without_memory_for_it(write):
    content = written(write)
    with at_most(1_000_000), pytest.raises((FormatError, UnsupportedError), match=rf"group/a: .*({REFUSED[write]})"):
        array(content)


def test_one_array_under_many_names_does_not_multiply():
    def write(file):
        file["a"] = np.zeros(10_000, "f4")
        for n in range(100):
            file[f"a{n}"] = file["a"]

    file = opened(write)
    with pytest.raises(FormatError, match="times the size of the file"):
        list(map(file.array, (f"a{n}" for n in range(100))))


def test_one_name_listed_many_times_does_not_multiply():
    """4000 references of 16 bytes to one string of a megabyte are 4 GB of strings."""

    def write(file):
        file.attrs.create("names", ["x" * 1_000_000] + [""] * 3999, dtype=h5py.string_dtype())

    content = bytearray(written(write))
    start = content.index(np.uint32(1_000_000).tobytes() + b"", content.index(b"names"))
    reference = bytes(content[start : start + 16])
    content[start : start + 16 * 4000] = reference * 4000
    with at_most(64_000_000), pytest.raises(FormatError, match="names: contents of more than 16 times"):
        Hdf5(memoryview(content)).texts("", "names")


@pytest.mark.parametrize("kind", ["int32", "complex64", "S4", "?"])
def test_arrays_of_other_types_are_unsupported(kind):
    file = opened(lambda file: file.create_dataset("group/a", data=VALUES.astype(kind)))
    with pytest.raises(UnsupportedError, match="group/a: a dtype that is no float"):
        file.array("group/a")


def test_arrays_in_pieces_are_unsupported_with_a_way_out():
    file = opened(lambda file: file.create_dataset("group/a", data=VALUES, compression="gzip"))
    with pytest.raises(UnsupportedError, match=r"group/a: an array in pieces.*h5repack -f NONE -l CONTI"):
        file.array("group/a")


def with_unicode_members(count, libver="earliest"):
    """A group that keeps its links in a heap, being of names that are not all ASCII and more than eight."""
    content = io.BytesIO()
    with h5py.File(content, "w", libver=libver) as file:
        for n in range(count):
            file[f"group/größe {n}"] = VALUES + n
    return content.getvalue()


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("count", [8, 9, 45, 46, 800])
def test_groups_of_members_with_any_names_are_read(count, libver):
    read = Hdf5(memoryview(with_unicode_members(count, libver)))
    assert sorted(read.members("group")) == sorted(f"größe {n}" for n in range(count))
    for n in range(count):
        np.testing.assert_array_equal(read.array(f"group/größe {n}"), VALUES + n)


def test_groups_of_thousands_of_members_with_any_names_are_unsupported_with_a_way_out():
    with pytest.raises(UnsupportedError, match=r"group: a group of so many members.*save it again as \.keras"):
        Hdf5(memoryview(with_unicode_members(3000))).members("group")


def test_members_of_a_heap_that_overlap_do_not_add_up():
    """Every link is made as long as the format allows."""
    content = bytearray(with_unicode_members(800))
    for leaf in re.finditer(b"BTLF\0\5", bytes(content)):
        for record in range(leaf.end(), leaf.end() + 45 * 11, 11):
            content[record + 9 : record + 11] = b"\xff\xff"
    with at_most(2_000_000), pytest.raises(FormatError):
        Hdf5(memoryview(bytes(content))).members("group")


@pytest.mark.parametrize("fixed", [True, False])
def test_lists_of_names_come_in_one_piece_or_several(fixed):
    dtype = "S3" if fixed else h5py.string_dtype()

    def write(file):
        file.attrs.create("whole", ["a", "bc", "def"], dtype=dtype)
        file.attrs.create("split0", ["a", "bc"], dtype=dtype)
        file.attrs.create("split1", ["def"], dtype=dtype)
        file.attrs["none"] = np.array([])
        file.attrs["number"] = [1, 2]

    file = opened(write)
    assert file.texts("", "whole") == file.texts("", "split") == ["a", "bc", "def"]
    assert file.texts("", "none") == []
    for name, message in (("missing", "missing"), ("number", "expected strings")):
        with pytest.raises(FormatError, match=f"{name}: {message}"):
            file.texts("", name)


SOUND = written(lambda file: file.create_dataset("group/a", data=VALUES))


@pytest.mark.parametrize("length", [8, 60, 100, 500, 800, len(SOUND) // 2, len(SOUND) - 1])
def test_a_truncated_file_is_a_format_error(length):
    with pytest.raises(FormatError):
        array(SOUND[:length])


@settings(max_examples=400, deadline=None)
@given(place=st.integers(0, len(SOUND) - 1), value=st.integers(0, 255))
def test_a_changed_byte_changes_numbers_or_is_refused(place, value):
    changed = bytearray(SOUND)
    changed[place] = value
    try:
        values = array(bytes(changed))
    except (FormatError, UnsupportedError):
        return
    assert values.size <= 16 * len(SOUND)


IN_A_HEAP = with_unicode_members(50)


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, len(IN_A_HEAP) - 1), value=st.integers(0, 255))
def test_a_changed_byte_in_a_heap_of_links_changes_members_or_is_refused(place, value):
    changed = bytearray(IN_A_HEAP)
    changed[place] = value
    try:
        members = Hdf5(memoryview(changed)).members("group")
    except (FormatError, UnsupportedError):
        return
    assert len(members) <= 50
