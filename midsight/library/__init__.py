"""A media collection: find its files, embed them to a file, run dense tasks over them; jobs survive being stopped."""
