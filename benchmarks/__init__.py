"""Speed beside the peers: one file per question, ratios with their spread. `python -m benchmarks` writes RESULTS.md."""
