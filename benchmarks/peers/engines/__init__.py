"""One file a runtime, as its experts would call it. Each runs in an environment that has that runtime and numpy alone.

A file has one class `Engine`: made with a specification (its files by name, threads, options), it takes raw images:
`classify` one of shape (28, 28) to its label, `classify_batch` 256 of them to their labels. All of what a caller has to
do is in it: scaling pixels where the file does not, taking the largest answer.
"""
