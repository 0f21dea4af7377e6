import re

import pytest

from gated_c.options import ALL_FLAGS, Options

SOUND = [
    Options(flush, *words)
    for flush in (False, True)
    for words in (
        (),
        ("bfloat16",),
        ("bfloat16", "bfloat16"),
        ("int8", "float32", "int8"),
        ("int8", "float32", "float32"),
        ("int8", "float32", "bfloat16"),
    )
]


def test_flags_say_the_same():
    flags = [options.flags for options in SOUND]
    assert len(set(flags)) == len(SOUND)
    for options in SOUND:
        assert Options.of_flags(options.flags) == options
    for other in {*range(2 * ALL_FLAGS + 3)} - {*flags}:
        with pytest.raises(ValueError, match=r"^(flags|arithmetic|inputs): "):
            Options.of_flags(other)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("float16", "float32", None), "dtype: expected one of 'float32', 'bfloat16', 'int8', got 'float16'"),
        ((None, "float32", None), "dtype: expected one of 'float32', 'bfloat16', 'int8', got None"),
        ((["int8"], "float32", None), "dtype: expected one of 'float32', 'bfloat16', 'int8', got ['int8']"),
        (("int8", "bfloat16", None), "arithmetic: expected 'float32' with int8, got 'bfloat16'"),
        (("bfloat16", "int8", None), "arithmetic: expected one of 'float32', 'bfloat16' with bfloat16, got 'int8'"),
        (("float32", "float32", "int8"), "inputs: expected None with float32, got 'int8'"),
        (("int8", "float32", "float64"), "inputs: expected one of 'int8', 'float32', 'bfloat16' with int8, got 'flo"),
    ],
)
def test_words_that_do_not_exist_are_named_with_those_that_do(words, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Options.checked(False, *words)


def test_they_can_be_read():
    said = [str(options) for options in SOUND[:6]]
    assert said == [
        "float32",
        "bfloat16",
        "bfloat16 with bfloat16 arithmetic",
        "int8",
        "int8 with float32 inputs",
        "int8 with bfloat16 inputs",
    ]
