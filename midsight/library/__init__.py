"""A media collection: find its files, embed them to a file in a way that survives being stopped."""
