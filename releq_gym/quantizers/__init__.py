"""Quantizers: one file each, registered by name."""

from releq_gym.quantizers.base import QUANTIZERS, Codes, Quantizer, make_quantizer, sqnr_db

__all__ = ["QUANTIZERS", "Codes", "Quantizer", "make_quantizer", "sqnr_db"]
