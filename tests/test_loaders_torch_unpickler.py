import io
import os
import pickle
import struct
import sys
import tracemalloc
from collections import OrderedDict
from pathlib import PurePosixPath
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loader_files import text

from gated_c import FormatError
from gated_c.loaders.torch.unpickler import Global, Object, load

PROTOCOL_2 = b"\x80\x02"


def run(content, max_instructions=1_000_000, **options):
    return load(io.BytesIO(content), place="data.pkl", max_instructions=max_instructions, **options)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=60, deadline=None)
@given(plain, st.integers(1, 5))
def test_plain_values_come_out_as_they_went_in(value, protocol):
    assert _without_bytes(run(pickle.dumps(value, protocol))) == _without_bytes(value)


def _without_bytes(value):
    """Protocols 1 and 2 have no bytes: there they are a call, and so an inert object."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(_without_bytes, value))
    if type(value) is dict:
        return {key: _without_bytes(item) for key, item in value.items()}
    return None if isinstance(value, (bytes, Object)) else value


def test_keys_are_strings_and_the_rest_is_lost():
    got = run(pickle.dumps({"a": 1, 2: "b", True: "c", (3, 4): "d", 5.0: "e", 1 << 70: "f"}))
    assert {key: value for key, value in got.items() if isinstance(key, str)} == {"a": 1, "2": "b", "True": "c"}
    assert list(got.values()) == [1, "b", "c", "d", "e", "f"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_instances_become_objects_with_their_attributes_and_items(protocol):
    namespace = run(pickle.dumps(SimpleNamespace(a=[1], b="x"), protocol))
    assert (namespace.class_name, dict(namespace.attributes)) == ("types.SimpleNamespace", {"a": [1], "b": "x"})
    value = OrderedDict(a=1)
    value.note = "kept"
    ordered = run(pickle.dumps(value, protocol))
    assert (ordered.class_name, dict(ordered)) == ("collections.OrderedDict", {"a": 1})
    assert ordered.attributes == {"note": "kept"}


def test_classes_and_functions_are_names():
    assert run(pickle.dumps(os.path.join)) == Global("posixpath.join")
    assert run(pickle.dumps(OrderedDict, 2)) == Global("collections.OrderedDict")


def test_values_from_anywhere_are_inert():
    values = [np.float64(1), np.arange(3), PurePosixPath("a/b"), {1, 2}, frozenset({3}), bytearray(b"x"), 1j, range(3)]
    for protocol in (2, 4, 5):
        assert len(run(pickle.dumps(values, protocol))) == len(values)


class Exploit:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nothing_is_ever_called(tmp_path, protocol):
    target = tmp_path / "harm"
    exploits = [
        Exploit(os.system, f"touch {target}"),
        Exploit(eval, f"open({str(target)!r}, 'w')"),
        Exploit(exec, f"open({str(target)!r}, 'w')"),
        Exploit(open, str(target), "w"),
        Exploit(getattr, Exploit(__import__, "os"), "system"),
        Exploit(np.save, str(target), np.zeros(1)),
    ]
    for exploit in exploits:
        got = run(pickle.dumps(exploit, protocol))
        assert isinstance(got, Object)
    assert not list(tmp_path.iterdir())


def test_nothing_is_ever_imported():
    before = set(sys.modules)
    run(b"cantigravity\nfly\n)R.")
    run(b"\x80\x04" + text("this") + text("s") + b"\x93.")
    assert not {"antigravity", "this"} & (set(sys.modules) - before)


def test_a_meaning_given_to_a_name_is_used():
    assert run(pickle.dumps(complex(1, 2), 2), calls={"__builtin__.complex": lambda *args: args}) == (1.0, 2.0)


def test_persistent_ids_need_someone_who_knows_them():
    assert run(PROTOCOL_2 + b"K\x05Q.", persistent_load=lambda saved_id: saved_id + 1) == 6
    with pytest.raises(FormatError, match="persistent id where none belongs"):
        run(PROTOCOL_2 + b"K\x05Q.")


def test_the_stream_is_left_behind_the_pickle():
    stream = io.BytesIO(pickle.dumps(1) + pickle.dumps(2) + b"rest")
    assert [load(stream, place="", max_instructions=99) for _ in range(2)] == [1, 2]
    assert stream.read() == b"rest"


BROKEN = {
    "nothing": b"",
    "no end": PROTOCOL_2 + b"N",
    "empty stack": PROTOCOL_2 + b".",
    "unknown instruction": PROTOCOL_2 + b"\xff.",
    "extension registry": PROTOCOL_2 + b"\x82\x01.",
    "old style instance": b"(ios\nsystem\n.",
    "out of band buffer": b"\x80\x05\x97.",
    "no mark": PROTOCOL_2 + b"t.",
    "odd number of items": PROTOCOL_2 + b"}(Nu.",
    "items of a list": PROTOCOL_2 + b"](NNu.",
    "append to a dictionary": PROTOCOL_2 + b"}Na.",
    "memo never set": PROTOCOL_2 + b"h\x07.",
    "memo far away": PROTOCOL_2 + b"Nr\xff\xff\xff\xff.",
    "memo index of a thousand digits": b"Np" + b"9" * 1000 + b"\n.",
    "number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "string longer than the file": PROTOCOL_2 + b"X\xff\xff\xff\x7fabc.",
    "string of 2**63 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**63) + b"abc.",
    "integer longer than the file": PROTOCOL_2 + b"\x8b\xff\xff\xff\x7fabc.",
    "integer of negative length": PROTOCOL_2 + b"\x8b\xff\xff\xff\xffabc.",
    "not utf-8": PROTOCOL_2 + b"X\x01\x00\x00\x00\xff.",
    "name that is a number": b"\x80\x04K\x01K\x02\x93.",
    "name of a megabyte": b"c" + b"a" * 1_000_000 + b"\nb\n.",
    "keywords without arguments": b"\x80\x04)R.",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_broken_pickles_are_a_format_error_with_the_place(content):
    tracemalloc.start()
    with pytest.raises(FormatError, match=r"^data\.pkl: broken pickle at or after byte \d+: \w+: "):
        run(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000 + 5 * len(content)


N = 20_000
ONE_HASH = [(2**61 - 1) * n for n in range(N)]

HEAVY = {
    "lists": b"]" * N,
    "dictionaries": b"}" * N,
    "marks": b"(" * N + b"1" * N + b"N",
    "nested lists": b"]" * N + b"a" * (N - 1),
    "nested tuples": b")" + b"\x85" * N,
    "nested tuple as a key": b"})" + b"\x85" * N + b"Ns",
    "memo": b"N" + b"\x94" * N,
    "copies": b"]" + b"2" * N,
    "instances": b"cx\ny\nq\x00" + b"h\x00)R" * N,
    "doubling lists": b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(200)),
    "list in itself": b"]q\x00h\x00a",
    "integers with one hash": b"}(" + b"".join(b"\x8a\x0a" + n.to_bytes(10, "little") + b"N" for n in ONE_HASH) + b"u",
    "one state for many": b"}(" + (text("a") + b"N") * N + b"uq\x01cx\ny\nq\x00" + b"h\x00)Rh\x01b" * N,
}


@pytest.mark.parametrize("content", HEAVY.values(), ids=HEAVY.keys())
def test_memory_stays_proportional_to_the_instructions(content):
    content = b"\x80\x04" + content + b"."
    tracemalloc.start()
    run(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * len(content) + 100_000


COPIES = b"](" + b"NN\x86" * 20 + b"eq\x010" + b"ccollections\nOrderedDict\nh\x01\x85R" * 4


@pytest.mark.parametrize("content", [b"N" * 101, COPIES])
def test_instructions_are_counted(content):
    """An OrderedDict made of a list counts with every item, so that one list cannot be copied a thousand times."""
    run(PROTOCOL_2 + content + b".", max_instructions=1000)
    with pytest.raises(FormatError, match="too many instructions for a file of this size"):
        run(PROTOCOL_2 + content + b".", max_instructions=100)


LIST = b"](" + b"N" * 500 + b"eq\x01"


@pytest.mark.parametrize("args", [LIST, LIST + b"(" + b"N" * 500 + b"tq\x01", b"C\x05bytesq\x01"])
def test_arguments_are_a_tuple_and_count_as_instructions(args):
    repeated = b"](" + b"cx\ny\nh\x01R" * 20 + b"e"
    with pytest.raises(FormatError, match=r"no tuple|too many instructions"):
        run(b"\x80\x03" + args + repeated + b".", max_instructions=5000, calls={"x.y": lambda *args: None})
