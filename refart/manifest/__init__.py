"""Manifests: sorted entries as content-cut Parquet shards with a JSON index."""
