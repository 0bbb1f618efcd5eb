"""The report of a run: what was found, how well it fits, what is doubtful, and what to do next; and its pictures."""
