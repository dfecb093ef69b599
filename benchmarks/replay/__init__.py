"""Sessions of coding agents, played again at a smaller size against real llama-servers behind a router.

*Session* one line of a trace: who asked what after what, its prompts as numbers of blocks. *Strand* one chain of turns
in it, the main one or a sub-agent's. *Filler* words in a block's place, the same for the same block. *Deal* which
sessions one user plays, from where on. *Visit* one contender with fresh servers under one load. *Row* what came of one
turn. *Cell* one load: so many users, so much prompt cache in RAM.
"""
