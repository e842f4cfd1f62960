"""What makes the figures of docs/ and RESULTS.md: run by hand, results in files that say how they were made."""
