"""The fleet in virtual time: modelled llama-servers under the same desk, fleet and placement that serve real calls.

*Trace*: what calls came when, and which of their prompts begin alike. *Talk*: one conversation's turns, one after the
other. *Front*: whoever stands before the servers and says which call goes where: our desk, or a peer's rule. *Server*:
one llama-server as its source describes it, with its own mistakes; it shares no code with what placement believes of
it, so that an error of that belief shows. Pure: time is a number, dice are handed in.
"""
