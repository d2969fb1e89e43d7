"""Sub-nets for Sophgo TPUs: what is compiled, how, and what it costs there."""
