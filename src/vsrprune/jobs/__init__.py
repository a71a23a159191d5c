"""From a checked configuration to stages, and from their artifacts to a result."""
