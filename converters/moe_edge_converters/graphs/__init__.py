"""Write TFLite graphs operator by operator: the whole mixture, its routed signatures, int8 edges."""
