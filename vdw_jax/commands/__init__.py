"""The command line: one module a command, each with `main(arguments)`. Nothing else imports them."""
