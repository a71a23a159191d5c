"""How important every unit is: a file for each kind of data that a score is computed from."""
