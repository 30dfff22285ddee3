"""Where models come from: names, the files that are needed, the local cache, the hub. Nothing here reads a
graph.
"""
