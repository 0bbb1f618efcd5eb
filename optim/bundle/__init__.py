"""Bundle adjustment: cameras, poses and points that minimise a robust reprojection error."""
