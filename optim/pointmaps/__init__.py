"""Camera poses from point maps: depths that networks predict, or that are triangulated, for pairs of photos.

The modules in the order in which point_map_mapper.py calls them:

- pair_depths: matches with depths of every pair, as a matcher predicts them;
- pair_triangulation: the same depths by triangulation, for matchers that predict none;
- canonical_depths, depth_fusion: one depth map per photo out of those of its pairs;
- predicted_focals: focal lengths that predicted point maps imply;
- pair_similarity: the similarity between the two point maps of every pair;
- similarity_averaging: one similarity per photo out of those of the pairs;
- point_map_alignment, second_moments: Gauss-Newton over all matches, focal lengths included.

first_order_alignment and kinematic_tree are the published alternative of MASt3R-SfM, for comparison, and
canonical_point_maps is its average of point maps.
"""
