"""From the depths that networks predict for pairs to one scene."""
