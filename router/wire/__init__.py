"""Dialects as typed values.

An *event* is one server-sent event, from its first line to the blank line that ends it. *Raw* is JSON that we pass on
without looking inside. A *record* is what remains of a call when it is over.
"""
