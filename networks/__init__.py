"""Neural networks: tensors in, tensors out, and the loading of their published weights."""
