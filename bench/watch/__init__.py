"""`tokenderby watch`: servers, proxies and the race page, to see with one's own eyes what a run measures."""
