"""The `midsight` command: parse, call the library, show. The only part of midsight that prints."""
