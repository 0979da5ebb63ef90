"""CT scans and health records into a cohort, and a cohort back into DICOM + MEDS + labels."""
