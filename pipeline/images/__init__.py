"""The photo folder: image files, EXIF, and pixels on demand."""
