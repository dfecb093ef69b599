"""What exists and how it is doing.

*Instance*: one llama-server process. *Pool*: the instances that serve one model name. *Slot*: one parallel sequence
in a llama-server. *Lease*: our claim on a slot. *Row*: one instance as it is now. *View*: all rows, for those who
only look.
"""
