"""Verbs: one module each, called by the one-line methods of artifact, run and workspace."""
