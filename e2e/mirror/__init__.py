"""A mirror of the model hub for clusters without internet: real models from Python packages, and a server."""
