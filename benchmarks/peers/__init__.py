"""What moe-edge is measured against in ``speed.py``, beyond what ``moe_edge_converters.peers`` brings."""
