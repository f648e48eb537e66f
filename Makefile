# Everything lives in .venv, which the first target builds; a machine needs python3 (3.11 or newer) and make.
#   make demo    audit a classifier with a planted shortcut, print the table, write the report
#   make test    lint, types, tests
#   make security  what the code (bandit), the locked versions (pip-audit) and their licences are known for
#   make docs    the pages of docs/ as a site, build/site/index.html
#   make lock    write requirements.lock, exactly what .venv holds with hashes, and requirements-runtime.lock, the same for users
#   make dist    the wheel and the source distribution, dist/
#   make image   the wheel, and with it a container image: VARIANT=cpu or cuda, ENGINE=docker or podman
#   make sbom    what an installation is made of, with licences, as CycloneDX: build/sbom.json
#   make notes   what the changelog says of this version
#   make release-check    the wheel and its lock in an empty environment, for real: minutes and gigabytes
#   make clean   remove .venv and the caches

PYTHON ?= python3
PY     := .venv/bin/python
READY  := .venv/ready

VERSION = $(shell sed -n 's/^__version__ = "\(.*\)".*/\1/p' cfx/version.py)
ENGINE  ?= docker
VARIANT ?= cpu

.PHONY: demo test security docs setup lock dist image sbom notes release-check browser clean

demo: $(READY)
	@.venv/bin/cfx demo

test: $(READY) browser
	@$(PY) -m ruff check --quiet
	@$(PY) -m ruff format --check --quiet
	@$(PY) -m bandit --quiet --configfile pyproject.toml --recursive cfx flows startup tasks warehouse
	@$(MAKE) --no-print-directory --jobs 2 types tests # mypy takes a core for a minute, pytest's start needs but one

.PHONY: types tests
types:
	@$(PY) -m mypy
tests:
	@$(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder # two processes; the tests of a file share what they set up

# make test has bandit and the licences, too; whether the versions have known weaknesses changes from day to day, and takes a network.
security: $(READY)
	@$(PY) -m bandit --quiet --configfile pyproject.toml --recursive cfx flows startup tasks warehouse
	@$(PY) -m pytest -q tests/packaging/test_licences.py tests/cases/test_foreign_loading.py
	@$(PY) -m tests.packaging.weaknesses

docs: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build
	@echo build/site/index.html

setup: $(READY)

# Made again when pyproject.toml or constraints.txt is newer; pip then keeps what still fits.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "cfx needs Python 3.11 or newer, which '$(PYTHON)' is not; name another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(call apt,python3-venv)
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "installing into .venv; the first time takes minutes and gigabytes, most of them torch"
	@$(PY) -m pip uninstall -qq --yes cfx # what this was called before 0.2
	@$(PY) -m pip install -qq --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The versions with which the tests have passed here; pyproject.toml names the packages, constraints.txt the ranges.
lock: $(READY)
	@$(PY) -m pip freeze --exclude-editable | grep == > .venv/installed.txt
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11.5 --all-extras --generate-hashes --no-annotate \
	    --custom-compile-command 'make lock' --constraint constraints.txt --constraint .venv/installed.txt \
	    --output-file requirements.lock pyproject.toml
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11.5 --extra all --generate-hashes --no-annotate \
	    --custom-compile-command 'make lock' --constraint requirements.lock --output-file requirements-runtime.lock pyproject.toml

# What a release is made of: docs/how-to/release.md.
dist: $(READY)
	@rm -rf dist
	@$(PY) -m build --no-isolation --outdir dist . >/dev/null 2>&1 || $(PY) -m build --no-isolation --outdir dist .
	@ls dist/*

image: dist # podman drops the healthcheck of any other format
	BUILDAH_FORMAT=docker $(ENGINE) build --build-arg VARIANT=$(VARIANT) --tag cfx-audit:$(VARIANT) --tag cfx-audit:$(VERSION)-$(VARIANT) .

# Of an environment with what requirements-runtime.lock lists, in the versions of .venv: right after make lock they are the same.
sbom: dist
	@rm -rf build/locked && mkdir -p build
	@$(PY) -c 'from pathlib import Path; from tests.packaging.installations import install_locked; \
	    install_locked(Path("build/locked"), next(Path("dist").glob("*.whl")))'
	@sed 's/^dynamic = .*/version = "$(VERSION)"/' pyproject.toml > build/pyproject.toml
	@.venv/bin/cyclonedx-py environment --pyproject build/pyproject.toml --output-reproducible --validate \
	    --output-file build/sbom.json build/locked/venv/bin/python
	@rm -rf build/locked build/pyproject.toml
	@echo build/sbom.json

notes:
	@awk '/^## \[/ { on = index($$0, "## [$(VERSION)]") == 1; next } on' CHANGELOG.md

release-check: $(READY)
	@$(PY) -m pytest -q -m long tests/packaging/test_release_notes.py

# The report is tested in a real browser.
browser: $(READY)
	@$(PY) -c 'from tests.warehouse.chromium import find_chromium; find_chromium()' 2>/dev/null || \
	    $(call apt,chromium fonts-liberation)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info

# $(call apt,packages): installs them where that can be done unasked (root, apt-get), otherwise stops and says so.
define apt
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
    echo "installing $(1)"; \
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $(1) >/dev/null; \
else \
    echo "not found: $(1); install and try again (Debian, Ubuntu: sudo apt-get install $(1))"; exit 1; \
fi
endef
