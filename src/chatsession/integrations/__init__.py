"""Sessions in the frameworks that people use: one module each, imported by name."""
