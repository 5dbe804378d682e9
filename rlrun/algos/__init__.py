"""One algorithm per file, named like it. A file registers what it holds when it is imported."""
