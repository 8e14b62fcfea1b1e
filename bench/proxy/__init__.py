"""The timeout proxy: what load balancers, reverse proxies and NATs do to a connection, as behaviours and profiles.

Read in this order: `rule` (the parameters of a behaviour), `stage` (a behaviour at work on one connection),
`chain` (several in a row), `behaviours/` (one a file), `profiles/*.toml` (the intermediaries), `relay` (the sockets).
Everything up to the relay is pure: it imports no asyncio and reads no clock.
"""
