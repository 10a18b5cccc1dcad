"""Sources: one driver per scheme, reached through `registry`."""
