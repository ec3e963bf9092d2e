"""Sessions in the frameworks that people use: a folder each, imported by name."""
