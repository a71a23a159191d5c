"""Stage 3: drive what will be cut to zero."""
