# `make` lists the targets; each sets up .venv by itself.

PYTHON ?= python3
CORES ?= all
PORT ?= 5000

BIN := .venv/bin
READY := .venv/ready
RESULTS ?= results
RECORDS ?=
MODELS := $(sort $(basename $(notdir $(wildcard config/models/*.yaml))))

export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true

.DELETE_ON_ERROR:
.PHONY: help demo test fuzz check-model ui compare data reference runtime tables schemas \
    site pictures lint lock

help:
	@echo "make demo                   small run of everything, without a download; 3 to 6 minutes"
	@echo "make test                   all tests"
	@echo "make fuzz                   damage every kind of file 2,000 times; minutes"
	@echo "make check-model MODEL=ls4  does a model keep the contract?"
	@echo "make ui                     compare runs in the browser (PORT=$(PORT))"
	@echo "make ui RESULTS=FOLDER      the same with the records below a folder, such as results/reference"
	@echo "make compare RECORDS=FOLDER rows of your own beside the reference"
	@echo "make data                   download all data sets"
	@echo "make reference              train and score the reference results; a day or two on 2 cores"
	@echo "make runtime                measure the reference run times, figure 3, also at equal size; hours, run nothing beside"
	@echo "make tables                 tables and figures from the reference records, also in README.md"
	@echo "make schemas                write workflow/schemas/ after a change of harness/config.py"
	@echo "make site                   documentation and leaderboard, results/site/index.html"
	@echo "make pictures               docs/images/ from site, report and MLflow; needs Chromium"
	@echo "make lint                   format, style and types"
	@echo "make lock                   write requirements.lock, the environment of the reference records on CPUs"
	@echo "Options: PYTHON=python3.12 for the set-up, CORES=2 for demo and reference"

$(READY): requirements.txt requirements-dev.txt
	@$(PYTHON) -c "import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or \
	sys.exit('error: expected Python 3.11 to 3.13, found %d.%d; try: make PYTHON=python3.12' % v)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -r requirements-dev.txt
	@touch $@

demo: $(READY)
	$(BIN)/snakemake --cores $(CORES) --configfile config/demo.yaml
	@echo
	@echo "Report   results/smoke/report.html"
	@echo "Tables   results/smoke/tables/"
	@echo "Figures  results/smoke/figures/"
	@echo "Compare the runs in the browser:  make ui"

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

fuzz: $(READY)
	FUZZ=2000 $(BIN)/python -m pytest -q tests/test_fuzz.py

check-model: $(READY)
	@test -f "config/models/$(MODEL).yaml" || { echo "error: unknown model '$(MODEL)': expected" \
	    "MODEL=name with a file in config/models/: $(MODELS)"; exit 1; }
	MODEL="$(MODEL)" $(BIN)/python -m pytest -q --tb=short --assert=plain \
	    tests/test_contract.py

# The workflow imports what it runs; the reference results come with the repository, and do not
# replace runs of one's own (results/mlflow/*.done).
ifneq ($(RESULTS),results)
UI_RECORDS := $(RESULTS)
else ifeq ($(wildcard results/mlflow/*.done),)
UI_RECORDS := $(wildcard results/reference)
endif

ui: $(READY)
	@$(BIN)/python -m harness ui --folder "$(RESULTS)/mlflow" --port $(PORT) \
	    $(if $(UI_RECORDS),--records "$(UI_RECORDS)" \
	    $(addprefix --tables ,$(wildcard $(UI_RECORDS)/tables)) \
	    $(addprefix --figures ,$(wildcard $(UI_RECORDS)/figures)))

compare: $(READY)
	@test -n "$(RECORDS)" || { echo "error: expected RECORDS=folder with records"; exit 1; }
	@$(BIN)/python -m harness compare --records $(RECORDS)

data: $(READY)
	$(BIN)/python -m harness data

reference: $(READY)
	$(BIN)/snakemake --cores $(CORES) --configfile config/full.yaml
	$(BIN)/python -m harness collect --records results/full --out results/reference

runtime: $(READY)
	$(BIN)/snakemake --cores $(CORES) figure3 --config budget=full
	$(BIN)/snakemake --cores $(CORES) figure3 --configfile config/equal_size.yaml --config budget=full
	set -e; for study in results/full/runtime*; do \
	    $(BIN)/python -m harness collect --records $$study --out results/reference/full; done

tables: $(READY)
	$(BIN)/python -m harness tables --records results/reference --out results/reference/tables
	$(BIN)/python -m harness figures --records results/reference --data results/full/data \
	    --out results/reference/figures
	$(BIN)/python -m harness pages --records results/reference

schemas: $(READY)
	$(BIN)/python -m harness schemas

site: $(READY)
	rm -rf results/site
	$(BIN)/python -m sphinx -E -b html -W --keep-going -q -d results/doctrees \
	    -c docs/site docs results/site
	$(BIN)/python -m harness leaderboard --records results/reference \
	    --out results/site/leaderboard --home ../
	$(BIN)/python -m harness report --records results/reference --tables results/reference/tables \
	    --figures results/reference/figures --out results/site/report.html --home ./
	@echo "Site  results/site/index.html"

pictures: site
	$(BIN)/python docs/site/pictures.py results/site docs/images
	$(BIN)/python docs/site/mlflow_pictures.py results/reference results/reference/mlflow $(PORT) \
	    docs/images

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/pyright

# Where the reference records are made on CPUs: these versions belong to them.
lock: $(READY)
	@{ echo "# Every package of the environment that made the reference records on CPUs: Python" \
	    "$$($(BIN)/python -c 'import platform; print(platform.python_version())'), Linux, x86-64."; \
	echo "# Written by make lock. To build it again (torch+cpu is the build without CUDA):"; \
	echo "#   pip install -r requirements.txt -c requirements.lock \\"; \
	echo "#     --extra-index-url https://download.pytorch.org/whl/cpu"; \
	$(BIN)/python -m pip freeze --local; } > requirements.lock
