# Needs Python 3.11, make and git. The first call of any verb builds .venv; later calls reuse it.
#   make lab     JupyterLab with the map notebook, on this machine only
#   make demo    the demo page, on this machine only
#   make ask     one question on real scenes: printed answer, PNG and GeoJSON in out/ask
#   make test    the whole suite, without network, in two processes (JOBS=1: in one)
#   make check   style, types and direction of imports
#   make notebooks  the notebooks and tutorials, run from top to bottom, with the time of each
#   make bench   ratios of running times, measured side by side; full size: 16 GB of memory, 8 of disk
#   make nano    earthmind-nano from nothing into out/nano, two hours on two cores; goes on where it
#                was stopped (NANO_SMOKE=1: every stage at toy size, a minute)
#   make soak    long campaigns: generated prompts, items and messages of browsers, loads that fail
#                and are killed, half an hour of seats on one server (EARTHMIND_SOAK_MINUTES)
#   make .venv   the environment alone

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
EXTRAS := model,lab,parquet,demo,serve,ray,finetune,video,eval,dev
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
READY := .venv/.ready
JOBS ?= 2

# A file's tests stay together and share what they have built. Files are handed out in the order of
# their names, so that the browser's, the longest, come first and one process never waits long for
# the other.
SPREAD = $(if $(filter-out 1,$(JOBS)),--numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder)

.DEFAULT_GOAL := help
.PHONY: help .venv lab demo ask test check notebooks bench nano soak

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

# The browser side of the widgets is built with a Node that pip brings; nothing to do when it is new.
.venv: $(READY)
	@$(BIN)/python scripts/build_widgets.py
	@$(BIN)/python scripts/apart.py

# pyproject.toml and constraints.txt decide what is inside; a change of either installs again.
# torch goes first and alone: whatever is resolved beside it then takes the build that is there.
$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python found. Install Python 3.11, or: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Python 3.11 is needed; $(PYTHON) is $$("$(PYTHON)" -V 2>&1). Install it, or: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv || \
	  { rm -rf .venv; echo "No venv module. On Debian and Ubuntu: apt-get install python3.11-venv" >&2; exit 1; }
	$(PIP) install --quiet "$$(grep '^torch==' constraints.txt)"
	$(PIP) install --quiet --editable ".[$(EXTRAS)]" --constraint constraints.txt
	@touch $@

lab: .venv
	$(BIN)/earthmind lab

demo: .venv
	$(BIN)/earthmind demo

# Flooded fields near Orihuela, Spain, September 2019; scenes and model come with the package.
ask: .venv
	$(BIN)/earthmind ask "Segment the water." --aoi -0.775,38.09,-0.745,38.12 \
	  --dates 2019-09-15/2019-09-20 --out out/ask

test: .venv notebooks
	$(BIN)/python -m pytest --quiet --durations=15 $(SPREAD)

check: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/build_widgets.py --check

# Their sessions stay in out/, away from the user's own; nothing is fetched. One thread for each, as in
# the tests: several at once with a thread per core each take twice the time.
notebooks: .venv
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} EARTHMIND_HOME=$(CURDIR)/out/home EARTHMIND_HOSTS=127.0.0.1 HF_HUB_OFFLINE=1 \
	  $(BIN)/python -m pytest --quiet --durations=0 --timeout=900 --nbmake --nbmake-timeout=600 notebooks tutorials \
	  $(SPREAD)

# The toy has its own folder: a full training goes on from nothing that it left.
nano: .venv
	$(BIN)/python scripts/train_nano.py out/nano$(if $(filter 1,$(NANO_SMOKE)),-toy)

soak: .venv
	$(BIN)/python -m tests.soak.soak
	EARTHMIND_FUZZ=2000 $(BIN)/python -m pytest --quiet -s tests/model/test_fuzz.py
	EARTHMIND_MESSAGES=2000 $(BIN)/python -m pytest --quiet --timeout=1800 tests/widgets/test_message_sequences.py
	EARTHMIND_FUZZ_ITEMS=1000 $(BIN)/python -m pytest --quiet tests/data/test_fuzz_items.py
	EARTHMIND_FAULTY_LOADS=500 $(BIN)/python -m pytest --quiet tests/data/test_remote.py -k fifty
	EARTHMIND_REQUESTS=1000 $(BIN)/python -m pytest --quiet tests/server/test_schema.py -k nothing
	EARTHMIND_KILLS=50 $(BIN)/python -m pytest --quiet tests/data/test_cache.py -k kill
	EARTHMIND_KILLS=20 $(BIN)/python -m pytest --quiet tests/server/test_shared.py -k killed
	EARTHMIND_KILLS=10 $(BIN)/python -m pytest --quiet tests/finetune/test_run.py -k killed

bench: .venv
	$(BIN)/python tests/benchmarks/bench.py
	$(BIN)/python -m tests.benchmarks.bench_search
	$(BIN)/python -m tests.benchmarks.bench_load
	$(BIN)/python -m tests.benchmarks.bench_bfloat16
	$(BIN)/python -m tests.benchmarks.bench_loading
	$(BIN)/python -m tests.benchmarks.bench_model
	$(BIN)/python -m tests.benchmarks.bench_finetune
	$(BIN)/python -m tests.benchmarks.bench_overlay
	$(BIN)/python -m tests.benchmarks.bench_browser
