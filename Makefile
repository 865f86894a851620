# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
#
# Needed are make, Python 3.10 to 3.14 with venv, and the network. The environment is made in
# .venv by the first target that uses it, and anew when a file that it is made from has changed;
# that of the site, which nothing else needs, in .venv-docs.

PYTHON ?= python3

# A sourced ROS distribution sets both variables. Its rclpy is then used, with its own Python;
# elsewhere ROS comes from PyPI. The stamp is named after it: one does not serve for the other.
ifneq ($(and $(ROS_DISTRO),$(AMENT_PREFIX_PATH)),)
ROS := $(ROS_DISTRO)
VENV_OPTIONS := --system-site-packages
LOCK_ROS := requirements/lock-distro.txt
else
ROS := pypi
LOCK_ROS := requirements/lock-ros.txt
endif
READY := .venv/ready-$(ROS)

.PHONY: help demo test test-long gpu-check lint docs venv clean

help:
	@echo 'make demo         run the node on frames of day and night, pictures go to out/demo'
	@echo 'make test         lint, then run every test but the long ones, one for each core'
	@echo 'make test-long    run the long tests, which take minutes each'
	@echo 'make gpu-check    check all of it on the GPU of this machine, in six minutes;'
	@echo '                  make gpu-check ARGS=--dry rehearses that on the CPU'
	@echo 'make lint         check the style and the types'
	@echo 'make docs         write the reference anew, and build the documentation into out/site'
	@echo 'make venv         only make the environment .venv, for work on the package'
	@echo 'make clean        remove the environments and everything built'
	@echo
	@echo 'make PYTHON=python3.12 ... uses another Python than python3.'

demo: $(READY)
	.venv/bin/python -m rgbx_seg_ros demo --out out/demo

# One test for each core; but beside others a test that measures time would measure them: those
# marked `alone` come last, by themselves. A part without a test, as where ROS is not, is no failure.
PYTEST := .venv/bin/python -m pytest
SIDE_BY_SIDE := --numprocesses auto --maxprocesses 8 --dist worksteal
BY_THEMSELVES := $$(grep -rl --include='*.py' 'mark.alone' test)
OR_NONE := || [ $$? -eq 5 ]

test: lint
	$(PYTEST) -m 'not long and not alone' $(SIDE_BY_SIDE)
	$(PYTEST) -m 'not long and alone' $(BY_THEMSELVES) $(OR_NONE)

test-long: $(READY)
	$(PYTEST) -m 'long and not alone' $(SIDE_BY_SIDE) $(OR_NONE)
	$(PYTEST) -m 'long and alone' $(BY_THEMSELVES) $(OR_NONE)

# The first of these that has a PyTorch for the GPU runs the check: on an x86-64 machine that of .venv
# has, on a Jetson that of NVIDIA, which no lock file names. Without a GPU only the rehearsal runs.
GPU_PYTHON ?= .venv/bin/python python3
HAS_CUDA := import sys, torch; sys.exit(not torch.cuda.is_available())

ifneq ($(filter --dry,$(ARGS)),)
gpu-check: $(READY)
	.venv/bin/python test/gpu_check.py $(ARGS)
else
gpu-check:
	@for python in $(GPU_PYTHON); do \
	  "$$python" -c '$(HAS_CUDA)' 2>/dev/null && exec "$$python" test/gpu_check.py $(ARGS); \
	done; \
	echo "no PyTorch that can use a GPU in: $(GPU_PYTHON). On x86-64 make venv, which takes one" \
	     "with CUDA; on a Jetson that of NVIDIA, and make gpu-check GPU_PYTHON=its/python;" \
	     "docs/gpu_check.md has the commands. Without a GPU: make gpu-check ARGS=--dry" >&2; \
	exit 1
endif

lint: $(READY)
	.venv/bin/python -m ruff check .
	.venv/bin/python -m flake8 .
	.venv/bin/python -m mypy

docs: $(READY) .venv-docs/ready
	.venv/bin/python test/reference.py
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict

.venv-docs/ready: requirements/lock-docs.txt
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/bin/python -m pip install --requirement $<
	touch $@

venv: $(READY)

# The stamps go first and come back last: an interrupted set-up is not taken for a finished one.
$(READY): requirements/lock.txt $(LOCK_ROS) setup.py setup.cfg rgbx_seg_ros/__init__.py
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))' || { \
	  echo "'$(PYTHON)' is not a Python 3.10 to 3.14: install one, or name it," \
	       "as in make PYTHON=python3.12"; exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "'$(PYTHON)' cannot make an environment: sudo apt install python3-venv"; exit 1; } >&2
ifneq ($(ROS),pypi)
	@$(PYTHON) -c 'import rclpy' || { \
	  echo "ROS $(ROS) is sourced, but '$(PYTHON)' cannot import its rclpy: use the Python of" \
	       "the distribution, make PYTHON=/usr/bin/python3, or a shell without ROS"; exit 1; } >&2
endif
	rm -f .venv/ready-*
	$(PYTHON) -m venv --clear $(VENV_OPTIONS) .venv
	.venv/bin/python -m pip install --requirement requirements/lock.txt
	.venv/bin/python -m pip install --requirement $(LOCK_ROS)
	.venv/bin/python -m pip install --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf .venv .venv-docs build install log out *.egg-info .pytest_cache .ruff_cache .hypothesis
	find rgbx_seg_ros test launch -name __pycache__ -prune -exec rm -rf {} +
