"""The batching policy: which waiting texts run next, and which requests may wait at all.

Pure: no clock, no lock, no I/O. Times are seconds of whatever clock the caller reads, costs milliseconds of
a model's calibration. `window` chooses neighbours for a text, `line` is what waits in one class, `backlog`
decides between the classes, `admission` is what is refused.
"""
