"""Pictures: files, the evaluation's low-resolution resampler, and quality metrics."""
