"""The networks of the CroCo, DUSt3R and MASt3R family, their files, and the pictures they read."""
