"""Adapters: each turns files of real patients into a cohort (`simlab.cohort`) and says what it left out, and why."""
