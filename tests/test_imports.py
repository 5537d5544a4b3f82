"""Imports of large libraries."""

import gc

import pytest

from midsight.imports import without_gc


def test_garbage_is_not_looked_for_meanwhile() -> None:
    with without_gc():
        assert not gc.isenabled()
        with without_gc():
            pass
        assert not gc.isenabled(), "the outer block has not ended"
    assert gc.isenabled()


def test_after_an_error_it_is_looked_for_again() -> None:
    with pytest.raises(ZeroDivisionError), without_gc():
        _ = 1 / 0
    assert gc.isenabled()


def test_who_looks_for_none_is_left_alone() -> None:
    gc.disable()
    try:
        with without_gc():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
