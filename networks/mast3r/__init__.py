"""The CroCo, DUSt3R and MASt3R family of networks.

- config: the architecture, read from a checkpoint; checkpoint: published files into networks;
- croco: transformer blocks of encoder and decoder with rotary position embedding;
- heads: linear and DPT heads for point maps, MLP for local descriptors;
- network: the network, encode() once per image and decode() once per pair;
- images: photos resized and cropped to what the network reads;
- retrieval_head: whitened encoder tokens as local features for image retrieval.
"""
