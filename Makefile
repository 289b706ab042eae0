# make demo [DATA=folder]   trains, exports and checks a small keyword spotter; the report goes to runs/demo
# make check                lint and the quick tests: a minute or so
# make test                 makes the environment and runs the tests; PYTEST_ARGS="-k ir" narrows them
# make test-tf221           the tests marked tf221, in a second environment with TensorFlow 2.21
# make test-versions        installs beside TensorFlow 2.18 to 2.21 and with Python 3.13, and a short set of tests each
# make test-device          what a device has: no TensorFlow; the tests marked device
# make fuzz [FUZZ_SECONDS=600] lying options and tensors against the C kernels, under ASan and UBSan
# make bench DATA=folder    the benchmarks behind docs/results.md; an hour and more for accuracy
# make bench-arm            the kernels on emulated Arm cores: instructions, cycles, code sizes (about twenty minutes)
# make mutations            plants mistakes in the kernels and shows that the tests catch them
# make docs                 the manual in site/, from docs/; fails where a link or a docstring is wrong
# make lint / make format   checks / rewrites the layout of Python and C
# make wheel                a wheel in dist/
#
# PYTHON=python3.12 picks the interpreter; EXTRAS= the optional parts. "synthetic", "piper" and "voices" bring packages
# under the GPL-3: leave them out with EXTRAS=train,runtime,tflm,npu,scale,sweep,mlflow,test,dev.

SHELL := /bin/bash
VENV := .venv
VENV_TF221 := .venv-tf221
VENV_DEVICE := .venv-device
VENV_DOCS := .venv-docs
EXTRAS ?= train,runtime,tflm,npu,scale,sweep,mlflow,synthetic,kokoro,piper,voices,test,dev
EXTRAS_TF221 := train,runtime,tflm,test
# Files in the order of tests/conftest.py, which begins with the longest.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder
OUT ?= runs/demo
KERNELS := tflite_export/_native.so
KERNEL_SOURCES := $(shell find tflite_export/kernels tflite_export/shims -type f 2>/dev/null)
FRONTEND := tfmot_kws/frontend/_frontend.so
FRONTEND_SOURCES := $(shell find tfmot_kws/frontend/c -type f 2>/dev/null) tfmot_kws/frontend/build_list.py
NATIVE := $(KERNELS) $(FRONTEND)
PACKAGING := setup.py pyproject.toml Makefile

# A name on the PATH may be a version manager's stub for a Python that is not active: only one that runs counts.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10; do \
	if $$p --version >/dev/null 2>&1; then echo $$p; exit; fi; done; echo python3)

# The pinned TensorFlow has no wheels for Python 3.13.
CONSTRAINTS := $(shell $(PYTHON) -c 'import sys; print("constraints-tf221.txt" if sys.version_info > (3, 13) else "constraints.txt")' 2>/dev/null)

.PHONY: docs demo check test test-tf221 test-versions test-device fuzz fuzz-files bench bench-arm mutations debian-tools lint format wheel native clean check-python

demo: $(VENV)/installed $(NATIVE)
	$(VENV)/bin/tfmot-kws demo --out $(OUT) $(if $(DATA),--data "$(DATA)")

check: lint $(NATIVE)
	$(VENV)/bin/python -m pytest -m "not slow" $(PYTEST_ARGS)

test: $(VENV)/installed $(NATIVE) debian-tools
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

# Cross compilers and QEMU, where they may be installed; else says what is missing, and the tests that need it skip.
debian-tools:
	-@scripts/install_debian_tools.sh

test-tf221: $(VENV_TF221)/installed $(NATIVE)
	$(VENV_TF221)/bin/python -m pytest -m tf221 $(PYTEST_ARGS)

# Version by version, in an environment that is deleted again: two at once would fill a small disk.
test-versions: $(NATIVE)
	$(PYTHON) scripts/test_versions.py $(VERSIONS)

test-device: $(VENV_DEVICE)/installed $(NATIVE)
	$(VENV_DEVICE)/bin/python -m pytest -m device tests/commands/test_device.py

docs: $(VENV_DOCS)/installed
	NO_MKDOCS_2_WARNING=1 $(VENV_DOCS)/bin/python -m mkdocs build --strict

fuzz: $(VENV)/installed
	$(VENV)/bin/python tests/helpers/fuzz/run.py --seconds $(or $(FUZZ_SECONDS),600)

# Whole files, changed at random; what the reader takes may end no runtime by a signal.
fuzz-files: $(VENV)/installed $(NATIVE)
	$(VENV)/bin/python tests/helpers/fuzz/files.py --files $(or $(FILES),20000)

bench: $(VENV)/installed $(NATIVE)
	$(VENV)/bin/python -m benchmarks.sizes
	$(VENV)/bin/python -m benchmarks.step_time
	$(VENV)/bin/python -m benchmarks.front_ends
	$(VENV)/bin/python -m benchmarks.npu
	$(if $(DATA),$(VENV)/bin/python -m benchmarks.accuracy "$(DATA)" --width 18 --name accuracy_15k)
	$(if $(DATA),$(VENV)/bin/python -m benchmarks.accuracy "$(DATA)" --width 128 --name accuracy_250k --widths-only --epochs 12 --stage1 6 --stage2 4)
	$(if $(DATA),$(VENV)/bin/python -m benchmarks.accuracy "$(DATA)" --bits 1 --stage1 24 --stage2 16 --widths-only --name accuracy_15k_long)
	$(if $(DATA),$(VENV)/bin/python -m benchmarks.npu --accuracy "$(DATA)" --width 18 --bits 8 5 1 --name npu_accuracy_15k)
	$(if $(DATA),$(VENV)/bin/python -m benchmarks.low_rank "$(DATA)")
	$(if $(DATA),$(VENV)/bin/python -m benchmarks.low_rank synthetic)
	$(VENV)/bin/python -m benchmarks.readme_tables

bench-arm: $(VENV)/installed debian-tools
	$(VENV)/bin/python -m benchmarks.arm_kernels
	$(VENV)/bin/python -m benchmarks.dynamic_kernels
	$(VENV)/bin/python -m benchmarks.layer_instructions
	$(VENV)/bin/python scripts/make_instruction_table.py
	$(VENV)/bin/python -m benchmarks.kernel_sizes
	$(VENV)/bin/python -m benchmarks.firmware
	$(VENV)/bin/python -m benchmarks.firmware_stream
	$(VENV)/bin/python -m benchmarks.containers
	$(VENV)/bin/python -m benchmarks.host_time
	$(VENV)/bin/python -m benchmarks.readme_tables

mutations: $(VENV)/installed debian-tools
	$(VENV)/bin/python tests/kernels/mutate_kernels.py

native: $(NATIVE)

# make_environment: folder, constraints, extras. The stamp is written last, so that a broken install is tried again.
define make_environment
	@$(PYTHON) scripts/check_python.py
	rm -f $(1)/installed
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install -q --disable-pip-version-check -c $(2) setuptools -e ".[$(3)]"
	touch $(1)/installed
endef

$(VENV)/installed: $(PACKAGING) $(CONSTRAINTS)
	$(call make_environment,$(VENV),$(CONSTRAINTS),$(EXTRAS))

$(VENV_TF221)/installed: $(PACKAGING) constraints-tf221.txt
	$(call make_environment,$(VENV_TF221),constraints-tf221.txt,$(EXTRAS_TF221))

$(VENV_DEVICE)/installed: $(PACKAGING) $(CONSTRAINTS)
	$(call make_environment,$(VENV_DEVICE),$(CONSTRAINTS),runtime)
	$(VENV_DEVICE)/bin/python -m pip install -q --disable-pip-version-check -c $(CONSTRAINTS) pytest hypothesis

$(VENV_DOCS)/installed: $(PACKAGING)
	$(call make_environment,$(VENV_DOCS),constraints.txt,docs)

# Installing builds the libraries too; this is for C sources that changed since.
$(KERNELS): $(KERNEL_SOURCES) setup.py | $(VENV)/installed
	$(VENV)/bin/python tflite_export/kernels/build_list.py

$(FRONTEND): $(FRONTEND_SOURCES) setup.py | $(VENV)/installed
	$(VENV)/bin/python tfmot_kws/frontend/build_list.py

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	find tflite_export tfmot_kws examples tests benchmarks \( -name '*.[ch]' -o -name '*.cc' \) -not -path '*/build/*' -print0 2>/dev/null \
		| xargs -0 -r $(VENV)/bin/clang-format --dry-run --Werror

format: $(VENV)/installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	find tflite_export tfmot_kws examples tests benchmarks \( -name '*.[ch]' -o -name '*.cc' \) -not -path '*/build/*' -print0 2>/dev/null \
		| xargs -0 -r $(VENV)/bin/clang-format -i

wheel: $(VENV)/installed
	$(VENV)/bin/python -m pip wheel -q --no-deps --wheel-dir dist .

check-python:
	@$(PYTHON) scripts/check_python.py

clean:
	rm -rf $(VENV) $(VENV_TF221) $(VENV_DEVICE) build dist *.egg-info $(NATIVE)

	rm -rf $(VENV) $(VENV_TF221) $(VENV_DEVICE) $(VENV_DOCS) site build dist *.egg-info $(NATIVE)
