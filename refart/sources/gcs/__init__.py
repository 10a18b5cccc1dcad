"""The source of Google Cloud Storage."""
