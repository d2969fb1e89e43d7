"""`arm-sr serve`: a page and an endpoint that upscale pictures; needs the extra `web`."""
