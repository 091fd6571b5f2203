"""The ports for documents and encryption, and their adapters."""
