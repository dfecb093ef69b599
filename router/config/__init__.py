"""The registry file: what the operator writes, as values.

*Schema* the shape of the file as frozen Structs, whose field docs are the manual. *Form* how one kind of
value is written (`20s`, `32MiB`, a URL) and read. *Mark* where in the file a value stands. *Reading* what
a walk over the YAML tree found: values, marks and problems, by path. *Problem* one thing that is wrong,
with its line, column, path and what to write instead. *Starter* the first registry that `init` writes.
"""
