"""Pictures: files, the evaluation's low-resolution resampler, quality metrics and sharpening."""
