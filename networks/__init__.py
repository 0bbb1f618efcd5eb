"""Neural networks: tensors in, tensors out. Imports nothing of the other rooms.

- mast3r: the CroCo, DUSt3R and MASt3R family, encoder, decoder, heads, and its checkpoints;
- aliked: sparse evaluation of ALIKED;
- loading: weight files into networks, without trusting them; errors: what can be wrong with them.
"""
