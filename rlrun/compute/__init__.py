"""Where and how tensors are computed."""
