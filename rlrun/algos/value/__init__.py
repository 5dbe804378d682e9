"""Deep value-based learning."""
