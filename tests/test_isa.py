"""Which kernel tables are built, usable and chosen; a forced one is the one that runs."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import USABLE, random_spec

import gated_c as gc
from tests.build_core import ROOT, isa_flags


def rows_of_isa_def():
    """(table, level, lanes) for this machine's architecture."""
    source = (ROOT / "src" / "isa.def").read_text()
    rows = re.findall(r"^ISA\((\w+),\s*(\w+),\s*(\d+)\)", source, re.MULTILINE)
    built = isa_flags()
    return [(table, level, int(lanes)) for table, level, lanes in rows if table in built]


def test_rows_units_and_flags_agree():
    tables = {table for table, _, _ in rows_of_isa_def()}
    assert tables == set(isa_flags())
    units = {path.stem for path in Path(ROOT / "src" / "isa").glob("*.c")}
    assert units == set(re.findall(r"^ISA\((\w+),", (ROOT / "src" / "isa.def").read_text(), re.MULTILINE))


def test_cpu_info_lists_every_level_with_its_widest_vector():
    widest = {level: lanes for _, level, lanes in rows_of_isa_def()}
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
