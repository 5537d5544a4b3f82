"""Training: one file or folder per run, settings in `recipes/*.toml`."""
