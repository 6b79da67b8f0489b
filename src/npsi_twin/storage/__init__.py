"""Files: Data Exchange scans, volumes, measurements."""
