"""The live viewer: cameras, points and pairs of a finished reconstruction in a browser, served by viser."""
