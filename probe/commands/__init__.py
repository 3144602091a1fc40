"""One file per subcommand beside ``serve``; each parses nothing and is called by ``cli`` with values."""
