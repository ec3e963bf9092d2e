"""Real servers in temporary folders on free ports of 127.0.0.1, for tests and for trying things by hand."""
