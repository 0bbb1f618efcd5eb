"""Photos localized in a model that stays as it is: absolute pose hypotheses, their refinement and covariance."""
