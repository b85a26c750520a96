"""Work shared out among threads: every answer once, in order, whatever happens."""

from __future__ import annotations

import os
import threading
from multiprocessing import get_context

import pytest

from mireg._threads import available, shared


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_answers_come_in_the_order_of_the_items(threads):
    assert shared(lambda n: n * n, range(100), threads) == [n * n for n in range(100)]
    assert shared(str, [], threads) == []


def test_as_many_threads_work_as_are_asked_for_and_no_more():
    together = threading.Barrier(4, timeout=10)  # breaks unless all four are there

    def meet(_: int) -> int:
        together.wait()
        return threading.get_ident()

    assert len(set(shared(meet, range(4), 4))) == 4
    assert len(set(shared(lambda _: threading.get_ident(), range(50), 2))) <= 2


@pytest.mark.parametrize("depth", [2, 4])
def test_work_may_share_out_work(depth):
    def count(depth: int) -> int:
        return sum(shared(count, [depth - 1] * 5, 3)) if depth else 1

    assert count(depth) == 5**depth


@pytest.mark.parametrize("threads", [1, 3])
def test_the_error_is_that_of_the_first_item_that_fails(threads):
    def fail(n: int) -> int:
        if n in (7, 8, 30):
            raise ValueError(f"item {n}")
        return n

    with pytest.raises(ValueError, match="item 7"):
        shared(fail, range(40), threads)
    assert shared(abs, [-1, -2], threads) == [1, 2]  # the threads are still there


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_it_works_in_a_child_of_a_process_that_has_used_it():
    assert shared(abs, [-1, -2], 2) == [1, 2]
    with get_context("fork").Pool(1) as pool:
        answer = pool.apply_async(_in_child)
        assert answer.get(timeout=20) == [3, 4]


def _in_child() -> list[int]:
    return shared(abs, [-3, -4], 2)


def test_there_is_a_processor():
    assert available() >= 1
