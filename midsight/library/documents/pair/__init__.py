"""The embedded pair that `midsight ask` opens where no model is named: its training rows, its file, its figures."""
