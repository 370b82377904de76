"""What several comparisons share: environments of their own, workers that take turns, figures."""
