"""The ground: values and decisions. Nothing here reads a file, a clock or a network."""
