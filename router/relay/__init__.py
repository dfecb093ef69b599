"""The only corridor that touches sockets for a call.

*Exchange*: the life of one call. *Attempt*: one try on one instance. *Upstream*: a connection to an instance.
*Commit*: the first event of the answer goes to the client; before it a failure can be mended elsewhere, after it only
told.
"""
