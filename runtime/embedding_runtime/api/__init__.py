"""HTTP: routes, schemas, the one table from error to status. Runs in the HTTP processes; imports no ONNX
Runtime.
"""
