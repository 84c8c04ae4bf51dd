"""Training in full precision (`fit`) and after quantization (`retrain`), over one loop."""
