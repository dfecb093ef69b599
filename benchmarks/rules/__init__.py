"""Peers' placement rules, written from their sources with the constants that they ship, for the simulated fleet.

Each is a decision rule alone: it picks a server when a call comes, and llama-server's own queue does the rest. They are
told true counts at once, which is kinder than their own looks at a fleet. Blocks are those of the trace, so constants
in tokens are met and block sizes are not.
"""
