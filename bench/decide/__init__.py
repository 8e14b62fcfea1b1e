"""`tokenderby decide`: from what stands between client and server to one recommendation (docs/decide.md)."""
