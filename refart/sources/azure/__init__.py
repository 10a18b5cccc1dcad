"""The source of Azure Blob Storage."""
