"""What computes: the seam to a backend, the ONNX Runtime backend, pooling, threads. Knows no queue and no
socket.
"""
