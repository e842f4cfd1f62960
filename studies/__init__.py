"""Scripts that make the figures of docs and RESULTS, apart from speed."""
