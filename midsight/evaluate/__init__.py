"""Figures: how good a model is, by the published protocols."""
