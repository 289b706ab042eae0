"""Who is slow: medians, and the time that a dataset is waited for."""

from __future__ import annotations

import time

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tfmot_kws.training import step_times


@given(st.lists(st.floats(0.5, 1.0), min_size=2, max_size=9), st.data())
def test_one_that_takes_thrice_as_long_is_named(seconds: list[float], data: st.DataObject) -> None:
    assert step_times.slow_workers(seconds, 2.5) == []
    slow = data.draw(st.integers(0, len(seconds) - 1))
    seconds[slow] = 3.0
    assert step_times.slow_workers(seconds, 2.5) == [slow]


def test_a_worker_alone_is_not_slow() -> None:
    assert step_times.slow_workers([5.0]) == [] == step_times.slow_workers([])
    with pytest.raises(ValueError, match="factor=1.0: must be above 1"):
        step_times.slow_workers([1.0, 2.0], 1.0)


def test_waiting_is_counted_and_changes_nothing() -> None:
    def late(x):
        return tf.ensure_shape(tf.numpy_function(lambda v: (time.sleep(0.03), v)[1], [x], tf.int64), ())

    plain = tf.data.Dataset.range(5)
    found = {}
    for name, data in (("early", plain), ("late", plain.map(late))):
        waiting = step_times.Waiting()
        assert [int(x) for x in waiting.of(data)] == list(range(5))
        found[name] = float(waiting.seconds.numpy())
    assert found["late"] > 0.15 and found["early"] < found["late"]


def test_waiting_leaves_out_what_the_consumer_does() -> None:
    waiting = step_times.Waiting()
    for _ in waiting.of(tf.data.Dataset.from_tensor_slices(np.zeros((4, 2), np.float32))):
        time.sleep(0.1)
    assert float(waiting.seconds.numpy()) < 0.1
