"""The same run on disk."""
