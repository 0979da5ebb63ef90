"""What a trajectory backbone is worth: drift, geometry, decoded variables and tasks, beside what is best possible."""
