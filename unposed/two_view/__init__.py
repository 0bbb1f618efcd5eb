"""Two photos: their matches, relative pose, focal lengths, points and depth."""
