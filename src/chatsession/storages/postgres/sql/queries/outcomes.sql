-- What became of an earlier try of a commit.
SELECT outcomes FROM {commits} WHERE batch = $1
