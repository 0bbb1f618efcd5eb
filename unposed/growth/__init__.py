"""Finished reconstructions that change: photos added or taken out, models merged, all adjusted from where they were."""
