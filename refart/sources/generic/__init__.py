"""Whatever else fsspec has a driver for."""
