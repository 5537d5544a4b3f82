"""Streams of samples and the packaged open data. Knows no model and no loss."""
