"""The source of Web servers."""
