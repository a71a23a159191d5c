"""Times of the operations that plans may need."""
