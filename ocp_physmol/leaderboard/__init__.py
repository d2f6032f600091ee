"""The file of OC20's leaderboard: made, checked, scored."""
