"""Labels of intensive-care stays from hourly values, as arrays: no file format, no itemid.

`early` turns hourly events into early-event labels, `failures` says what such an event is, `sepsis` scores organs and
finds Sepsis-3, `outcomes` looks at death and length of stay, `tasks` puts them together. Thresholds are compared with a
tolerance of 1e-9; windows hold both their ends.
"""

TOLERANCE = 1e-9
