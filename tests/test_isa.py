"""Which kernel tables are built, usable and chosen; a forced one is the one that runs."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import USABLE, random_spec

import gated_c as gc
from tests.build_core import ROOT, compiler, flags, tables


def rows_of_isa_def():
    """(table, level, lanes) for any machine."""
    source = (ROOT / "src" / "isa.def").read_text()
    rows = re.findall(r"^ISA\((\w+),\s*(\w+),\s*(\d+),", source, re.MULTILINE)
    return [(table, level, int(lanes)) for table, level, lanes in rows]


def test_rows_units_and_flags_agree():
    rows = {table for table, _, _ in rows_of_isa_def()}
    assert rows == flags().keys() - {"compile", "link"}
    assert rows == {path.stem for path in Path(ROOT / "src" / "isa").glob("*.c")}


def test_cpu_info_lists_every_level_with_its_widest_vector():
    cc = compiler("cc")
    if cc is None:
        pytest.skip("needs a C compiler")
    built = tables(cc)
    widest = {level: lanes for table, level, lanes in rows_of_isa_def() if table in built}
    assert {isa.name: isa.lanes for isa in gc.cpu_info().isas} == widest


def test_the_fastest_usable_is_chosen(monkeypatch):
    monkeypatch.delenv("GATED_C_ISA", raising=False)
    assert gc.cpu_info().chosen == USABLE[-1]


def test_a_forced_one_is_chosen_and_runs(isa):
    assert gc.cpu_info().chosen == isa
    assert gc.Model([random_spec(np.random.default_rng(0), "gru", 2, 3)]).isa == isa


def test_an_unknown_name_fails_clearly(monkeypatch):
    monkeypatch.setenv("GATED_C_ISA", "mmx")
    with pytest.raises(RuntimeError, match=r"that this build does not have: expected one of .*, got 'mmx'"):
        gc.cpu_info()
    with pytest.raises(RuntimeError, match="GATED_C_ISA"):
        gc.Model([random_spec(np.random.default_rng(0), "gru", 2, 3)])


def test_an_empty_variable_forces_nothing(monkeypatch):
    monkeypatch.setenv("GATED_C_ISA", "")
    assert gc.cpu_info().chosen == USABLE[-1]


def test_only_instruction_sets_without_fma_are_outside_the_promise_of_bits():
    assert {isa.name for isa in gc.cpu_info().isas if not isa.exact} <= {"sse2", "portable"}
