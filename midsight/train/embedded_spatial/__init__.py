"""The embedded PE-Spatial: `python -m midsight.train.embedded_spatial` makes, measures and describes it."""
