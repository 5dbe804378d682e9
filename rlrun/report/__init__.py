"""From what runs have written to tables and figures."""
