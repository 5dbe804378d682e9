"""Pure maths on arrays and tensors: no state, no config, no logging. Shapes and papers stand at each function."""
