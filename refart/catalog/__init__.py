"""Catalogs: projects, collections, versions, aliases, tags, runs, edges, audit."""
