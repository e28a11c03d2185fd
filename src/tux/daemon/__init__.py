"""How Tux runs: the supervisor, its workers, the listening sockets, and what they are allowed to do."""
