"""Published figures computed again from the raw results that their authors released."""
