"""Where experience comes from: vectors of environments and the sources that step them."""
