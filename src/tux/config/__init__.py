"""Configuration: a TOML file or command-line options become one immutable `Config`, which is compiled once.

schema    what can be configured: the structs, with the documentation of each key
origins   what can answer a route: one file each, listed in one place
decode    a tree of plain values -> structs, all errors with their place
check     rules that concern more than one value
locate    line numbers for places in TOML text
load      a file -> Config
options   command-line options -> Config
listen    listen addresses
compile   Config -> routing table, rules and limits for the engine
emit      Config -> TOML
reference docs/reference/configuration.md
"""
