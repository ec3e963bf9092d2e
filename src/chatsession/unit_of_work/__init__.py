"""One update's session, from begin to commit or abort."""
