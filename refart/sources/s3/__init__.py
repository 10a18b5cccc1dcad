"""The source of S3, and what speaks its protocol."""
