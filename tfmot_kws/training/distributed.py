# SPDX-License-Identifier: Apache-2.0
"""Several workers train one model: which worker this is, its share of every batch, models in and out of a strategy.

A strategy is ``tf.distribute.MultiWorkerMirroredStrategy``, for machines, or ``MirroredStrategy``, for the devices of
one. Every worker runs the same program. The global batch of a step is the same whatever their number, each takes an
equal share of it, and batch normalizations take their statistics of the whole: so the loss is that of one worker, but
for the order in which floats are added.

Reading a range or a moving statistic of a model within a strategy is a sum over all workers. A callback that does so
must do it on every worker, or those that wait wait forever. The models that ``recipes`` gives back belong to no
strategy.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from tfmot_kws.keras import keras
from tfmot_kws.quantize import saving
from tfmot_kws.training import local_workers

KINDS = ("auto", "tf-config", "slurm")
"""Where ``connect`` learns who the workers are: TF_CONFIG, Slurm, or whichever of the two is there."""
_LOST = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)  # fmt: skip
_SILENT_MS = 120_000
_PORTS, _FIRST_PORT = 20_000, 20_000
_NO_SERVERS = (
    "parameter-server: is not offered. Its workers train asynchronously: each changes the weights as it is done, so "
    "that no run gives the same numbers twice, batch normalization has no common batch, and ranges that two workers "
    "widen at once lose one of the two. Use workers alone (tf-config, slurm or local:N)"
)


def check_kind(kind: str) -> None:
    """Whether ``connect`` knows it.

    Raises:
        ValueError: it does not; the message says what it knows.
    """
    if kind == "parameter-server":
        raise ValueError(_NO_SERVERS)
    if kind not in KINDS:
        raise ValueError(f"{kind!r}: must be local:N or one of {', '.join(KINDS)}")


def connect(kind: str = "auto", wait: Callable[[str], None] | None = None) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Joins the other workers; comes back once all are there.

    To be called before TensorFlow computes anything.

    Args:
        kind: one of ``KINDS``. "tf-config": the variable TF_CONFIG, as Kubeflow's TFJob sets it. "slurm": SLURM_*, as
            ``srun`` sets them.
        wait: is told what it waits for.

    Raises:
        ValueError: another kind, the variables are not there or name no such cluster.
        RuntimeError: TensorFlow has computed something already.
    """
    check_kind(kind)
    if kind == "auto":
        kind = "tf-config" if os.environ.get("TF_CONFIG") else "slurm"
        if kind == "slurm" and "SLURM_PROCID" not in os.environ:
            raise ValueError("auto: found neither TF_CONFIG nor SLURM_PROCID; start by local:N, srun or a TFJob")
    resolver = _of_slurm() if kind == "slurm" else _of_variable()
    count = resolver.cluster_spec().num_tasks("worker")
    if wait is not None:
        wait(f"waiting for {count} workers")
    _be_patient(count)
    return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)


def _be_patient(count: int) -> None:
    """Lets a worker be silent for longer than TensorFlow's 10 s, which a busy machine takes for dead.

    One that dies closes its connections, and is noticed at once.
    """
    job = context.coordination_config_pb2.CoordinatedJob(name="worker", num_tasks=count)
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader="/job:worker/replica:0/task:0",
        coordinated_jobs=[job],
        heartbeat_timeout_in_ms=_SILENT_MS,
    )


@contextlib.contextmanager
def together(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Work of several workers that ends for all at once, in order or not.

    At its end each waits for the others, because one that leaves early looks like one that was lost. Where another
    worker is lost the process ends here, with the status ``local_workers.LOST``, and without what Python does at its
    end, which would wait for the worker that is gone: started again, all go on from their checkpoints.

    Args:
        strategy: from ``connect``.
    """
    try:
        yield
        gathered(strategy, [0.0])
    except _LOST as error:
        sys.stdout.flush()
        said = (error.message or type(error).__name__).splitlines()[0][:200]
        print(f"error: another worker was lost ({said}); start all again", file=sys.stderr, flush=True)
        os._exit(local_workers.LOST)


def _of_variable() -> tf.distribute.cluster_resolver.ClusterResolver:
    text = os.environ.get("TF_CONFIG", "")
    try:
        found = json.loads(text)
        cluster, task = found["cluster"], found["task"]
        workers = [*cluster.get("chief", ()), *cluster.get("worker", ())]
        kind, index = task["type"], int(task["index"])
        if not all(isinstance(one, str) for one in workers):
            raise TypeError("addresses must be text")
        if kind in ("chief", "worker") and not 0 <= index < len(cluster.get(kind, ())):
            raise ValueError(f"no {kind} has index {index}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"TF_CONFIG={text!r}: {type(error).__name__}: {error}; expected "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
        ) from error
    if cluster.get("ps"):
        raise ValueError(f"TF_CONFIG names parameter servers. {_NO_SERVERS}")
    if kind not in ("chief", "worker"):
        raise ValueError(f"TF_CONFIG: this is task {kind!r}; only chief and worker train")
    # A chief is the first worker: one list, whatever it is called.
    number = index + len(cluster.get("chief", ())) * (kind == "worker")
    spec = tf.train.ClusterSpec({"worker": workers})
    return tf.distribute.cluster_resolver.SimpleClusterResolver(spec, task_type="worker", task_id=number)


def _of_slurm() -> tf.distribute.cluster_resolver.ClusterResolver:
    missing = [
        name for name in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE")
        if name not in os.environ
    ]  # fmt: skip
    if missing:
        raise ValueError(f"slurm: {', '.join(missing)} not set; start it by srun")
    # Jobs that share a node take other ports. GPUs stay as Slurm gives them (--gpus-per-task): TensorFlow's numbers of
    # GPUs name no task where they are 0, and with auto_set_gpu=False they mean nothing else.
    tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
    first = _FIRST_PORT + int(os.environ.get("SLURM_JOB_ID", 0)) * 97 % _PORTS
    made = tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=first, gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
    )
    spec = made.cluster_spec()
    return tf.distribute.cluster_resolver.SimpleClusterResolver(spec, task_type="worker", task_id=made.task_id)


def is_chief(strategy: tf.distribute.Strategy | None) -> bool:
    """Whether this process writes files; of several workers that is the first."""
    return strategy is None or bool(strategy.extended.should_checkpoint)


def workers_of(strategy: tf.distribute.Strategy | None) -> tuple[str, ...]:
    """Addresses of the workers, in their order; none where there is one process."""
    resolver = None if strategy is None else strategy.cluster_resolver
    if resolver is None or "worker" not in resolver.cluster_spec().jobs:
        return ()
    return tuple(resolver.cluster_spec().job_tasks("worker"))


def scope(strategy: tf.distribute.Strategy | None) -> contextlib.AbstractContextManager:
    """That of the strategy, in which models are made and compiled; nothing for None."""
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def gathered(strategy: tf.distribute.Strategy, values: Sequence[float] | np.ndarray) -> np.ndarray:
    """[replicas, n]: these numbers of every replica; all workers must ask.

    Args:
        strategy: of the workers.
        values: [n] of this worker.
    """
    row = tf.constant(np.asarray(values))[None]
    return strategy.gather(strategy.run(lambda: tf.identity(row)), axis=0).numpy()


def check_alike(strategy: tf.distribute.Strategy | None, found: Mapping[str, int]) -> None:
    """Whether all workers have the same; all must ask.

    Args:
        strategy: of the workers, or None.
        found: by what it is, a whole number of at most 32 bits: a count, a checksum.

    Raises:
        ValueError: on every worker, where two differ; the message names what.
    """
    if len(workers_of(strategy)) < 2:
        return
    low = np.asarray([[value & 0xFFFF, value >> 16] for value in found.values()], np.int32).ravel()
    rows = gathered(strategy, low)
    differ = (rows != rows[:1]).reshape(len(rows), -1, 2).any(axis=(0, 2))
    if differ.any():
        names = ", ".join(name for name, here in zip(found, differ) if here)
        raise ValueError(
            f"workers have not the same {names}: they need the same program, options and data, and one folder for "
            "checkpoints that all of them see"
        )


def check_batch(strategy: tf.distribute.Strategy | None, size: int) -> None:
    """Whether a batch can be shared out.

    Raises:
        ValueError: not into equal parts.
    """
    count = 1 if strategy is None else strategy.num_replicas_in_sync
    if size % count:
        raise ValueError(f"a batch of {size} examples cannot be shared out equally among {count} replicas")


def shared_out(
    strategy: tf.distribute.Strategy, size: int, make: Callable[[tuple[int, int]], tf.data.Dataset]
) -> tf.distribute.DistributedDataset:
    """Global batches as ``model.fit`` takes them within a strategy: give it ``steps_per_epoch``.

    Args:
        strategy: of the workers.
        size: examples of a global batch.
        make: (which worker, of how many) -> batches of that share of each global batch, for all epochs.

    Raises:
        ValueError: the batch cannot be shared out.
    """
    check_batch(strategy, size)

    def local(context: tf.distribute.InputContext) -> tf.data.Dataset:
        data = make((context.input_pipeline_id, context.num_input_pipelines))
        here = context.num_replicas_in_sync // context.num_input_pipelines
        return data if here == 1 else data.rebatch(size // context.num_replicas_in_sync)

    return strategy.distribute_datasets_from_function(local)


def moved(model: keras.Model, strategy: tf.distribute.Strategy | None) -> keras.Model:
    """A copy of a model, not compiled, whose variables belong to a strategy, or to none.

    Where the model belongs to several workers, all of them must ask.

    Args:
        model: stays as it is.
        strategy: None for a model that one process uses by itself.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        keras.Model(model.inputs, model.outputs, name=model.name).save(path)
        with scope(strategy):
            return saving.load_model(path, compile=False)


@contextlib.contextmanager
def synchronized(model: keras.Model) -> Iterator[None]:
    """Within it the batch normalizations of a model take their statistics of the whole global batch.

    As Keras makes them, each replica normalizes by its own part, which is noisier, and another computation for every
    number of workers. What is saved afterwards is as it was.
    """
    floats = [one for one in model._flatten_layers() if isinstance(one, keras.layers.BatchNormalization)]
    folded = [one for one in model._flatten_layers() if getattr(one, "batch_norm", None)]
    before = [(one, one.synchronized, one.fused) for one in floats]
    parts = [(one, one.batch_norm) for one in folded]
    for one in floats:
        one.synchronized, one.fused = True, False
    for one in folded:
        one.batch_norm = {**one.batch_norm, "synchronized": True}
    try:
        yield
    finally:
        for one, together, fused in before:
            one.synchronized, one.fused = together, fused
        for one, config in parts:
            one.batch_norm = config
