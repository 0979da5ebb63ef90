"""MIMIC-IV in its raw layout (`hosp/`, `icu/`) as a cohort of hourly intensive-care stays.

`layout` finds and checks the tables, `stays` makes the stays and applies the cohort's rules, `variables` says what is
read, `binning` and `actions` make hours of it, `adapter` puts the cohort together.
"""
