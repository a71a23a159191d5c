"""Every knob."""
