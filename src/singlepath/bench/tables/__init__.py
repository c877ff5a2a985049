"""Published tables of trained networks, read from the files their authors published."""
