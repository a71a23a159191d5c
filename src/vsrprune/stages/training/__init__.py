"""What all training stages share: Lightning's trainer with exact resume."""
