"""The nine steps of the published ablation of the image recipe (PE paper, figure 2 and table 26), at small scale."""
