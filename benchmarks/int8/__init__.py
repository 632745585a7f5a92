"""What a trunk in int8 gains on this processor, and on one without AVX-512 and AMX."""
